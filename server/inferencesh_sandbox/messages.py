"""A chat's messages, and the tool calls of an agent in them, from the request to the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from inferencesh_sandbox.ids import fresh_id, short, stamp
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from datetime import datetime

    from inferencesh_sandbox.agents.types import Agent, Tool
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.owners import Owner

_OVER = frozenset({"completed", "failed", "cancelled"})


class ParentChat(Protocol):
    """What messages and tool calls use of their chat (see `chats.Chat`)."""

    id: str
    clock: Clock
    owner: Owner
    rules: list[Json]

    @property
    def pending_interrupts(self) -> list[Interrupt]: ...

    def publish_message(self, message: Message) -> None: ...

    def publish_changes(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Attached:
    """A file that came with a message."""

    uri: str
    filename: str = ""
    content_type: str = ""

    def dto(self) -> Json:
        kind = "image" if self.content_type.startswith("image/") else "file"
        return {"type": kind, kind: self.uri}


@dataclass(frozen=True, kw_only=True)
class MessageRequest:
    """A validated message to an agent."""

    agent: Agent
    version_id: str
    text: str
    files: tuple[Attached, ...]
    base: str
    """The sandbox's URL as the caller sees it, for the URIs of files."""


@dataclass(eq=False, kw_only=True)
class Message:
    """One message. While its text grows, streams send it as deltas."""

    chat: ParentChat
    role: str
    status: str
    order: int
    run_id: str | None = None
    text: str = ""
    reasoning: str = ""
    error: str = ""
    parts: list[Json] = field(default_factory=list["Json"])
    deltas: list[Json] = field(default_factory=list["Json"])
    """Of a text that still grows; empty once it is complete."""
    seq: int = 0
    invocations: list[Invocation] = field(default_factory=list["Invocation"])

    def __post_init__(self) -> None:
        self.created_at = self.updated_at = self.chat.clock.now()
        self.id = fresh_id(self.created_at)

    def dto(self, *, streamed: bool = False) -> Json:
        """The message, as a ChatMessageDTO. In a stream, a growing text is left out: deltas carry it."""
        return {
            **self.chat.owner.record_fields(self.id, self.created_at, self.updated_at),
            "chat_id": self.chat.id,
            "agent_run_id": self.run_id,
            "order": self.order,
            "status": self.status,
            "role": self.role,
            "content": list(self.parts) if streamed and self.deltas else self._content(),
            "tool_invocations": [invocation.dto() for invocation in self.invocations],
        }

    def _content(self) -> list[Json]:
        reasoning = (
            [{"type": "reasoning", "reasoning": self.reasoning, "text": self.reasoning}] if self.reasoning else []
        )
        text: list[Json] = [{"type": "text", "text": self.text}] if self.text else []
        failed: list[Json] = [{"type": "text", "text": "", "error": self.error}] if self.error else []
        return [*reasoning, *text, *self.parts, *failed]


