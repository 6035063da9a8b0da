"""The API's records of agents and chats. A word that this version does not know is kept, in lower case.

Sources: the type lists of npm `@inferencesh/sdk` 0.6.10 and 0.6.54 and of PyPI `inferencesh` 0.36.0.
"""

# ruff: noqa: RUF012 - pydantic copies defaults, and ruff does not see that Wire is a model

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from inferencesh_mcp.api.json import is_object, unpacked
from inferencesh_mcp.api.wire import (
    Address,
    Flag,
    Id,
    Line,
    Many,
    Moment,
    Name,
    Object,
    One,
    OrEmpty,
    PackedObject,
    Text,
    Whole,
    Wire,
    Word,
    Words,
)
from inferencesh_mcp.sanitize import token

if TYPE_CHECKING:
    from collections.abc import Iterable

ENDED_RUN = frozenset({"completed", "failed", "canceled", "cancelled", "rejected"})
"""The states after which an agent's run never goes on."""
FINAL_MESSAGE = frozenset({"ready", "failed", "cancelled"})
"""The statuses after which a message never grows."""
IDLE_CHAT = frozenset({"", "idle", "completed"})
"""The statuses of a chat whose agent is not at work; every other word means that it is."""


def _uri(value: Any) -> Any:
    return value.get("uri") or "" if is_object(value) else value


def _parts(value: Any) -> Any:
    """The parts of a message's content; a message that is plain text is one part."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Uri = Annotated[Address, BeforeValidator(_uri)]


class AgentTool(Wire):
    name: Line = ""
    type: Word = ""
    require_approval: Flag = False


class AgentContextField(Wire):
    """A value that a chat with an agent can start with."""

    name: Line = ""
    required: Flag = False
    default: Text = ""


class AgentVersion(Wire):
    """One version of an agent's configuration."""

    description: Text = ""
    tools: Many[AgentTool] = ()
    context: Many[AgentContextField] = ()


class Agent(Wire):
    """A template of the workspace."""

    namespace: Name = ""
    name: Name = ""
    title: Line = ""
    version_id: Id = ""
    """The current version's."""
    version: One[AgentVersion] = None

    @property
    def ref(self) -> str:
        """`namespace/name`; empty for an ad-hoc agent, which has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace and self.name else ""

    @property
    def description(self) -> str:
        return self.version.description if self.version else ""


class ToolFunction(Wire):
    """The name and the arguments of a tool call."""

    name: Line = ""
    arguments: Object = {}
    unread: Text = ""
    """The arguments as they came, if they are not a JSON object: cut off, or not yet complete."""

    @model_validator(mode="before")
    @classmethod
    def _unpack(cls, data: Any) -> Any:
        if not is_object(data) or not isinstance(data.get("arguments"), str):
            return data
        arguments = unpacked(data["arguments"])
        if is_object(arguments):
            return {**data, "arguments": arguments}
        return {**data, "arguments": {}, "unread": data["arguments"]}


class ToolInvocation(Wire):
    """One call of a tool by an agent. `id` is the id to answer."""

    id: Id = ""
    type: Word = ""
    display_name: Line = ""
    execution_id: Id = ""
    """The task, or the chat of a sub-agent, that carries it out."""
    function: OrEmpty[ToolFunction] = ToolFunction()
    status: Word = ""
    result: Text = ""
    data: Any = None
    widget: PackedObject = {}
    """A tree of nodes (0.6.10) or an A2UI surface (newer), as it came; `widgets.widget_form` reads both."""

    @property
    def name(self) -> str:
        return self.function.name or self.display_name

    @property
    def arguments(self) -> dict[str, Any]:
        return self.function.arguments


class RunEnd(Wire):
    """How a run ended, as its event says."""

    run_id: Text = ""
    state: Word = ""
    """As in `AgentRun.state`; empty if the event does not say."""
    reason: Word = ""
    """`output_limit`, `no_reply`, empty, or a word that this version does not know."""
    text: Text = ""
    """The platform's explanation; of a run that failed, its error."""


class ChatEvent(Wire):
    """Something that happened to a chat, apart from its messages."""

    type: Word = ""
    run: One[RunEnd] = None
    """Only of `run_failed` and `run_ended`."""


class ContentPart(Wire):
    """One part of a message: its content is in the field that has the name of its type."""

    type: Word = ""
    text: Text = ""
    image: Uri = ""
    file: Uri = ""
    error: Text = ""
    event: One[ChatEvent] = None


