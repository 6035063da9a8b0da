"""Whether a turn is over, and what it waits for. Pure: no I/O.

Streams and polls start with the state from before the message: an idle chat. Idle therefore ends the turn only if the chat
was busy in this turn, if this turn's answer is final, or if a run that is new in this turn has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.chat_models import (
    AgentRun,
    Chat,
    ChatMessage,
    Interrupt,
    RunEnd,
    SecretSend,
    Sent,
    ToolInvocation,
)
from inferencesh_mcp.api.json import is_object
from inferencesh_mcp.api.mcp_input import InputRequest, input_requests, input_round
from inferencesh_mcp.api.wire import parsed

if TYPE_CHECKING:
    from datetime import datetime

_GONE = frozenset({"failed", "cancelled"})
"""Statuses of a message that will not be answered."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a chat: update it with `turn = turn.seeing(chat)` for every state, then call `turn_over`."""

    user_message_id: str = ""
    assistant_message_id: str = ""
    run_before: str = ""
    """The chat's run before the message was sent."""
    run_before_ended: bool = True
    """Whether that run had ended then. If not, a chat that is busy with it says nothing about this turn."""
    was_busy: bool = False
    """Whether the chat was busy in this turn."""

    @classmethod
    def of(cls, sent: Sent, before: Chat | None = None) -> Turn:
        """The turn that a message starts; `before` is the chat before it, or None for a new chat."""
        run = before.active_run if before else None
        return cls(
            user_message_id=sent.user_message.id if sent.user_message else "",
            assistant_message_id=sent.assistant_message.id if sent.assistant_message else "",
            run_before=run.id if run else "",
            run_before_ended=run is None or run.ended,
        )

    @classmethod
    def under_way(cls, chat: Chat) -> Turn:
        """The turn that a chat is in now; the turn of an idle chat is over."""
        run = chat.active_run
        user_ids = [message.id for message in chat.chat_messages if message.role == "user" and not _is_queued(message)]
        message_id = run.user_message_id if run else ""
        if chat.message(message_id) is None:
            message_id = user_ids[-1] if user_ids else ""
        return cls(user_message_id=message_id, was_busy=True, run_before=run.id if run else "")

    def seeing(self, chat: Chat) -> Turn:
        """The turn after another state of its chat."""
        run = chat.active_run
        of_before = run is not None and run.id == self.run_before and not self.run_before_ended
        if self.was_busy or not chat.busy or of_before or _is_queued(chat.message(self.user_message_id)):
            return self
        return replace(self, was_busy=True)

    def messages(self, chat: Chat) -> tuple[ChatMessage, ...]:
        """The messages after the turn's own and before the next turn's; all messages if the turn's own is unknown."""
        own = chat.message(self.user_message_id) if self.user_message_id else None
        if own is None:
            return chat.chat_messages
        later = chat.chat_messages[chat.chat_messages.index(own) + 1 :]
        if own.agent_run_id:  # the agent's reply may come after a queued message
            later = tuple(message for message in later if message.agent_run_id in {"", own.agent_run_id})
        next_turns = (
            index for index, message in enumerate(later) if message.role == "user" and not _is_queued(message)
        )
        return tuple(message for message in later[: next(next_turns, None)] if not _is_queued(message))

    def end(self, chat: Chat) -> RunEnd | None:
        """How this turn's run ended, if an event of the chat says so."""
        own = chat.message(self.user_message_id)
        if own is None:
            return None
        ends = (message.run_end for message in reversed(self.messages(chat)))
        mine = {"", own.agent_run_id}
        return next((end for end in ends if end and (not own.agent_run_id or end.run_id in mine)), None)


def turn_over(chat: Chat, turn: Turn) -> bool:
    """Whether this turn is over, and not only the one before it."""
    own = chat.message(turn.user_message_id)
    if _is_queued(own):
        return False
    if own is not None and own.status in _GONE:
        return True
    answer = chat.message(turn.assistant_message_id)
    if chat.busy:
        return own is not None and (answer is None or answer.final) and _is_behind(chat.active_run, turn)
    return turn.was_busy or (answer is not None and answer.final) or _has_run(chat, turn) or turn.end(chat) is not None


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A tool call that a person has to allow; answered by `invoke`, `reject` or `always_allow`."""

    id: str
    """The invocation's."""
    tool_name: str
    arguments: dict[str, Any]
    unread: str = ""
    """Arguments that could not be parsed as an object."""
    secret_send: SecretSend | None = None
    chat_id: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class _Call:
    invocation: ToolInvocation

    @property
    def id(self) -> str:
        """The id to answer."""
        return self.invocation.id


class ClientTool(_Call):
    """A tool that the client has to run; answered by `tool_result` with text."""


class Form(_Call):
    """A widget that waits for a person; answered by `tool_result` with an action and form data."""


