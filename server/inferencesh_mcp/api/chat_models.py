"""Agents and their chats on the wire: frozen values as in `models`. A word that is not known is kept, and shown as it came.

Sources: the type lists of npm `@inferencesh/sdk` 0.6.10 and 0.6.54 and of PyPI `inferencesh` 0.36.0.
"""

# ruff: noqa: RUF012 - pydantic copies defaults, and ruff does not see that Wire is a model

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from inferencesh_mcp.api.enums import plain_word
from inferencesh_mcp.api.json import NotJson, is_array, is_object, items, parse
from inferencesh_mcp.api.models import Address, Id, Line, Many, Moment, Name, Object, One, Text, Whole, Wire, Words
from inferencesh_mcp.sanitize import token

ENDED_RUN = frozenset({"completed", "failed", "canceled", "cancelled", "rejected"})
"""The states after which an agent's run never goes on."""
FINAL_MESSAGE = frozenset({"ready", "failed", "cancelled"})
"""The statuses after which a message never grows."""
IDLE_CHAT = frozenset({"", "idle", "completed"})
"""What a chat's status is when the agent is not at work; a word that is not known means that it is."""


def word(value: Any) -> str:
    """A state or a kind as one lower-case word; empty when it is no text."""
    return plain_word(value) if isinstance(value, str) else ""


def unpacked(value: Any) -> Any:
    """The value, or, of text that is JSON, the object or array that it holds."""
    if not isinstance(value, str):
        return value
    try:
        inner = parse(value.encode(errors="replace"))
    except NotJson:
        return value
    return inner if is_object(inner) or is_array(inner) else value


def _packed_object(value: Any) -> Any:
    inner = unpacked(value)
    return inner if is_object(inner) else {}


def _uri(value: Any) -> Any:
    return value.get("uri") or "" if is_object(value) else value


def _parts(value: Any) -> Any:
    """The objects in an array; a message that is plain text is one part. A tuple was read before, and stays."""
    if isinstance(value, tuple):
        return cast("tuple[Any, ...]", value)
    return [
        part
        for part in items([{"type": "text", "text": value}] if isinstance(value, str) else value)
        if is_object(part)
    ]


Word = Annotated[str, BeforeValidator(word)]
PackedObject = Annotated[dict[str, Any], BeforeValidator(_packed_object)]
"""An object that may arrive as a JSON string."""
Uri = Annotated[Address, BeforeValidator(_uri)]


class AgentVersion(Wire):
    """One version of an agent's configuration."""

    id: Id = ""
    short_id: Id = ""
    description: Text = ""
    system_prompt: Text = ""
    example_prompts: Words = ()
    core_app: Object = {}
    tools: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_parts)] = ()
    skills: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_parts)] = ()
    context: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_parts)] = ()
    internal_tools: Object = {}
    output_schema: Object = {}
    created_at: Moment = None


