"""A chat with an agent: one message sent once, its turn followed to its end, or to what it waits for."""

from __future__ import annotations

import json
import logging
import math
import mimetypes
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.agents import AgentRunRequest, Chats, MessageInput
from inferencesh_mcp.api.chat_models import Chat, ChatMessage, Sent
from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Pending, Turn, mark, pending, turn_over
from inferencesh_mcp.api.models import File
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import Conflict, InferenceError, OutcomeUnknown
from inferencesh_mcp.flows import AgentProgress
from inferencesh_mcp.flows.cancel import cancel_abandoned_chat
from inferencesh_mcp.flows.file_sources import is_remote
from inferencesh_mcp.flows.lost_starts import Candidates, LostStart
from inferencesh_mcp.flows.start import ALLOWANCE
from inferencesh_mcp.flows.started_ids import record_chat
from inferencesh_mcp.flows.upload import store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
    from contextlib import AbstractAsyncContextManager

    from inferencesh_mcp.api.agent_config import AgentConfigInput
    from inferencesh_mcp.flows import Caller, Report

LOOKS = (0.5, 1.0, 2.0, 4.0)  # seconds between the looks for a message whose reply was lost
LONGEST_NAME = 200  # characters of a file's name that an address gives; more is no name that anybody gave
RECENT_CHATS = 20  # that are looked through for a message whose reply was lost
TAIL = 120  # characters of a growing answer that are told on the way

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is said, and to whom: a template by name, or an agent of one's own; with `chat_id` the next turn of a chat."""

    text: str
    agent: str | None = None
    config: AgentConfigInput | None = None
    chat_id: str | None = None
    files: Sequence[str] = ()
    context: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What came of a question that this call put to somebody."""

    id: str
    """The invocation's."""
    about: str
    """The tool, or what asked."""
    decision: str
    """`approved`, `rejected`, `always allowed …`, `answered`, or `not decided`."""
    by: str


@dataclass(frozen=True, kw_only=True)
class TurnResult:
    """How a call ended: the turn is over, waits for somebody, or goes on without the call."""

    chat: Chat
    turn: Turn
    seconds: float = 0.0
    given: frozenset[str] = frozenset()
    """Marks of what the chat waited for and was given by this call: it waits for that no more, also where nothing was
    heard since."""
    decisions: tuple[Decision, ...] = ()

    @property
    def over(self) -> bool:
        return turn_over(self.chat, self.turn)

    @property
    def waits_for(self) -> list[Pending]:
        return [] if self.over else [one for one in pending(self.chat) if mark(one) not in self.given]

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        return self.turn.messages(self.chat)


async def send_message(caller: Caller, message: Message, report: Report, *, seconds: float) -> TurnResult:
    """Send a message once and follow its turn for at most `seconds`.

    The stream of a chat is open before its next message is sent, so that nothing of the turn is missed.

    Raises:
        InvalidInput, FileRefused: nothing was sent.
        OutcomeUnknown: the reply was lost, and the message is not to be found (yet).
    """
    end = time.monotonic() + seconds
    try:
        files = await _files(caller, message.files, report)
        before = await caller.api.chats.chat(message.chat_id) if message.chat_id else None
    except InferenceError as exc:
        exc.outcome, exc.retry_safe = "not_started", True
        raise
    request = AgentRunRequest(
        chat_id=message.chat_id,
        agent=message.agent,
        agent_config=message.config,
        context=message.context,
        input=MessageInput.of(message.text, files),
    )
    if before is None:
        sent = await _sent(caller, request, None)
        async with _heeded(caller, sent.chat_id), _states(caller, sent.chat) as states:
            return await _followed(caller, TurnResult(chat=sent.chat, turn=Turn.of(sent)), states, report, end)
    async with _states(caller, before) as states:
        sent = await _sent(caller, request, before)
        async with _heeded(caller, sent.chat_id):
            return await _followed(caller, TurnResult(chat=before, turn=Turn.of(sent, before)), states, report, end)


async def read_turn(caller: Caller, chat_id: str, report: Report, *, seconds: float) -> TurnResult:
    """Read a chat, and follow the turn it is in for at most `seconds`. Leaving does not stop it.

    What waits for the person is waited for too; what waits for a client tool is not, since it is whoever listens that
    has to carry it out.
    """
    end = time.monotonic() + seconds
    chat = await caller.api.chats.chat(chat_id)
    heard = TurnResult(chat=chat, turn=Turn.under_way(chat))
    if seconds <= 0 or heard.over or any(isinstance(one, ClientTool) for one in heard.waits_for):
        return heard
    async with _states(caller, chat) as states:
        return await _followed(caller, heard, states, report, end, known={mark(one) for one in heard.waits_for})


