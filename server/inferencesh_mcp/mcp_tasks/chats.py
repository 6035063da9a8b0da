"""A chat turn as an MCP task: what the agent waits for is asked through the task and answered by `tasks/update`.

Questions and answers are those of `tools.elicitation`. A key names one invocation and the digest of what was shown, so an
answer to anything else is ignored. The platform refuses a second answer.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp_types import ElicitResult
from pydantic import ValidationError

from inferencesh_mcp.api.chat_turn import Turn
from inferencesh_mcp.bounded import BoundedDict, RecentSet
from inferencesh_mcp.context import caller_of
from inferencesh_mcp.errors import Conflict, InvalidInput
from inferencesh_mcp.flows.approvals import CannotAsk, resolve_pending
from inferencesh_mcp.flows.chat import TurnResult, agent_progress
from inferencesh_mcp.mcp_tasks.extension import TaskState
from inferencesh_mcp.tools.chat_result import chat_result, turn_status
from inferencesh_mcp.tools.elicitation import PAGE_MESSAGE, Elicitation
from inferencesh_mcp.tools.elicitation_forms import Reply
from inferencesh_mcp.tools.progress import status_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_types import InputRequest

    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.api.chat_turn import Pending
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.approvals import Decision
    from inferencesh_mcp.mcp_tasks.task_id import TaskHandle
    from inferencesh_mcp.tools.elicitation_forms import Question

MAX_REMEMBERED = 4_096  # questions

logger = logging.getLogger(__name__)


class ChatTurn:
    """One turn of a chat."""

    def __init__(self) -> None:
        self._first_shown_at: BoundedDict[tuple[str, str], float] = BoundedDict(MAX_REMEMBERED)
        self._shown_plainly: RecentSet[tuple[str, str]] = RecentSet(MAX_REMEMBERED)

    async def read(self, ctx: Ctx, handle: TaskHandle) -> TaskState:
        caller = caller_of(ctx)
        turn = await _read_turn(caller, handle)
        host = Elicitation(ctx, caller)
        status = turn_status(turn)
        state = TaskState(
            status="working",
            message=status_line(agent_progress(turn), turn.seconds),
            changed_at=turn.chat.updated_at,
        )
        if status == "working":
            return state
        if status == "waiting" and (requests := await self._requests(caller, host, turn)):
            message = f"waiting for you · chat {turn.chat.id}"
            return replace(state, status="input_required", message=message, requests=requests)
        # The turn is over, or waits for something that cannot be asked here; the result says which.
        return state.ended(chat_result(turn, host), cancelled=status == "stopped")

    async def answer(self, ctx: Ctx, handle: TaskHandle, responses: Mapping[str, Any]) -> None:
        caller = caller_of(ctx)
        host = Elicitation(ctx, caller)
        remaining = dict(responses)

        async def ask(turn: TurnResult, item: Pending, _seconds: float) -> Decision | CannotAsk:
            question = await host.question(turn.chat.id, item)
            return self._decision(caller, question, turn.chat, remaining) if question else CannotAsk()

        turn = await _read_turn(caller, handle)
        with suppress(Conflict):  # decided elsewhere, or the option is gone: the next read asks again
            await resolve_pending(caller, turn, ask, lambda _: None, seconds=0)

    async def cancel(self, ctx: Ctx, handle: TaskHandle) -> None:
        caller = caller_of(ctx)
        turn = await _read_turn(caller, handle)
        if not turn.over:  # a later turn of the chat is not this task's
            with suppress(Conflict):
                await caller.api.chats.stop_chat(turn.chat.id)

    def _decision(
        self, caller: Caller, question: Question, chat: Chat, remaining: dict[str, Any]
    ) -> Decision | CannotAsk:
        """The decision in the responses, of which each is used once."""
        shown = self._as_shown(caller, question)
        replies = self._replies(caller, shown, chat, remaining)
        if replies is None:
            return CannotAsk()
        decision = shown.decide(replies)
        if decision is None and shown.is_empty_acceptance(replies):
            self._shown_plainly.add((caller.principal, shown.id))
        return decision or CannotAsk()

    async def _requests(self, caller: Caller, host: Elicitation, turn: TurnResult) -> dict[str, InputRequest]:
        """The open questions for the person, by key."""
        requests: dict[str, InputRequest] = {}
        for item in turn.waits_for:
            question = await host.question(turn.chat.id, item)
            if question is None:
                continue
            shown = self._as_shown(caller, question)
            requests |= {_name(shown, key): request for key, request in shown.requests.items()}
            self._first_shown_at.setdefault((caller.principal, _key(shown)), time.monotonic())
        if any(host.needs_page(item) for item in turn.waits_for):
            name = f"page.{next((item.id for item in turn.waits_for if item.id), turn.chat.id)}"
            request = host.page_request(PAGE_MESSAGE, host.page(turn.chat.id), name)
            requests |= {name: request} if request else {}
        return requests

    def _as_shown(self, caller: Caller, question: Question) -> Question:
        """The question as it is asked: without fields, if this host sent its form empty before."""
        return question.plain if question.plain and (caller.principal, question.id) in self._shown_plainly else question

    def _replies(
        self, caller: Caller, question: Question, chat: Chat, remaining: dict[str, Any]
    ) -> Mapping[str, Reply] | None:
        """The replies to all requests of a question; None if there is none."""
        responses = {key: remaining.pop(_name(question, key), None) for key in question.requests}
        if all(response is None for response in responses.values()):
            return None
        seconds = self._since_shown(caller, question, chat)
        return {
            key: Reply(None if response is None else _parse_result(response), seconds)
            for key, response in responses.items()
        }

    def _since_shown(self, caller: Caller, question: Question, chat: Chat) -> float:
        """Seconds since the person was asked.

        If another replica asked, this one knows only since when the chat waits, which is earlier. A host that declines at
        once without asking anybody then counts as a person who declined.
        """
        shown = self._first_shown_at.get((caller.principal, _key(question)))
        if shown is not None:
            return time.monotonic() - shown
        return time.time() - chat.updated_at.timestamp() if chat.updated_at else 0.0


async def _read_turn(caller: Caller, handle: TaskHandle) -> TurnResult:
    """Read the chat, as this turn sees it."""
    chat = await caller.api.chats.chat(handle.upstream_ids["chat"])
    turn = Turn(**handle.upstream_ids["turn"]).seeing(chat)
    result = TurnResult(chat=chat, turn=turn, seconds=handle.age)
    changes = [message.updated_at or message.created_at for message in result.messages]
    ends = [change.timestamp() - handle.started_at for change in changes if change]
    # The duration of a finished turn does not depend on when it is read.
    return replace(result, seconds=max(0.0, *ends)) if result.over and ends else result


def _key(question: Question) -> str:
    return f"{question.id}.{question.digest[:32]}"


def _name(question: Question, key: str) -> str:
    """The key of one request of a question; a question with one request needs no suffix."""
    return _key(question) if len(question.requests) == 1 else f"{_key(question)}.{key}"


def _parse_result(value: Any) -> ElicitResult:
    try:
        return ElicitResult.model_validate(value)
    except ValidationError as exc:
        raise InvalidInput(message="Give an action, and content if the action is accept.") from exc