class Agent(Wire):
    """A template of the workspace."""

    id: Id = ""
    short_id: Id = ""
    namespace: Name = ""
    name: Name = ""
    title: Line = ""
    images: Object = {}
    visibility: Line = ""
    version_id: Id = ""
    version: One[AgentVersion] = None
    created_at: Moment = None
    updated_at: Moment = None

    @property
    def ref(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def description(self) -> str:
        """What the agent says of itself."""
        return self.version.description if self.version else ""


class ToolFunction(Wire):
    """What a tool was called by, and with."""

    name: Line = ""
    arguments: Object = {}
    unread: Text = ""
    """The arguments as they came, where they are no JSON object: cut off, or not yet whole."""

    @model_validator(mode="before")
    @classmethod
    def _unpack(cls, data: Any) -> Any:
        if not is_object(data) or not isinstance(data.get("arguments"), str):
            return data
        inner = unpacked(data["arguments"])
        if is_object(inner):
            return {**data, "arguments": inner}
        return {**data, "arguments": {}, "unread": data["arguments"]}


class ToolInvocation(Wire):
    """One call of a tool by an agent."""

    id: Id = ""
    chat_message_id: Id = ""
    tool_invocation_id: Id = ""
    """The model's own id of the call; `id` is what the API goes by."""
    type: Word = ""
    display_name: Line = ""
    action: Text = ""
    """What the model said the call does, as a phrase."""
    execution_id: Id = ""
    """The task, or the chat of a sub-agent, that carries it out."""
    function: ToolFunction = ToolFunction()
    status: Word = ""
    result: Text = ""
    data: Any = None
    widget: PackedObject = {}
    """A tree of nodes (0.6.10) or an A2UI surface (newer), as it came; `widgets.form` reads both."""
    created_at: Moment = None
    updated_at: Moment = None

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.function.name or self.display_name

    @property
    def arguments(self) -> dict[str, Any]:
        """What the tool was called with."""
        return self.function.arguments

    @model_validator(mode="before")
    @classmethod
    def _odd_function(cls, data: Any) -> Any:
        if is_object(data) and "function" in data and not isinstance(data["function"], dict | ToolFunction):
            return {name: value for name, value in data.items() if name != "function"}
        return data


class RunEvent(Wire):
    """How a run ended."""

    run_id: Text = ""
    state: Word = ""
    reason: Word = ""


class ChatEvent(Wire):
    """Something that happened to a chat, beside what was said."""

    type: Word = ""
    run: One[RunEvent] = None
    """Only of `run_failed` and `run_ended`."""


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended, as its event tells."""

    run_id: str
    state: str
    """As in `AgentRun.state`; empty where the event does not say."""
    reason: str
    """`output_limit`, `no_reply`, empty, or a word that this version does not know."""
    text: str
    """Why, in the platform's words; of a run that failed, its error."""


class ContentPart(Wire):
    """One part of a message. What a part of this type says is in the field of its name; unknown types say their name."""

    type: Word = ""
    text: Text = Field(default="", validation_alias=AliasChoices("text", "reasoning"))
    image: Uri = ""
    file: Uri = ""
    error: Text = ""
    tool_calls: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_parts)] = ()
    event: One[ChatEvent] = None

    @property
    def shown(self) -> str:
        """The part as text: what it says, where it is, or at least what it is."""
        return self.text or self.error or self.image or self.file or (f"[{self.type}]" if self.type else "")


class ChatMessage(Wire):
    """One message of a chat, as far as it has been written."""

    id: Id = ""
    short_id: Id = ""
    chat_id: Id = ""
    agent_run_id: Id = ""
    order: Whole = None
    status: Word = ""
    role: Word = ""
    content: Annotated[tuple[ContentPart, ...], BeforeValidator(_parts)] = ()
    tool_call_id: Id = ""
    tool_invocations: Many[ToolInvocation] = ()
    task_id: Id = ""
    created_at: Moment = None
    updated_at: Moment = None
    streamed: Text = ""
    """Text that arrived piece by piece; the content of a final message has the last word."""
    streamed_reasoning: Text = ""

    @property
    def final(self) -> bool:
        """Whether the message will never grow again."""
        return self.status in FINAL_MESSAGE

    @property
    def text(self) -> str:
        """What it says: its text parts, or what was heard of them so far where that is more."""
        return self._newest("text", self.streamed)

    @property
    def reasoning(self) -> str:
        """What the agent thought, where it tells."""
        return self._newest("reasoning", self.streamed_reasoning)

    @property
    def files(self) -> tuple[str, ...]:
        """The addresses of the images and files that it carries."""
        return tuple(uri for part in self.content for uri in (part.image, part.file) if uri)

    @property
    def errors(self) -> tuple[str, ...]:
        """What its parts say went wrong."""
        return tuple(part.error for part in self.content if part.error)

    @property
    def run_end(self) -> RunEnd | None:
        """How a run ended, where this message is about that."""
        for part in self.content:
            event = part.event
            if event is not None and event.type in {"run_failed", "run_ended"}:
                run = event.run or RunEvent()
                return RunEnd(
                    run_id=run.run_id or self.agent_run_id,
                    state=run.state or ("failed" if event.type == "run_failed" else ""),
                    reason=run.reason,
                    text=part.text or part.error,
                )
        return None

    def _newest(self, kind: str, streamed: str) -> str:
        written = "\n\n".join(part.text for part in self.content if part.type == kind and part.text)
        return written if self.final or len(written) >= len(streamed) else streamed


def place(message: ChatMessage) -> float:
    """Where a message stands in its chat; one that has no place yet is the newest."""
    return math.inf if message.order is None else message.order