async def answer(
    caller: Caller, chat: Chat, invocation_id: str, send: Callable[[Chats], Awaitable[None]], report: Report, *, seconds: float
) -> TurnResult:  # fmt: skip
    """Answer what a chat waits for, once, with the stream open before, and follow the turn on.
    Whoever leaves leaves the agent, as one who has sent it a message: also while the answer is on its way, and may have
    arrived.

    Raises:
        Conflict: it was answered already, or is not waited for any more; the platform's state decides.
        Forbidden: the platform takes this decision only from the person's own sign-in (`requires_sign_in`).
    """
    end = time.monotonic() + seconds
    given = _marks(chat, invocation_id)
    try:
        async with _states(caller, chat) as states:
            try:
                await send_answer(caller, chat, invocation_id, send)
            except anyio.get_cancelled_exc_class():
                await cancel_abandoned_chat(caller, chat.id)
                raise
            heard = TurnResult(chat=chat, turn=Turn.under_way(chat), given=given)
            async with _heeded(caller, chat.id):
                return await _followed(caller, heard, states, report, end, known=given)
    except InferenceError as exc:
        # The message before it was taken: whatever failed, the way on is to read the chat, and not to say it again.
        exc.retry_safe = False
        exc.next_step = f'Read the chat with chat_get(chat_id="{chat.id}"): it tells what was taken.'
        raise


async def send_answer(caller: Caller, chat: Chat, invocation_id: str, send: Callable[[Chats], Awaitable[None]]) -> None:
    """Send an answer to what a chat waits for, as `chat` tells it, unless it was answered or changed meanwhile. Where the
    reply was lost, the chat tells whether it is waited for still. Never sent again (O-7).

    Raises:
        Conflict: nothing was sent, since somebody else has answered.
    """
    asked = next((one for one in pending(chat) if one.id == invocation_id), None)
    question, account, turns = repr(asked), caller.api.account, caller.runs.answers
    async with turns.turn(account, invocation_id):
        try:
            now = await caller.api.chats.chat(chat.id)
        except InferenceError as exc:
            exc.outcome = "not_started"
            raise
        if turns.is_answered(account, invocation_id, question) or not _is_still_asked(asked, invocation_id, now):
            raise Conflict(
                message="That was answered already, or is not waited for any more.",
                next_step="chat_get shows where the chat stands.",
                outcome="not_started",
            )
        await _given(caller, chat, invocation_id, send)
        turns.note(account, invocation_id, question)


def _is_still_asked(asked: Pending | None, invocation_id: str, now: Chat) -> bool:
    """Whether the chat waits for the same; what it does not tell of at all may be in a chat of a sub-agent."""
    found = next((one for one in pending(now) if one.id == invocation_id), None)
    if found is None:
        return now.invocation(invocation_id) is None
    if isinstance(asked, Approval) and isinstance(found, Approval):  # it counts for what was shown
        return (asked.tool_name, asked.arguments, asked.unread) == (found.tool_name, found.arguments, found.unread)
    return asked is not None and mark(asked) == mark(found)


async def _given(caller: Caller, chat: Chat, invocation_id: str, send: Callable[[Chats], Awaitable[None]]) -> None:
    try:
        await send(caller.api.chats)
    except InferenceError as lost:
        if lost.outcome != "unknown":
            raise
        try:
            waits = _marks(await caller.api.chats.chat(chat.id), invocation_id)
        except InferenceError:
            raise lost from None
        if waits & _marks(chat, invocation_id):
            raise
        logger.warning("the reply to an answer was lost, and it is not waited for any more")


def _marks(chat: Chat, invocation_id: str) -> frozenset[str]:
    return frozenset(mark(one) for one in pending(chat) if one.id == invocation_id)


class _heeded:  # noqa: N801 - it is used as a function
    """A block after which the agent stops when its listener has gone, and errors tell that what was said was taken."""

    def __init__(self, caller: Caller, chat_id: str) -> None:
        self._caller, self._chat_id = caller, chat_id

    async def __aenter__(self) -> None:
        try:
            await anyio.lowlevel.checkpoint()  # a cancellation that came while it was under way
        except anyio.get_cancelled_exc_class():
            await cancel_abandoned_chat(self._caller, self._chat_id)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, anyio.get_cancelled_exc_class()):
            await cancel_abandoned_chat(self._caller, self._chat_id)
        elif isinstance(exc, InferenceError):
            exc.outcome, exc.retry_safe = "started", False
            exc.next_step = f'The message was taken. Read the chat with chat_get(chat_id="{self._chat_id}").'


def _states(caller: Caller, chat: Chat) -> AbstractAsyncContextManager[AsyncIterator[Chat]]:
    return caller.api.chats.follow_chat(chat, stream=caller.stream, poll_interval=caller.poll_interval)