class ChatMessage(Wire):
    """One message of a chat, as far as it is known."""

    id: Id = ""
    chat_id: Id = ""
    agent_run_id: Id = ""
    order: Whole = None
    status: Word = ""
    role: Word = ""
    content: Annotated[Many[ContentPart], BeforeValidator(_parts)] = ()
    tool_invocations: Many[ToolInvocation] = ()
    created_at: Moment = None
    updated_at: Moment = None
    streamed: Text = ""
    """Text from deltas; the content of a final message replaces it."""

    @property
    def final(self) -> bool:
        """Whether the message will never grow again."""
        return self.status in FINAL_MESSAGE

    @property
    def text(self) -> str:
        """Its text parts, or the text from deltas if that is longer and the message is not final."""
        written = "\n\n".join(part.text for part in self.content if part.type == "text" and part.text)
        return written if self.final or len(written) >= len(self.streamed) else self.streamed

    @property
    def files(self) -> tuple[str, ...]:
        """The addresses of its images and files."""
        return tuple(uri for part in self.content for uri in (part.image, part.file) if uri)

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors that its parts report."""
        return tuple(part.error for part in self.content if part.error)

    @property
    def run_end(self) -> RunEnd | None:
        """How a run ended, if this message is such an event."""
        for part in self.content:
            event = part.event
            if event is not None and event.type in {"run_failed", "run_ended"}:
                end = event.run or RunEnd()
                state = end.state or ("failed" if event.type == "run_failed" else "")
                known = {"run_id": end.run_id or self.agent_run_id, "state": state, "text": part.text or part.error}
                return end.model_copy(update=known)
        return None


def in_order(messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The messages by their `order`; one without an `order` yet is the newest."""
    return tuple(sorted(messages, key=lambda message: math.inf if message.order is None else message.order))


class AgentRun(Wire):
    """One run of an agent: its work on one message."""

    id: Id = ""
    user_message_id: Id = ""
    state: Word = ""
    error: Text = ""
    interrupt_meta: PackedObject = {}
    updated_at: Moment = None

    @property
    def ended(self) -> bool:
        """Whether the run will never go on."""
        return self.state in ENDED_RUN


class Interrupt(Wire):
    """Something that a run waits for."""

    id: Id = ""
    chat_id: Id = ""
    reason: Word = ""
    resource_id: Id = ""
    status: Word = ""
    expires_at: Moment = None
    meta: PackedObject = {}

    @property
    def pending(self) -> bool:
        """Whether it still waits; one without a status does."""
        return self.status in {"", "pending"}

    @property
    def invocation_id(self) -> str:
        """The id of the tool call that it belongs to; empty if there is none."""
        invocation_id = self.meta.get("tool_invocation_id")
        return self.resource_id or (token(invocation_id) if isinstance(invocation_id, str) else "")


class PlanStep(Wire):
    title: Text = ""
    status: Word = ""


class ChatData(Wire):
    """Data of a chat beside its messages."""

    plan_steps: Many[PlanStep] = ()


class Chat(Wire):
    """A chat with an agent, in its latest known state."""

    id: Id
    short_id: Id = ""
    status: Word = ""
    name: Text = ""
    output: Any = None
    """The structured output, which the tool `finish` gets, or None."""
    agent: One[Agent] = None
    agent_version_id: Id = ""
    chat_messages: Annotated[Many[ChatMessage], AfterValidator(in_order)] = ()
    """In their order."""
    agent_data: OrEmpty[ChatData] = ChatData()
    active_run: One[AgentRun] = None
    pending_interrupts: Many[Interrupt] = ()
    created_at: Moment = None
    updated_at: Moment = None

    @property
    def busy(self) -> bool:
        """Whether the agent is at work, or waits for somebody."""
        return not self.active_run.ended if self.active_run and self.active_run.state else self.status not in IDLE_CHAT

    @property
    def activity(self) -> Literal["working", "waiting", "idle"]:
        """Whether the agent is at work, waits for somebody, or neither, as far as the chat says without its messages."""
        if not self.busy:
            return "idle"
        is_waiting = self.status == "awaiting_input" or any(interrupt.pending for interrupt in self.pending_interrupts)
        return "waiting" if is_waiting else "working"

    def message(self, message_id: str) -> ChatMessage | None:
        return next((message for message in self.chat_messages if message_id and message.id == message_id), None)

    def invocation(self, invocation_id: str) -> ToolInvocation | None:
        calls = (call for message in self.chat_messages for call in message.tool_invocations)
        return next((call for call in calls if invocation_id and call.id == invocation_id), None)


class SecretSend(Wire):
    """The person's own secrets that a call would send; only of agents that belong to somebody else."""

    secrets: Words = ()
    """Their names."""
    host: Text = ""


class AlwaysAllowOption(Wire):
    """A permission that a person may give for the rest of a chat."""

    key: Text = ""
    scope: Word = ""
    """`exact`, `prefix`, `folder`, `remote` or `tool`."""
    label: Text = ""
    description: Text = ""


class AlwaysAllowOptions(Wire):
    """The permissions that a person may give with one approval, the narrowest first."""

    options: Many[AlwaysAllowOption] = ()
    secret_send: One[SecretSend] = None


class ToolExplanation(Wire):
    """A model's explanation, in plain words, of a call that waits for approval."""

    risk_level: Word = ""
    explanation: Text = ""
    risk: Text = ""


class ChatStatus(Wire):
    """The status alone, as a poll returns it."""

    status: Word = ""
    updated_at: Moment = None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message that the API accepted."""

    chat_id: str
    user_message: ChatMessage | None
    assistant_message: ChatMessage | None
    """The answer, still to be written. Not every server says whether it is the first or the last of the turn."""

    @property
    def chat(self) -> Chat:
        """The chat as far as the answer shows it: a start for `follow_chat`."""
        messages = tuple(message for message in (self.user_message, self.assistant_message) if message is not None)
        return Chat(id=self.chat_id, chat_messages=messages)
