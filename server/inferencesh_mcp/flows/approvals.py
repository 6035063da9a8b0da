"""Answer what a chat waits for: ask, send the decision once, follow the chat. There is one such loop for all callers (I-20).

A decision is a value. Who is asked, and how, is the `ask` of the caller.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from inferencesh_mcp.api.chat_turn import Approval, Form, Gate, Pending, SignIn, Turn, mark, pending
from inferencesh_mcp.api.mcp_input import input_result
from inferencesh_mcp.api.widgets import FormAction, widget_form, widget_result
from inferencesh_mcp.errors import Conflict, Forbidden, InferenceError
from inferencesh_mcp.flows import AgentProgress
from inferencesh_mcp.flows.cancel import cancel_abandoned_chat
from inferencesh_mcp.flows.chat import TurnResult, chat_states, follow_turn, read_turn, stop_agent_on_cancel

if TYPE_CHECKING:
    from inferencesh_mcp.api.agents import Chats
    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.flows import Caller, Report

BY_PERSON = "the person, asked by this host"
BY_NOBODY = "nobody: the host gave no decision"
NO_LONGER_OFFERED = "not accepted: the chosen option is no longer offered"

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Approve:
    """Allow a tool call."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Refuse a tool call. The agent gets the reason."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class AlwaysAllow:
    """Allow a tool call, and further ones for the rest of the chat."""

    chat_id: str
    """The chat of the call, which may be a sub-agent's."""
    label: str
    """What is allowed, for people."""
    option: str = ""
    """The platform's option."""
    tool_name: str = ""
    """Instead of an option, on older platforms: every use of this tool."""


@dataclass(frozen=True, kw_only=True)
class FormData:
    """A form that was filled in, or one of its other actions."""

    action: FormAction
    values: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ClientResult:
    """The result of a client tool."""

    text: str


@dataclass(frozen=True, kw_only=True)
class McpInputResult:
    """The answers to all requests of an MCP server, by key: `{action, content?}`."""

    answers: Mapping[str, Mapping[str, Any]]


Decision = Approve | Reject | AlwaysAllow | FormData | ClientResult | McpInputResult


@dataclass(frozen=True, kw_only=True)
class NotDecided:
    """Somebody was asked, and nobody decided."""


@dataclass(frozen=True, kw_only=True)
class CannotAsk:
    """Nobody can be asked this here and now."""


@dataclass(frozen=True, kw_only=True)
class NeedsResume(Generic[T]):
    """The decision comes with a later call."""

    result: T
    """What the caller of the loop returns to its host."""


Ask = Callable[[TurnResult, Pending, float], Awaitable[Decision | NotDecided | CannotAsk | NeedsResume[T]]]
"""Asks for the decision about one item, for about so many seconds."""


async def resolve_pending(
    caller: Caller, turn: TurnResult, ask: Ask[T], report: Report, *, seconds: float
) -> TurnResult | NeedsResume[T]:
    """Ask about what a chat waits for, send each decision and follow the chat, until nothing more can be asked.

    With `seconds=0` the decisions are sent, and the chat is not followed.

    Raises:
        Conflict: the last decision was not accepted, because it was decided elsewhere or the chat waits no more.
    """
    end = time.monotonic() + seconds
    closed: set[str] = set()
    conflict: Conflict | None = None
    while item := next((item for item in turn.waits_for if mark(item) not in closed), None):
        decision = await ask(turn, item, end - time.monotonic())
        if isinstance(decision, NeedsResume):
            return decision
        if isinstance(decision, NotDecided):
            return turn.with_record(item.id, title(item), "not decided", BY_NOBODY)
        if isinstance(decision, CannotAsk):
            closed.add(mark(item))
            continue
        try:
            follow_seconds = max(end - time.monotonic(), 1) if seconds else 0
            turn = await submit(caller, turn, item, decision, report, by=BY_PERSON, seconds=follow_seconds)
            conflict = None
        except Conflict as exc:
            # It was decided elsewhere. Or the chosen option is gone: then the person is asked again, once.
            logger.info("the answer to %s was not accepted", item.id)
            caller.approvals.forget_details(caller, item.id)
            turn, conflict = await _current_state(caller, turn, report, exc), exc
            refused_before = (item.id, NO_LONGER_OFFERED) in {(record.id, record.decision) for record in turn.records}
            if refused_before or item.id not in {item.id for item in turn.waits_for}:
                closed.add(mark(item))
            else:
                turn = turn.with_record(item.id, title(item), NO_LONGER_OFFERED, BY_PERSON)
    if conflict:
        raise conflict
    return turn


async def _current_state(caller: Caller, turn: TurnResult, report: Report, conflict: Conflict) -> TurnResult:
    try:
        current = await read_turn(caller, turn.chat.id, report, seconds=0)
    except InferenceError:
        raise conflict from None
    return replace(current, records=turn.records)