@dataclass(eq=False, kw_only=True)
class Invocation:
    """One tool call of an assistant's message."""

    message: Message
    tool: Tool
    arguments: Json
    status: str = "pending"
    result: str | None = None
    data: Any = None
    widget: Json | None = None
    execution_id: str | None = None
    """The task or the chat that it became."""
    allowed: bool = False
    input_requests: Json | None = None
    """What an MCP server asks for, by key, while this waits for it."""
    inputs: Json = field(default_factory=dict[str, Any])
    """What it was given last."""
    secret_send: Json | None = None
    """Which secrets the call would send, and where."""

    def __post_init__(self) -> None:
        self.created_at = self.updated_at = self.chat.clock.now()
        self.id = fresh_id(self.created_at)
        self._answered = anyio.Event()

    @property
    def chat(self) -> ParentChat:
        return self.message.chat

    @property
    def over(self) -> bool:
        return self.status in _OVER

    @property
    def exactly(self) -> str:
        """The inputs as one text, by which a rule names this very call."""
        return json.dumps(self.arguments, sort_keys=True, ensure_ascii=False)

    @property
    def blocks(self) -> bool:
        """Whether the run's state says that it waits.

        Not for a client tool: two of the three SDKs would leave the stream before they have its result.
        """
        if self.status == "awaiting_input" and self.tool.type == "client":
            return self.chat.owner.facts.client_tools_interrupt
        return self.status in {"awaiting_input", "awaiting_approval"}

    async def wait_as(self, status: str) -> None:
        """Wait in this status until someone answers or decides."""
        self._answered = anyio.Event()
        self.move(status)
        await self._answered.wait()

    def move(self, status: str) -> None:
        self.status = status
        self.updated_at = self.chat.clock.now()
        self.chat.publish_message(self.message)
        self.chat.publish_changes()

    def end(self, status: str, result: str, data: Any = None) -> None:
        """End it. An invocation that has ended does not change."""
        if self.over:
            return
        self.result, self.data = result, data if data is not None else self.data
        self.move(status)

    def answer(self, result: str, data: Any = None) -> None:
        """Set the result of a tool that the client runs."""
        self._require_status("awaiting_input", "result")
        if self.input_requests is None:
            self.end("completed", result, data)
        else:  # the MCP server goes on, and may ask again
            self.inputs, self.input_requests, self.data = json.loads(result), None, None
            self.move("in_progress")
        self._answered.set()

    def decide(self, *, allow: bool, reason: str = "") -> None:
        """Apply the person's decision."""
        self._require_status("awaiting_approval", "decision")
        self.allowed = allow
        if allow:
            self.move("in_progress")
        else:
            self.end("cancelled", f"rejected: {reason}" if reason else "rejected")
        self._answered.set()

    def _require_status(self, status: str, action: str) -> None:
        if self.status != status:
            raise Problem(
                409, "invalid_transition", f"tool invocation {self.id} takes no {action}: it is {self.status}"
            )

    def dto(self) -> Json:
        """The invocation, as a ToolInvocationDTO."""
        return {
            **self.chat.owner.record_fields(self.id, self.created_at, self.updated_at),
            "chat_message_id": self.message.id,
            "tool_invocation_id": f"call_{short(self.id)}",
            "type": self.tool.type,
            "display_name": self.tool.display_name or self.tool.name,
            "execution_id": self.execution_id,
            "function": {"name": self.tool.name, "arguments": self.arguments},
            "status": self.status,
            "result": self.result,
            "data": self.data,
            "widget": self.widget,
        }


@dataclass(eq=False, kw_only=True)
class Interrupt:
    """The approval that an invocation waits for."""

    run_id: str
    invocation: Invocation
    status: str = "pending"
    resolution: str | None = None
    reason: str = ""
    resolved_at: datetime | None = None

    def __post_init__(self) -> None:
        self.created_at = self.invocation.chat.clock.now()
        self.id = fresh_id(self.created_at)

    def resolve(self, resolution: str, reason: str = "") -> None:
        self.status, self.resolution, self.reason = "resolved", resolution, reason
        self.resolved_at = self.invocation.chat.clock.now()

    def dto(self) -> Json:
        """The interrupt, as an InterruptDTO."""
        invocation = self.invocation
        return {
            **invocation.chat.owner.record_fields(self.id, self.created_at, self.resolved_at or self.created_at),
            "run_id": self.run_id,
            "chat_id": invocation.chat.id,
            "reason": "tool_approval",
            "source": "tool",
            "resource_id": invocation.id,
            "resource_type": "tool_invocation",
            "status": self.status,
            "resolution": self.resolution,
            "resolved_at": stamp(self.resolved_at) if self.resolved_at else None,
            "resolved_data": {"reason": self.reason} if self.reason else None,
            "expires_at": None,
            "meta": {
                "tool_name": invocation.tool.name,
                "arguments": invocation.arguments,
                "tool_invocation_id": invocation.id,
                **({"secret_send": invocation.secret_send} if invocation.secret_send else {}),
            },
        }
