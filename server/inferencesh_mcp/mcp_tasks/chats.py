"""A chat turn as an MCP task: what the agent waits for is asked through the task and answered by `tasks/update`.

Questions and answers are those of `tools.elicitation`. A key names one invocation and the digest of what was shown, so an
answer to anything else is ignored. The platform refuses a second answer.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mcp_types import ElicitResult
from pydantic import ValidationError

from inferencesh_mcp.bounded import BoundedDict, RecentSet
from inferencesh_mcp.context import caller
from inferencesh_mcp.errors import Conflict, Forbidden, InvalidInput
from inferencesh_mcp.flows.chat import TurnResult
from inferencesh_mcp.mcp_tasks.types import TaskState, first_line
from inferencesh_mcp.tools.progress import status_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_types import InputRequest

    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.mcp_tasks.types import TaskHandle
    from inferencesh_mcp.tools.elicitation_forms import Question, Reply

MAX_REMEMBERED = 4_096  # questions

logger = logging.getLogger(__name__)


class ChatTurn:
    """One turn of a chat. The modules of chats are imported late, because most sessions have no chat."""

    def __init__(self) -> None:
        self._first_shown_at: BoundedDict[tuple[str, str], float] = BoundedDict(MAX_REMEMBERED)
        self._shown_plainly: RecentSet[tuple[str, str]] = RecentSet(MAX_REMEMBERED)

    async def read(self, ctx: Ctx, handle: TaskHandle) -> TaskState:
        from inferencesh_mcp.flows.chat import agent_progress
        from inferencesh_mcp.tools.agents import render_turn

        who = caller(ctx)
        outcome = await _read_turn(who, handle)
        answer = render_turn(ctx, outcome)
        state = TaskState(
            status="working",
            message=status_line(agent_progress(outcome.chat, outcome.turn), outcome.seconds),
            changed_at=outcome.chat.updated_at,
        )
        status = cast("dict[str, Any]", answer.structured_content)["status"]
        if status == "working":
            return state
        if status == "stopped":
            return replace(state, status="cancelled", message=first_line(answer))
        requests = await self._requests(ctx, who, outcome) if status == "waiting" else None
        if requests:
            return replace(
                state, status="input_required", message=f"waiting for you · chat {outcome.chat.id}", requests=requests
            )
        # The turn is over, or waits for something that cannot be asked here; the result says which.
        return replace(state, status="completed", message=first_line(answer), result=answer)

    async def answer(self, ctx: Ctx, handle: TaskHandle, responses: Mapping[str, Any]) -> None:
        from inferencesh_mcp.flows import chat as flows_chat
        from inferencesh_mcp.tools.elicitation import approval_details, open_questions, remember_refused_decision

        who = caller(ctx)
        outcome = await _read_turn(who, handle)
        for question in await open_questions(ctx, who, outcome):
            shown_question = self._as_shown(who, question)
            replies = self._replies(who, shown_question, outcome.chat, responses)
            if replies is None:
                continue
            reply = shown_question.decide(replies)
            if reply is None:
                if shown_question.is_empty_acceptance(replies):
                    self._shown_plainly.add((who.principal, shown_question.id))
                continue
            try:
                await flows_chat.send_answer(who, outcome.chat, shown_question.id, reply.send)
            except Conflict:  # decided elsewhere, or the option is gone: the next read asks again
                logger.info("%s was not taken", shown_question.id)
                approval_details(ctx).forget(who, shown_question.id)
            except Forbidden as exc:
                remember_refused_decision(ctx, exc, outcome.waits_for, shown_question.id)

    async def cancel(self, ctx: Ctx, handle: TaskHandle) -> None:
        who = caller(ctx)
        outcome = await _read_turn(who, handle)
        if not outcome.over:  # a later turn of the chat is not this task's
            with suppress(Conflict):
                await who.api.chats.stop_chat(outcome.chat.id)

    async def _requests(self, ctx: Ctx, who: Caller, outcome: TurnResult) -> dict[str, InputRequest]:
        """The open questions for the person, by key."""
        from inferencesh_mcp.tools.elicitation import PAGE_MESSAGE, chat_page, needs_page, open_questions, page_request

        requests: dict[str, InputRequest] = {}
        for question in await open_questions(ctx, who, outcome):
            shown_question = self._as_shown(who, question)
            requests |= {_name(shown_question, key): request for key, request in shown_question.requests.items()}
            self._first_shown_at.setdefault((who.principal, _key(shown_question)), time.monotonic())
        if needs_page(ctx, outcome):
            name = f"page.{next((item.id for item in outcome.waits_for if item.id), outcome.chat.id)}"
            request = page_request(ctx, PAGE_MESSAGE, chat_page(ctx, outcome.chat.id), name)
            requests |= {name: request} if request else {}
        return requests

    def _as_shown(self, who: Caller, question: Question) -> Question:
        """The question as it is asked: without fields, if this host sent its form empty before."""
        return question.plain if question.plain and (who.principal, question.id) in self._shown_plainly else question

    def _replies(
        self, who: Caller, question: Question, chat: Chat, responses: Mapping[str, Any]
    ) -> Mapping[str, Reply] | None:
        """The replies to all requests of a question; None if there is none."""
        from inferencesh_mcp.tools.elicitation_forms import Reply

        status_line = {key: responses.get(_name(question, key)) for key in question.requests}
        if all(response is None for response in status_line.values()):
            return None
        seconds = self._since_shown(who, question, chat)
        return {
            key: Reply(None if response is None else _parse_result(response), seconds)
            for key, response in status_line.items()
        }

    def _since_shown(self, who: Caller, question: Question, chat: Chat) -> float:
        """Seconds since the person was asked.

        If another replica asked, this one knows only since when the chat waits, which is earlier. A host that declines at
        once without asking anybody then counts as a person who declined.
        """
        shown = self._first_shown_at.get((who.principal, _key(question)))
        if shown is not None:
            return time.monotonic() - shown
        return time.time() - chat.updated_at.timestamp() if chat.updated_at else 0.0


async def _read_turn(who: Caller, handle: TaskHandle) -> TurnResult:
    """Read the chat, as this turn sees it."""
    from inferencesh_mcp.api.chat_turn import Turn

    chat = await who.api.chats.chat(handle.upstream_ids["chat"])
    outcome = TurnResult(chat=chat, turn=Turn(**handle.upstream_ids["turn"]).seeing(chat), seconds=handle.age)
    changes = [message.updated_at or message.created_at for message in outcome.messages]
    ends = [change.timestamp() - handle.started_at for change in changes if change]
    # The duration of a finished turn does not depend on when it is read.
    return replace(outcome, seconds=max(0.0, *ends)) if outcome.over and ends else outcome


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
