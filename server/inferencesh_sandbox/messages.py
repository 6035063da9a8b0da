"""A chat's messages, and the runs that answer them: one turn of the agent each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from inferencesh_sandbox.ids import fresh_id, short, stamp

if TYPE_CHECKING:
    from inferencesh_sandbox.agents.types import Agent
    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.invocations import Invocation
    from inferencesh_sandbox.wire import Json

_LIVE = frozenset({"submitted", "working", "input_required"})


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

    chat: Chat
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
            "id": self.id,
            "short_id": short(self.id),
            "created_at": stamp(self.created_at),
            "updated_at": stamp(self.updated_at),
            **self.chat.owner.owns(),
            "chat_id": self.chat.id,
            "agent_run_id": self.run_id,
            "order": self.order,
            "status": self.status,
            "role": self.role,
            "content": list(self.parts) if streamed and self.deltas else self._content(),
            "tool_invocations": [invocation.dto() for invocation in self.invocations],
        }

    def _content(self) -> list[Json]:
        thought = [{"type": "reasoning", "reasoning": self.reasoning, "text": self.reasoning}] if self.reasoning else []
        spoken: list[Json] = [{"type": "text", "text": self.text}] if self.text else []
        failed: list[Json] = [{"type": "text", "text": "", "error": self.error}] if self.error else []
        return [*thought, *spoken, *self.parts, *failed]


@dataclass(eq=False, kw_only=True)
class Run:
    """One turn of the agent, as an AgentRun."""

    chat: Chat
    request: MessageRequest
    user_message: Message
    first: Message
    """The assistant's first message, the one that the answer to the POST tells."""
    state: str = "submitted"
    error: str | None = None
    output: Any = None
    end_reason: str = ""
    """Why it ended as it did, in the platform's word, where that is worth one."""
    started: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """Around the script: cancelled when the chat is stopped."""

    def __post_init__(self) -> None:
        self.created_at = self.updated_at = self.chat.clock.now()
        self.id = fresh_id(self.created_at)

    @property
    def live(self) -> bool:
        return self.state in _LIVE

    def dto(self) -> Json:
        """The run, as an AgentRunDTO."""
        blocking = next((item for item in self.chat.open if item.blocks), None) if self.live else None
        return {
            "id": self.id,
            "short_id": short(self.id),
            "created_at": stamp(self.created_at),
            "updated_at": stamp(self.updated_at),
            **self.chat.owner.owns(),
            "agent_id": self.request.agent.id,
            "agent_version_id": self.request.version_id,
            "chat_id": self.chat.id,
            "user_message_id": self.user_message.id,
            "state": self.state,
            "error": self.error,
            "output": self.output,
            "interrupt_reason": _reason(blocking) if blocking else None,
            "interrupt_tool_id": blocking.id if blocking else None,
        }


def _reason(invocation: Invocation) -> str:
    if invocation.status == "awaiting_approval":
        return "tool_approval"
    return "client_tool" if invocation.tool.type == "client" else "widget"
