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

from inferencesh_mcp.caller import caller
from inferencesh_mcp.errors import Conflict, Forbidden, InvalidInput
from inferencesh_mcp.extensions.kinds import Standing, headline
from inferencesh_mcp.tools.telling import told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_types import InputRequest

    from inferencesh_mcp.api.chats import Chat
    from inferencesh_mcp.caller import Ctx
    from inferencesh_mcp.extensions.sealing import Held
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.chatting import Heard
    from inferencesh_mcp.tools.questioning import Question

REMEMBERED = 4_096  # questions

logger = logging.getLogger(__name__)


class ChatTurn:
    """One turn of a chat. What chats need is imported when the first is looked at."""

    def __init__(self) -> None:
        self._first_shown: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def look(self, ctx: Ctx, held: Held) -> Standing:
        from inferencesh_mcp.flows.chatting import speaking
        from inferencesh_mcp.tools.agents import shown_turn

        who = caller(ctx)
        heard = await _heard(who, held)
        answer = shown_turn(ctx, heard)
        now = Standing(
            status="working",
            message=told(speaking(heard.chat, heard.turn), heard.seconds),
            changed_at=heard.chat.updated_at,
        )
        status = cast("dict[str, Any]", answer.structured_content)["status"]
        if status == "working":
            return now
        if status == "stopped":
            return replace(now, status="cancelled", message=headline(answer))
        asks = self._asks(ctx, who, heard) if status == "waiting" else None
        if asks:
            return replace(now, status="input_required", message=f"waits for you · chat {heard.chat.id}", asks=asks)
        # Over; or waiting for what cannot be asked here, as the answer says.
        return replace(now, status="completed", message=headline(answer), result=answer)

    async def answer(self, ctx: Ctx, held: Held, responses: Mapping[str, Any]) -> None:
        from inferencesh_mcp.flows import chatting
        from inferencesh_mcp.tools.deciding import askable, decided_elsewhere
        from inferencesh_mcp.tools.questioning import Reply, carried_out

        who = caller(ctx)
        heard = await _heard(who, held)
        for asked in askable(ctx, heard):
            given = responses.get(_key(asked))
            if given is None:
                continue
            send = carried_out(asked, Reply(_read(given), self._since_shown(who, asked, heard.chat)))
            if send is None:
                continue
            try:
                await chatting.give(who, heard.chat, asked.id, send)
            except Conflict:
                logger.info("%s was settled elsewhere", asked.id)
            except Forbidden as exc:
                decided_elsewhere(ctx, exc)

    async def cancel(self, ctx: Ctx, held: Held) -> None:
        who = caller(ctx)
        heard = await _heard(who, held)
        if not heard.over:  # a later turn of the chat is somebody else's
            with suppress(Conflict):
                await who.api.chats.stop_chat(heard.chat.id)

    def _asks(self, ctx: Ctx, who: Caller, heard: Heard) -> dict[str, InputRequest]:
        """All that the person is asked, each under the key of its question."""
        from inferencesh_mcp.tools.deciding import AT_PAGE, askable, needs_page, page, page_request

        asks: dict[str, InputRequest] = {}
        for asked in askable(ctx, heard):
            asks[_key(asked)] = asked.request
            self._first_shown.setdefault((who.principal, _key(asked)), time.monotonic())
        while len(self._first_shown) > REMEMBERED:
            self._first_shown.popitem(last=False)
        if needs_page(ctx, heard):
            name = f"page.{next((one.id for one in heard.waits_for if one.id), heard.chat.id)}"
            request = page_request(ctx, AT_PAGE, page(ctx, heard.chat.id), name)
            asks |= {name: request} if request else {}
        return asks

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
    from inferencesh_mcp.api.turns import Turn
    from inferencesh_mcp.flows.chatting import Heard

    chat = await who.api.chats.chat(held.of["chat"])
    heard = Heard(chat=chat, turn=Turn(**held.of["turn"]).seeing(chat), seconds=held.age)
    changes = [one.updated_at or one.created_at for one in heard.said]
    ends = [change.timestamp() - held.began for change in changes if change]
    # What a turn took is the same whenever it is looked at.
    return replace(heard, seconds=max(0.0, *ends)) if heard.over and ends else heard


def _key(asked: Question) -> str:
    return f"{asked.id}.{asked.digest[:32]}"


def _read(given: Any) -> ElicitResult:
    try:
        return ElicitResult.model_validate(given)
    except ValidationError as exc:
        raise InvalidInput(message="An answer is an action, and content where the action is accept.") from exc