async def _followed(
    caller: Caller,
    heard: TurnResult,
    states: AsyncIterator[Chat],
    report: Report,
    end: float,
    *,
    known: Collection[str] = (),
) -> TurnResult:
    """Take in what happens until the turn is over, waits for something that was not `known`, or the time is over."""
    began = time.monotonic()
    chat, turn = heard.chat, heard.turn
    with caller.runs.drain.deadline(end - began):
        async for state in states:
            chat, turn = state, turn.seeing(state)
            report(agent_progress(chat, turn))
            if turn_over(chat, turn) or any(mark(one) not in known for one in pending(chat)):
                break
    return replace(heard, chat=chat, turn=turn, seconds=time.monotonic() - began)


def agent_progress(chat: Chat, turn: Turn) -> AgentProgress:
    """What the agent is at."""
    said = [message for message in turn.messages(chat) if message.role == "assistant"]
    tools = [
        call for message in said for call in message.tool_invocations if call.status not in {"completed", "failed"}
    ]
    tail = said[-1].text[-TAIL:] if said else ""
    return AgentProgress(chat.id, tools[-1].name if tools else "", tail)


async def _files(caller: Caller, references: Sequence[str], report: Report) -> list[File]:
    """The files of a message; a server that is about to end does not get to send it."""
    files: list[File] = []
    with caller.runs.drain.deadline(math.inf):
        files = [await _file(caller, one, report) for one in references]
    caller.runs.drain.raise_if_started()
    return files


async def _file(caller: Caller, reference: str, report: Report) -> File:
    """A file for a message: uploaded, or taken as it is where the platform can read its address."""
    return _elsewhere(reference) if is_remote(reference) else await store(caller, reference, report)


def _elsewhere(address: str) -> File:
    """A file at an address: its name and its type are what the address says, since nobody here has read it."""
    name = unquote(path_of(address)).rpartition("/")[2]
    shown = "".join(filter(str.isprintable, name))[-LONGEST_NAME:]  # its end tells what it is
    return File(uri=address, filename=shown, content_type=mimetypes.guess_type(name)[0] or "")


async def _sent(caller: Caller, request: AgentRunRequest, before: Chat | None) -> Sent:
    """Send a message, and look for it where the reply was lost; it is never sent again (O-4)."""
    start = caller.runs.starts.begin(_what(request))
    try:
        sent = await caller.api.chats.send_message(request)
    except OutcomeUnknown as lost:
        logger.warning("the reply to a message was lost; looking for it")
        found = await LostStart(
            caller=caller,
            start=start,
            looks=LOOKS,
            look=partial(_look, caller, request, before, lost),
            leave=lambda sent: cancel_abandoned_chat(caller, sent.chat_id),
            leave_unknown=partial(_leave_unknown, request.chat_id),
        ).find()
        if isinstance(found, list):
            told = ", ".join(found) or "it could not be found"
            logger.warning("what became of a message is not known, and its agent may still run: %s", told)
            if found and before is None:
                lost.candidates = tuple(found)
                lost.next_step = (
                    f"Do not send it again: read {' and '.join(found)} with chat_get, one may be of this message."
                )
            raise
        return found
    except BaseException:
        start.refused()
        raise
    record_chat(sent.chat_id)
    start.made(_mark(sent, before))
    return sent


def _leave_unknown(chat_id: str | None, candidates: Sequence[str]) -> None:
    told = chat_id or ", ".join(candidates)
    told = f"its chat may be: {told}" if told else "its chat could not be found"
    logger.error("an agent may be at work without its caller; %s", told)


async def _look(
    caller: Caller, request: AgentRunRequest, before: Chat | None, lost: OutcomeUnknown
) -> Candidates[Sent]:
    """The messages that may be the lost one: the same words, from the person's side, and no other call's own; in a chat
    that was there `before`, one that was not in it, and else in a chat that is newer than the sending."""
    since = (lost.sent_at or datetime.now(UTC)) - ALLOWANCE
    complete = True
    if before is not None:
        chats = [await caller.api.chats.chat(before.id)]
    else:
        page = await caller.api.chats.list_chats(limit=RECENT_CHATS)
        complete = len(page.items) < RECENT_CHATS or any(
            one.updated_at and one.updated_at < since for one in page.items
        )
        recent = [one for one in page.items if one.created_at and one.created_at >= since]
        chats = [await caller.api.chats.chat(one.id) for one in recent]
    known = {message.id for message in before.chat_messages} if before else set[str]()
    found = [
        Sent(chat_id=chat.id, user_message=message, assistant_message=None)
        for chat in chats
        for message in chat.chat_messages
        if message.role == "user" and message.id not in known and message.text.strip() == request.input.text.strip()
    ]
    marked = {_mark(one, before): one for one in found}
    return Candidates({mark: one for mark, one in marked.items() if not caller.runs.starts.is_owned(mark)}, complete)


def _what(request: AgentRunRequest) -> str:
    """Messages of the same, as far as they would tell."""
    return json.dumps(["message", request.chat_id, request.input.text.strip()])


def _mark(sent: Sent, before: Chat | None) -> str:
    """What makes a message its call's own: the chat that it began, or its own id."""
    return sent.user_message.id if before and sent.user_message else sent.chat_id
