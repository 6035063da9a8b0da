"""Chat with an agent: send a message once, and follow its turn until it ends or waits for somebody."""

from __future__ import annotations

import json
import logging
import mimetypes
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.agents import AgentRunRequest
from inferencesh_mcp.api.chat_models import Chat, ChatMessage, Sent
from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Pending, Turn, mark, pending, turn_over
from inferencesh_mcp.api.models import File
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import InferenceError, OutcomeUnknown
from inferencesh_mcp.flows import AgentProgress
from inferencesh_mcp.flows.cancel import cancel_abandoned_chat
from inferencesh_mcp.flows.file_sources import is_remote
from inferencesh_mcp.flows.internal_errors import record_chat
from inferencesh_mcp.flows.lost_starts import Candidates, LostStart
from inferencesh_mcp.flows.start import ALLOWANCE
from inferencesh_mcp.flows.upload import store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
    from contextlib import AbstractAsyncContextManager

    from inferencesh_mcp.api.agent_config import AgentConfigInput
    from inferencesh_mcp.flows import Caller, Report

SEARCH_DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds before each search for a message whose reply was lost
MAX_NAME_LENGTH = 200  # characters of a file's name taken from an address; real names are shorter
RECENT_CHATS = 20  # searched for a message whose reply was lost
APPROVED_CALL = frozenset({"in_progress", "completed", "failed"})
"""The statuses of a call that was approved: a refused one is cancelled."""
BY_PERSON_ON_PLATFORM = "the person, on inference.sh"
TAIL = 120  # characters of a growing answer in one progress report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message to an agent, which is a template by name or an own configuration; `chat_id` continues a chat."""

    text: str
    agent: str | None = None
    config: AgentConfigInput | None = None
    chat_id: str | None = None
    files: Sequence[str] = ()
    context: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    """What was decided in this call, and by whom."""

    id: str
    """The id of the invocation."""
    about: str
    """The tool, or whatever asked."""
    decision: str
    """`approved`, `rejected`, `always allowed …`, `answered`, or `not decided`."""
    by: str


@dataclass(frozen=True, kw_only=True)
class TurnResult:
    """How a call ended: the turn is over, waits for somebody, or goes on after the call."""

    chat: Chat
    turn: Turn
    seconds: float = 0.0
    """Seconds that this call has followed the turn."""
    answered: frozenset[str] = frozenset()
    """Marks of what this call answered: the chat no longer waits for that, even if no newer state has come."""
    records: tuple[DecisionRecord, ...] = ()

    @cached_property
    def over(self) -> bool:
        return turn_over(self.chat, self.turn)

    @cached_property
    def waits_for(self) -> list[Pending]:
        return [] if self.over else [item for item in pending(self.chat) if mark(item) not in self.answered]

    @cached_property
    def messages(self) -> tuple[ChatMessage, ...]:
        return self.turn.messages(self.chat)

    def with_record(self, item_id: str, about: str, decision: str, by: str) -> TurnResult:
        record = DecisionRecord(id=item_id, about=about, decision=decision, by=by)
        return replace(self, records=(*self.records, record))


async def send_message(caller: Caller, message: Message, report: Report, *, seconds: float) -> TurnResult:
    """Send a message once and follow its turn for at most `seconds`.

    In a chat that exists the stream is opened before the message is sent, so that nothing of the turn is missed.

    Raises:
        InvalidInput, FileRefused: nothing was sent.
        OutcomeUnknown: the reply was lost, and the message was not found (yet).
    """
    end = time.monotonic() + seconds
    with caller.runs.drain.before_start():
        files = [await _file(caller, reference, report) for reference in message.files]
        before = await caller.api.chats.chat(message.chat_id) if message.chat_id else None
    request = AgentRunRequest(
        chat_id=message.chat_id,
        agent=message.agent or (_agent_of(before) if before and not message.config else None),
        agent_config=message.config,
        context=message.context,
        text=message.text,
        files=files,
    )
    if before is None:
        sent = await _send_once(caller, request, None)
        async with stop_agent_on_cancel(caller, sent.chat_id), chat_states(caller, sent.chat) as states:
            return await follow_turn(caller, TurnResult(chat=sent.chat, turn=Turn.of(sent)), states, report, end)
    async with chat_states(caller, before) as states:
        sent = await _send_once(caller, request, before)
        async with stop_agent_on_cancel(caller, sent.chat_id):
            return await follow_turn(caller, TurnResult(chat=before, turn=Turn.of(sent, before)), states, report, end)