def _in_order(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    return tuple(sorted(messages, key=place))


class AgentRun(Wire):
    """One run of an agent: what it does about one message."""

    id: Id = ""
    chat_id: Id = ""
    user_message_id: Id = ""
    state: Word = ""
    error: Text = ""
    output: Any = None
    interrupt_reason: Word = ""
    interrupt_tool_id: Id = ""
    interrupt_meta: PackedObject = {}
    created_at: Moment = None
    updated_at: Moment = None

    @property
    def ended(self) -> bool:
        """Whether the run will never go on."""
        return self.state in ENDED_RUN


class Interrupt(Wire):
    """Something that a run waits for."""

    id: Id = ""
    run_id: Id = ""
    chat_id: Id = ""
    reason: Word = ""
    source: Line = ""
    resource_id: Id = ""
    resource_type: Word = ""
    status: Word = ""
    resolution: Word = ""
    expires_at: Moment = None
    resolved_at: Moment = None
    meta: PackedObject = {}

    @property
    def pending(self) -> bool:
        """Whether it still waits; one without a status does."""
        return self.status in {"", "pending"}

    @property
    def invocation_id(self) -> str:
        """The call of a tool that it is about, if it is about one."""
        named = self.meta.get("tool_invocation_id")
        return self.resource_id or (token(named) if isinstance(named, str) else "")


class PlanStep(Wire):
    """One step of what an agent means to do."""

    index: Whole = None
    title: Text = ""
    description: Text = ""
    notes: Text = ""
    status: Word = ""


class ChatData(Wire):
    """What an agent keeps beside the messages."""

    plan_steps: Many[PlanStep] = ()
    memory: PackedObject = {}


class Chat(Wire):
    """A chat with an agent, in the newest state that was heard of."""

    id: Id
    short_id: Id = ""
    status: Word = ""
    name: Text = ""
    description: Text = ""
    output: Any = None
    """What the tool `finish` was given: the structured output, or None."""
    context: Object = {}
    agent_id: Id = ""
    agent_version_id: Id = ""
    agent: One[Agent] = None
    parent_id: Id = ""
    chat_messages: Annotated[Many[ChatMessage], AfterValidator(_in_order)] = ()
    """In their order."""
    agent_data: ChatData = ChatData()
    active_run: One[AgentRun] = None
    pending_interrupts: Many[Interrupt] = ()
    created_at: Moment = None
    updated_at: Moment = None

    @property
    def busy(self) -> bool:
        """Whether the agent is at work, or waits for somebody."""
        return not self.active_run.ended if self.active_run and self.active_run.state else self.status not in IDLE_CHAT

    def message(self, message_id: str) -> ChatMessage | None:
        """The message with this id."""
        return next((one for one in self.chat_messages if message_id and one.id == message_id), None)

    def invocation(self, invocation_id: str) -> ToolInvocation | None:
        """The call of a tool with this id."""
        calls = (call for message in self.chat_messages for call in message.tool_invocations)
        return next((call for call in calls if invocation_id and call.id == invocation_id), None)

    @model_validator(mode="before")
    @classmethod
    def _odd_data(cls, data: Any) -> Any:
        if is_object(data) and not isinstance(data.get("agent_data"), dict | ChatData | None):
            return {name: value for name, value in data.items() if name != "agent_data"}
        return data


class SecretSend(Wire):
    """Which of the person's own secrets a call would send, and where: told of agents that are somebody else's."""

    secrets: Words = ()
    """Their names."""
    host: Text = ""


class AlwaysAllowOption(Wire):
    """One thing that a person may allow for the rest of a chat."""

    key: Text = ""
    scope: Word = ""
    """`exact`, `prefix`, `folder`, `remote` or `tool`: how far it goes."""
    label: Text = ""
    description: Text = ""


class AlwaysAllowOptions(Wire):
    """What a person may allow about one call that waits for approval, the narrowest first."""

    options: Many[AlwaysAllowOption] = ()
    unavailable: Text = ""
    """Why there are none."""
    secret_send: One[SecretSend] = None


class ToolExplanation(Wire):
    """A model's reading, in plain words, of a call that waits for approval."""

    risk_level: Word = ""
    explanation: Text = ""
    risk: Text = ""


class ChatStatus(Wire):
    """The cheap answer to a poll."""

    id: Id = ""
    status: Word = ""
    updated_at: Moment = None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message that was taken."""

    chat_id: str
    user_message: ChatMessage | None
    assistant_message: ChatMessage | None
    """The answer, still to be written. Not every server says whether it is the first or the last of the turn."""

    @property
    def chat(self) -> Chat:
        """The chat as far as the answer tells of it: a start for `follow_chat`."""
        told = tuple(one for one in (self.user_message, self.assistant_message) if one is not None)
        return Chat(id=self.chat_id, chat_messages=told)