@dataclass(frozen=True, kw_only=True)
class McpInput(_Call):
    """An MCP server that the agent uses asks the person for input; answered by `tool_result` with `input_result`."""

    requests: tuple[InputRequest, ...]
    """All are answered together."""
    round: str
    """Distinguishes these requests from earlier ones of the same call."""


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A person has to sign in, or connect something, before the run goes on."""

    id: str
    """The interrupt's; empty where only the run's state says so."""
    meta: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Any other decision that the chat waits for; it is taken on the person's page."""

    id: str
    reason: str
    """By its own name: `confirmation`, `hook_gate`, or one that this version does not know."""
    meta: dict[str, Any]


Pending = ClientTool | Approval | Form | McpInput | SignIn | Gate


def mark(item: Pending) -> str:
    """A unique name for a pending item: an MCP server can ask again within the same call."""
    return f"{item.id} {item.round}" if isinstance(item, McpInput) else item.id


def pending(chat: Chat) -> list[Pending]:
    """Everything that the chat waits for, oldest first, without duplicates."""
    live = (message for message in chat.chat_messages if message.status not in _GONE)
    calls = {call.id: call for message in live for call in message.tool_invocations}
    interrupts = [interrupt for interrupt in chat.pending_interrupts if interrupt.pending]
    approvals = {interrupt.invocation_id: interrupt for interrupt in interrupts if interrupt.reason == "tool_approval"}
    of_calls = (_of_call(call, approvals.get(call.id), chat) for call in calls.values())
    items: list[Pending] = [item for item in of_calls if item]
    known = {item.id for item in items if item.id}
    for interrupt in interrupts:
        item = _of_interrupt(interrupt, chat)
        items += [item] if item and not {item.id, interrupt.invocation_id} & known else []
    run = chat.active_run
    if run and run.state == "auth_required" and not any(isinstance(item, SignIn) for item in items):
        items.append(SignIn(id="", meta=run.interrupt_meta))
    return items


def _of_call(call: ToolInvocation, approval: Interrupt | None, chat: Chat) -> Pending | None:
    """What a call waits for, by its own status. `approval` is the interrupt that asks to approve it."""
    if call.status == "awaiting_approval" or (approval and call.status == "pending"):
        return _approval(call, approval, chat)
    if call.type == "client" and (call.status == "awaiting_input" or (call.status == "in_progress" and chat.busy)):
        return ClientTool(invocation=call)
    if call.status != "awaiting_input":
        return None
    if call.widget:
        return Form(invocation=call)
    if requests := input_requests(call):
        return McpInput(invocation=call, requests=requests, round=input_round(call))
    return Gate(id=call.id, reason=call.type, meta=call.arguments)


def _of_interrupt(interrupt: Interrupt, chat: Chat) -> Pending | None:
    """What an interrupt waits for, if no call says so itself: its message is not loaded, or is in a sub-agent's chat."""
    if interrupt.reason == "wait":
        return None
    if interrupt.reason == "auth":
        return SignIn(id=interrupt.id, meta=interrupt.meta)
    if interrupt.reason not in {"tool_approval", "client_tool", "widget"}:
        return Gate(id=interrupt.id, reason=interrupt.reason, meta=interrupt.meta)
    if chat.invocation(interrupt.invocation_id):
        return None
    function = {"name": interrupt.meta.get("tool_name"), "arguments": interrupt.meta.get("arguments")}
    call = ToolInvocation.model_validate(
        {"id": interrupt.invocation_id, "function": function, "widget": interrupt.meta.get("widget")}
    )
    if interrupt.reason == "tool_approval":
        return _approval(call, interrupt, chat)
    return ClientTool(invocation=call) if interrupt.reason == "client_tool" else Form(invocation=call)


def _approval(call: ToolInvocation, interrupt: Interrupt | None, chat: Chat) -> Approval:
    secret_send = interrupt.meta.get("secret_send") if interrupt else None
    return Approval(
        id=call.id,
        tool_name=call.name,
        arguments=call.arguments,
        unread=call.function.unread,
        chat_id=(interrupt.chat_id if interrupt else "") or chat.id,
        expires_at=interrupt.expires_at if interrupt else None,
        secret_send=parsed(SecretSend, secret_send) if is_object(secret_send) else None,
    )


def _is_queued(message: ChatMessage | None) -> bool:
    return message is not None and message.status == "queued"


def _is_behind(run: AgentRun | None, turn: Turn) -> bool:
    """Whether the chat went on to a later message than the turn's own without becoming idle."""
    if run is None or not run.user_message_id or run.user_message_id == turn.user_message_id:
        return False
    return run.id != turn.run_before


def _has_run(chat: Chat, turn: Turn) -> bool:
    """Whether a run that is new in this turn has ended."""
    run = chat.active_run
    if run is None or not run.ended:
        return False
    if run.user_message_id and turn.user_message_id:
        return run.user_message_id == turn.user_message_id
    return bool(run.id) and run.id != turn.run_before