async def read_turn(caller: Caller, chat_id: str, report: Report, *, seconds: float) -> TurnResult:
    """Read a chat, and follow the turn it is in for at most `seconds`. The turn goes on afterwards.

    A question to the person is waited for, because they may answer elsewhere. A call of a client tool is returned at once,
    because the reader has to carry it out.
    """
    end = time.monotonic() + seconds
    chat = await caller.api.chats.chat(chat_id)
    result = TurnResult(chat=chat, turn=Turn.under_way(chat))
    if seconds <= 0 or result.over or any(isinstance(item, ClientTool) for item in result.waits_for):
        return result
    report(agent_progress(result))
    async with chat_states(caller, chat) as states:
        known = {mark(item) for item in result.waits_for}
        return _with_approvals(result, await follow_turn(caller, result, states, report, end, known=known))


def _with_approvals(before: TurnResult, after: TurnResult) -> TurnResult:
    """The turn with a record of each approval that was given on the platform while it was followed."""
    waiting = {item.id for item in after.waits_for}
    for item in before.waits_for:
        call = after.chat.invocation(item.id)
        if isinstance(item, Approval) and item.id not in waiting and call and call.status in APPROVED_CALL:
            after = after.with_record(item.id, item.tool_name, "approved", BY_PERSON_ON_PLATFORM)
    return after


@asynccontextmanager
async def stop_agent_on_cancel(caller: Caller, chat_id: str) -> AsyncGenerator[None]:
    """Around what follows an accepted message: if the caller leaves, stop the agent; errors say that it was accepted."""
    try:
        await anyio.lowlevel.checkpoint()  # a cancellation that came while the message was under way
        yield
    except anyio.get_cancelled_exc_class():
        await cancel_abandoned_chat(caller, chat_id)
        raise
    except InferenceError as exc:
        next_step = f'The message was accepted. Read the chat with chat_get(chat_id="{chat_id}").'
        raise exc.replace(outcome="started", retry_safe=False, next_step=next_step) from exc


def _agent_of(chat: Chat) -> str | None:
    """The agent that a chat goes on with, at its version; None for an ad-hoc agent, which the platform knows by the chat."""
    agent = chat.agent
    if agent is None or not agent.ref:
        return None
    is_current = chat.agent_version_id in {"", agent.version_id}
    return agent.ref if is_current else f"{agent.ref}@{chat.agent_version_id}"


def chat_states(caller: Caller, chat: Chat) -> AbstractAsyncContextManager[AsyncIterator[Chat]]:
    return caller.api.chats.follow_chat(chat, stream=caller.stream, poll_interval=caller.poll_interval)


async def follow_turn(
    caller: Caller,
    result: TurnResult,
    states: AsyncIterator[Chat],
    report: Report,
    end: float,
    *,
    known: Collection[str] = (),
) -> TurnResult:
    """Follow until the turn is over, the time is over, or the chat waits for something that is not `known`."""
    began, before = time.monotonic(), result.seconds
    with caller.runs.drain.deadline(end - began):
        async for chat in states:
            seconds = before + time.monotonic() - began
            result = replace(result, chat=chat, turn=result.turn.seeing(chat), seconds=seconds)
            report(agent_progress(result))
            if result.over or any(mark(item) not in known for item in result.waits_for):
                return result
    return replace(result, seconds=before + time.monotonic() - began)


def agent_progress(result: TurnResult) -> AgentProgress:
    """What the agent does now: its running tool, and the end of its answer."""
    messages = [message for message in result.messages if message.role == "assistant"]
    tools = [
        call for message in messages for call in message.tool_invocations if call.status not in {"completed", "failed"}
    ]
    tail = messages[-1].text[-TAIL:] if messages else ""
    if not tools:
        return AgentProgress(result.chat.id, "", tail)
    is_waiting = tools[-1].status in {"awaiting_approval", "awaiting_input"}
    return AgentProgress(result.chat.id, tools[-1].name, tail, is_waiting=is_waiting)