async def submit(
    caller: Caller, turn: TurnResult, item: Pending, decision: Decision, report: Report, *, by: str, seconds: float
) -> TurnResult:
    """Send a decision once, follow the chat, and record who decided, if `by` names them.

    If the platform takes such a decision only from the person's own sign-in, this is remembered, and the turn returned as it
    was.

    Raises:
        Conflict: it was answered already, or is not waited for any more; the platform's state decides.
    """
    try:
        answered = await _answer(caller, turn, item, decision, report, seconds=seconds)
    except Forbidden as exc:
        if exc.upstream_code != "requires_sign_in":
            raise
        caller.approvals.note_sign_in_only(caller, item)
        return turn
    return answered.with_record(item.id, title(item), in_words(decision), by) if by else answered


async def _answer(
    caller: Caller, turn: TurnResult, item: Pending, decision: Decision, report: Report, *, seconds: float
) -> TurnResult:
    """Send a decision once, and follow the turn on. The stream is opened before the decision is sent.

    A caller who leaves stops the agent, even while the decision is on its way, because it may have arrived.
    """
    end = time.monotonic() + seconds
    chat = turn.chat
    answered = replace(turn, turn=Turn.under_way(chat), answered=turn.answered | {mark(item)})
    try:
        if seconds <= 0:
            await _send_once(caller, chat, item, decision)
            return answered
        async with chat_states(caller, chat) as states:
            try:
                await _send_once(caller, chat, item, decision)
            except anyio.get_cancelled_exc_class():
                await cancel_abandoned_chat(caller, chat.id)
                raise
            report(AgentProgress(chat.id, title(item), in_words(decision)))
            async with stop_agent_on_cancel(caller, chat.id):
                return await follow_turn(caller, answered, states, report, end)
    except InferenceError as exc:
        # The message before it was accepted, so the remedy is to read the chat and not to send the message again.
        next_step = f'Read the chat with chat_get(chat_id="{chat.id}"): it shows what was accepted.'
        raise exc.replace(retry_safe=False, next_step=next_step) from exc


async def _send_once(caller: Caller, chat: Chat, item: Pending, decision: Decision) -> None:
    """Send a decision, unless the item was answered or changed since.

    It is never sent again: if the reply was lost, the chat shows whether the question is still open.
    """
    chats, memory = caller.api.chats, caller.approvals
    async with memory.exclusive(caller, item):
        try:
            sub_agents_chat = item.chat_id if isinstance(item, Approval) else ""
            now = await chats.chat(sub_agents_chat or chat.id)
        except InferenceError as exc:
            raise exc.replace(outcome="not_started") from exc
        if memory.is_answered(caller, item) or not _is_still_asked(item, now):
            raise Conflict(
                message="That was answered already, or is not waited for any more.",
                next_step="chat_get shows where the chat stands.",
                outcome="not_started",
            )
        try:
            await _send(chats, item, decision)
        except InferenceError as lost:
            if lost.outcome != "unknown" or await _is_open(caller, chat, item):
                raise
            logger.warning("the reply to an answer was lost, and the question is closed")
        memory.note_answered(caller, item)


async def _send(chats: Chats, item: Pending, decision: Decision) -> None:
    match decision:
        case Approve():
            await chats.invoke(item.id)
        case Reject(reason=reason):
            await chats.reject(item.id, reason)
        case AlwaysAllow(chat_id=chat_id, option=option, tool_name=tool_name):
            await chats.always_allow(chat_id, item.id, option=option, tool_name=tool_name)
        case FormData(action=action, values=values):
            await chats.tool_result(item.id, widget_result(action, values))
        case ClientResult(text=text):
            await chats.tool_result(item.id, text)
        case McpInputResult(answers=answers):
            await chats.tool_result(item.id, input_result(answers))


def _is_still_asked(item: Pending, now: Chat) -> bool:
    """Whether the chat still asks the same. An invocation that it does not show may belong to another chat."""
    current = next((other for other in pending(now) if other.id == item.id), None)
    if current is None:
        return now.invocation(item.id) is None
    if isinstance(item, Approval) and isinstance(current, Approval):  # an approval holds for what was shown
        return _shown_part(item) == _shown_part(current)
    return mark(item) == mark(current)


def _shown_part(item: Approval) -> tuple[object, ...]:
    return (item.tool_name, item.arguments, item.unread, item.secret_send)


async def _is_open(caller: Caller, chat: Chat, item: Pending) -> bool:
    """Whether the chat still waits for this, or cannot be read."""
    try:
        now = await caller.api.chats.chat(chat.id)
    except InferenceError:
        return True
    return mark(item) in {mark(other) for other in pending(now)}


def title(item: Pending) -> str:
    """What a decision is about: the tool, or the title of the form."""
    match item:
        case Approval():
            return item.tool_name
        case Form():
            form = widget_form(item.invocation.widget)
            return (form.title if form else "") or "a form"
        case SignIn():
            return "sign-in"
        case Gate():
            return item.reason
        case _:
            return item.invocation.name


def in_words(decision: Decision) -> str:
    """The decision as a record of it says."""
    match decision:
        case Approve():
            return "approved"
        case Reject():
            return "rejected"
        case AlwaysAllow(label=label):
            return f"always allowed: {label}"
        case FormData():
            return "filled in"
        case ClientResult():
            return "carried out"
        case McpInputResult(answers=answers):
            actions = dict.fromkeys(str(reply["action"]) for reply in answers.values())
            return f"answered ({', '.join(actions)})"
