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

REMEMBERED = 4_096  # questions

logger = logging.getLogger(__name__)


class ChatTurn:
    """One turn of a chat. What chats need is imported when the first is looked at."""

    def __init__(self) -> None:
        self._first_shown: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._plainly: Remembered[tuple[str, str]] = Remembered(REMEMBERED)

    async def look(self, ctx: Ctx, held: Held) -> Standing:
        from inferencesh_mcp.flows.chat import speaking
        from inferencesh_mcp.tools.agents import shown_turn

        who = caller(ctx)
        heard = await _heard(who, held)
        answer = shown_turn(ctx, heard)
        now = Standing(
            status="working",
            message=status_line(speaking(heard.chat, heard.turn), heard.seconds),
            changed_at=heard.chat.updated_at,
        )
        status = cast("dict[str, Any]", answer.structured_content)["status"]
        if status == "working":
            return now
        if status == "stopped":
            return replace(now, status="cancelled", message=headline(answer))
        asks = await self._asks(ctx, who, heard) if status == "waiting" else None
        if asks:
            return replace(now, status="input_required", message=f"waits for you · chat {heard.chat.id}", asks=asks)
        # Over; or waiting for what cannot be asked here, as the answer says.
        return replace(now, status="completed", message=headline(answer), result=answer)

    async def answer(self, ctx: Ctx, held: Held, responses: Mapping[str, Any]) -> None:
        from inferencesh_mcp.flows import chat as flows_chat
        from inferencesh_mcp.tools.elicitation import askable, decided_elsewhere, details_of

        who = caller(ctx)
        heard = await _heard(who, held)
        for found in await askable(ctx, who, heard):
            asked = self._as_shown(who, found)
            replies = self._replies(who, asked, heard.chat, responses)
            if replies is None:
                continue
            given = asked.answered(replies)
            if given is None:
                if asked.came_empty(replies):
                    self._plainly.add((who.principal, asked.id))
                continue
            try:
                await flows_chat.give(who, heard.chat, asked.id, given.send)
            except Conflict:  # settled elsewhere; or what was chosen is offered no more, and the next look asks anew
                logger.info("%s was not taken", asked.id)
                details_of(ctx).forget(who, asked.id)
            except Forbidden as exc:
                decided_elsewhere(ctx, exc, heard.waits_for, asked.id)

    async def cancel(self, ctx: Ctx, held: Held) -> None:
        who = caller(ctx)
        heard = await _heard(who, held)
        if not heard.over:  # a later turn of the chat is somebody else's
            with suppress(Conflict):
                await who.api.chats.stop_chat(heard.chat.id)

    async def _asks(self, ctx: Ctx, who: Caller, heard: Heard) -> dict[str, InputRequest]:
        """All that the person is asked, each under the key of its question."""
        from inferencesh_mcp.tools.elicitation import AT_PAGE, askable, needs_page, page, page_request

        asks: dict[str, InputRequest] = {}
        for found in await askable(ctx, who, heard):
            asked = self._as_shown(who, found)
            asks |= {_name(asked, key): request for key, request in asked.requests.items()}
            self._first_shown.setdefault((who.principal, _key(asked)), time.monotonic())
        while len(self._first_shown) > REMEMBERED:
            self._first_shown.popitem(last=False)
        if needs_page(ctx, heard):
            name = f"page.{next((one.id for one in heard.waits_for if one.id), heard.chat.id)}"
            request = page_request(ctx, AT_PAGE, page(ctx, heard.chat.id), name)
            asks |= {name: request} if request else {}
        return asks

    def _as_shown(self, who: Caller, asked: Question) -> Question:
        """A question as it is put: with nothing to fill in, where this host sent its form empty."""
        return asked.plain if asked.plain and (who.principal, asked.id) in self._plainly else asked

    def _replies(
        self, who: Caller, asked: Question, chat: Chat, responses: Mapping[str, Any]
    ) -> Mapping[str, Reply] | None:
        """What came back on all requests of a question; None where nothing did."""
        from inferencesh_mcp.tools.elicitation_forms import Reply

        status_line = {key: responses.get(_name(asked, key)) for key in asked.requests}
        if all(one is None for one in status_line.values()):
            return None
        seconds = self._since_shown(who, asked, chat)
        return {key: Reply(None if one is None else _read(one), seconds) for key, one in status_line.items()}

    def _since_shown(self, who: Caller, asked: Question, chat: Chat) -> float:
        """How long the person had for an answer.

        Where another replica showed the question this one knows only since when the chat waits, which is earlier: then
        a host that declines for its person within a moment of the showing is taken for a person who said no.
        """
        shown = self._first_shown.get((who.principal, _key(asked)))
        if shown is not None:
            return time.monotonic() - shown
        return time.time() - chat.updated_at.timestamp() if chat.updated_at else 0.0


async def _heard(who: Caller, held: Held) -> Heard:
    """The chat as it is now, as this turn sees it."""
    from inferencesh_mcp.api.chat_turn import Turn
    from inferencesh_mcp.flows.chat import Heard

    chat = await who.api.chats.chat(held.of["chat"])
    heard = Heard(chat=chat, turn=Turn(**held.of["turn"]).seeing(chat), seconds=held.age)
    changes = [one.updated_at or one.created_at for one in heard.said]
    ends = [change.timestamp() - held.began for change in changes if change]
    # What a turn took is the same whenever it is looked at.
    return replace(heard, seconds=max(0.0, *ends)) if heard.over and ends else heard


def _key(asked: Question) -> str:
    return f"{asked.id}.{asked.digest[:32]}"


def _name(asked: Question, key: str) -> str:
    """What one request of a question is called; a question of one is called by itself."""
    return _key(asked) if len(asked.requests) == 1 else f"{_key(asked)}.{key}"


def _read(given: Any) -> ElicitResult:
    try:
        return ElicitResult.model_validate(given)
    except ValidationError as exc:
        raise InvalidInput(message="An answer is an action, and content where the action is accept.") from exc