async def _file(caller: Caller, reference: str, report: Report) -> File:
    """A file of a message. If the platform can read its address, it is not read here: its name and type are guessed."""
    if not is_remote(reference):
        return await store(caller, reference, report)
    name = unquote(path_of(reference)).rpartition("/")[2]
    printable = "".join(filter(str.isprintable, name))[-MAX_NAME_LENGTH:]  # its end shows the type
    return File(uri=reference, filename=printable, content_type=mimetypes.guess_type(name)[0] or "")


async def _send_once(caller: Caller, request: AgentRunRequest, before: Chat | None) -> Sent:
    """Send a message, and look for it if the reply was lost. It is never sent again."""
    start = caller.runs.starts.begin(_fingerprint(request))
    try:
        sent = await caller.api.chats.send_message(request)
    except OutcomeUnknown as lost:
        logger.warning("the reply to a message was lost; looking for it")
        result = await LostStart(
            caller=caller,
            start=start,
            delays=SEARCH_DELAYS,
            search=partial(_search, caller, request, before, lost),
            cancel=lambda sent: cancel_abandoned_chat(caller, sent.chat_id),
            log_candidates=partial(_log_candidates, request.chat_id),
        ).find()
        if isinstance(result, list):
            ids = ", ".join(result) or "it could not be found"
            logger.warning("what became of a message is not known, and its agent may still run: %s", ids)
            if result and before is None:
                next_step = (
                    f"Do not send it again: read {' and '.join(result)} with chat_get, one may be of this message."
                )
                raise lost.replace(candidates=tuple(result), next_step=next_step) from lost
            raise
        sent = result
    except BaseException:
        start.made_nothing()
        raise
    else:
        start.made(_claim_key(sent, before))
    record_chat(sent.chat_id)
    return sent


def _log_candidates(chat_id: str | None, candidates: Sequence[str]) -> None:
    ids = chat_id or ", ".join(candidates)
    where = f"its chat may be: {ids}" if ids else "its chat could not be found"
    logger.error("an agent may be at work without its caller; %s", where)


async def _search(
    caller: Caller, request: AgentRunRequest, before: Chat | None, lost: OutcomeUnknown
) -> Candidates[Sent]:
    """The messages that may be the lost one: the same text from the person, and no other call's own.

    In a chat that existed `before`, only messages that were not in it count; otherwise only chats newer than the sending.
    """
    since = (lost.sent_at or datetime.now(UTC)) - ALLOWANCE
    complete = True
    if before is not None:
        chats = [await caller.api.chats.chat(before.id)]
    else:
        page = await caller.api.chats.list_chats(limit=RECENT_CHATS)
        complete = len(page.items) < RECENT_CHATS or any(
            chat.updated_at and chat.updated_at < since for chat in page.items
        )
        recent = [chat for chat in page.items if chat.created_at and chat.created_at >= since]
        chats = [await caller.api.chats.chat(chat.id) for chat in recent]
    known = {message.id for message in before.chat_messages} if before else set[str]()
    matching = [
        Sent(chat_id=chat.id, user_message=message, assistant_message=None)
        for chat in chats
        for message in chat.chat_messages
        if message.role == "user" and message.id not in known and message.text.strip() == request.text.strip()
    ]
    by_key = {_claim_key(sent, before): sent for sent in matching}
    owned = caller.runs.starts.is_owned
    return Candidates({key: sent for key, sent in by_key.items() if not owned(key)}, complete)


def _fingerprint(request: AgentRunRequest) -> str:
    """Equal for messages that `_search` may confuse."""
    return json.dumps(["message", request.chat_id, request.text.strip()])


def _claim_key(sent: Sent, before: Chat | None) -> str:
    """The id that belongs to the call that sent the message: that of the chat it began, or its own."""
    return sent.user_message.id if before and sent.user_message else sent.chat_id
