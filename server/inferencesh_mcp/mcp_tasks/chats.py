"""A turn with an agent that goes on: what it waits for is asked through the MCP task, and answered by `tasks/update`.

The questions are those of `tools.deciding`, and so is what an answer makes us send. A key names one invocation and one
digest of what was shown: an answer to anything else is ignored, and the platform's own state refuses a second one.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mcp_types import ElicitResult
from pydantic import ValidationError

from inferencesh_mcp.context import caller
from inferencesh_mcp.errors import Conflict, Forbidden, InvalidInput
from inferencesh_mcp.flows.bounded_set import Remembered
from inferencesh_mcp.mcp_tasks.types import Standing, headline
from inferencesh_mcp.tools.progress import status_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_types import InputRequest

    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.chat import Heard
    from inferencesh_mcp.mcp_tasks.types import Held
    from inferencesh_mcp.tools.elicitation_forms import Question, Reply

MAX_REMEMBERED = 4_096  # questions

logger = logging.getLogger(__name__)


class ChatTurn:
    """One turn of a chat. What chats need is imported when the first is looked at."""

    def __init__(self) -> None:
        self._first_shown_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._shown_plainly: Remembered[tuple[str, str]] = Remembered(MAX_REMEMBERED)

    async def look(self, ctx: Ctx, held: Held) -> Standing:
        from inferencesh_mcp.flows.chat import speaking
        from inferencesh_mcp.tools.agents import render_turn

        who = caller(ctx)
        outcome = await _read_turn(who, held)
        answer = render_turn(ctx, outcome)
        state = Standing(
            status="working",
            message=status_line(speaking(outcome.chat, outcome.turn), outcome.seconds),
            changed_at=outcome.chat.updated_at,
        )
        status = cast("dict[str, Any]", answer.structured_content)["status"]
        if status == "working":
            return state
        if status == "stopped":
            return replace(state, status="cancelled", message=headline(answer))
        requests = await self._requests(ctx, who, outcome) if status == "waiting" else None
        if requests:
            return replace(
                state, status="input_required", message=f"waits for you · chat {outcome.chat.id}", asks=requests
            )
        # Over; or waiting for what cannot be asked here, as the answer says.
        return replace(state, status="completed", message=headline(answer), result=answer)

    async def answer(self, ctx: Ctx, held: Held, responses: Mapping[str, Any]) -> None:
        from inferencesh_mcp.flows import chat as flows_chat
        from inferencesh_mcp.tools.elicitation import approval_details, open_questions, remember_refused_decision

        who = caller(ctx)
        outcome = await _read_turn(who, held)
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
                await flows_chat.give(who, outcome.chat, shown_question.id, reply.send)
            except Conflict:  # settled elsewhere; or what was chosen is offered no more, and the next look asks anew
                logger.info("%s was not taken", shown_question.id)
                approval_details(ctx).forget(who, shown_question.id)
            except Forbidden as exc:
                remember_refused_decision(ctx, exc, outcome.waits_for, shown_question.id)

    async def cancel(self, ctx: Ctx, held: Held) -> None:
        who = caller(ctx)
        outcome = await _read_turn(who, held)
        if not outcome.over:  # a later turn of the chat is somebody else's
            with suppress(Conflict):
                await who.api.chats.stop_chat(outcome.chat.id)

    async def _requests(self, ctx: Ctx, who: Caller, outcome: Heard) -> dict[str, InputRequest]:
        """All that the person is asked, each under the key of its question."""
        from inferencesh_mcp.tools.elicitation import PAGE_MESSAGE, chat_page, needs_page, open_questions, page_request

        requests: dict[str, InputRequest] = {}
        for question in await open_questions(ctx, who, outcome):
            shown_question = self._as_shown(who, question)
            requests |= {_name(shown_question, key): request for key, request in shown_question.requests.items()}
            self._first_shown_at.setdefault((who.principal, _key(shown_question)), time.monotonic())
        while len(self._first_shown_at) > MAX_REMEMBERED:
            self._first_shown_at.popitem(last=False)
        if needs_page(ctx, outcome):
            name = f"page.{next((item.id for item in outcome.waits_for if item.id), outcome.chat.id)}"
            request = page_request(ctx, PAGE_MESSAGE, chat_page(ctx, outcome.chat.id), name)
            requests |= {name: request} if request else {}
        return requests

    def _as_shown(self, who: Caller, question: Question) -> Question:
        """A question as it is put: with nothing to fill in, where this host sent its form empty."""
        return question.plain if question.plain and (who.principal, question.id) in self._shown_plainly else question

    def _replies(
        self, who: Caller, question: Question, chat: Chat, responses: Mapping[str, Any]
    ) -> Mapping[str, Reply] | None:
        """What came back on all requests of a question; None where nothing did."""
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
        """How long the person had for an answer.

        Where another replica showed the question this one knows only since when the chat waits, which is earlier: then
        a host that declines for its person within a moment of the showing is taken for a person who said no.
        """
        shown = self._first_shown_at.get((who.principal, _key(question)))
        if shown is not None:
            return time.monotonic() - shown
        return time.time() - chat.updated_at.timestamp() if chat.updated_at else 0.0


async def _read_turn(who: Caller, held: Held) -> Heard:
    """The chat as it is now, as this turn sees it."""
    from inferencesh_mcp.api.chat_turn import Turn
    from inferencesh_mcp.flows.chat import Heard

    chat = await who.api.chats.chat(held.of["chat"])
    outcome = Heard(chat=chat, turn=Turn(**held.of["turn"]).seeing(chat), seconds=held.age)
    changes = [message.updated_at or message.created_at for message in outcome.said]
    ends = [change.timestamp() - held.began for change in changes if change]
    # What a turn took is the same whenever it is looked at.
    return replace(outcome, seconds=max(0.0, *ends)) if outcome.over and ends else outcome


def _key(question: Question) -> str:
    return f"{question.id}.{question.digest[:32]}"


def _name(question: Question, key: str) -> str:
    """What one request of a question is called; a question of one is called by itself."""
    return _key(question) if len(question.requests) == 1 else f"{_key(question)}.{key}"


def _parse_result(value: Any) -> ElicitResult:
    try:
        return ElicitResult.model_validate(value)
    except ValidationError as exc:
        raise InvalidInput(message="An answer is an action, and content where the action is accept.") from exc
