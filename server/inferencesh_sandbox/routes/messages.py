"""`POST /agents/run`, and its other names: a message is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.background import BackgroundTask
from starlette.routing import Route

from inferencesh_sandbox.agent_requests import asked_in, chat_for, found, opened
from inferencesh_sandbox.ledger import MessageTakenBack
from inferencesh_sandbox.tenants import caller_of
from inferencesh_sandbox.wire import Json, answer, base_of, body_of, missing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.messages import Run
    from inferencesh_sandbox.routes.context import Room


def messages(room: Room) -> list[Route]:
    async def run(request: Request) -> Response:
        asked = await body_of(request)
        chat = chat_for(room.tenants.of(request), asked)
        return await sent(request, chat, asked)

    async def start(request: Request) -> Response:
        """Begin a chat: with a first message, or without one, as the JS SDK's React half does."""
        asked = await body_of(request)
        if asked.get("input"):
            return await sent(request, None, asked)
        return answer(request, opened(room.tenants.of(request), room.clock, asked).told(whole=True))

    async def say(request: Request) -> Response:
        """Say something in a chat. Asked with `message` alone, the answer is the person's message alone."""
        asked = await body_of(request)
        chat = found(room.tenants.of(request), request.path_params["chat"])
        plainly = "input" not in asked and isinstance(asked.get("message"), str)
        if plainly:
            asked = {"input": {"text": asked["message"]}}
        return await sent(request, chat, asked, plainly=plainly)

    async def sent(request: Request, chat: Chat | None, asked: Json, *, plainly: bool = False) -> Response:
        message = asked_in(asked, chat, base=base_of(request), facts=room.tenants.facts)
        chat = chat or opened(room.tenants.of(request), room.clock, asked)
        run = await room.conversations.take(message, chat, caller_of(request))
        told = run.user_message.told() if plainly else _both(run)
        # The turn begins once the answer is out, so that the assistant's message is always told as pending.
        return answer(request, told, after=BackgroundTask(room.conversations.begin, run))

    async def take_back(request: Request) -> Response:
        name = request.path_params["message"]
        there = ((chat, chat.message(name)) for chat in room.tenants.of(request).chats)
        chat, message = next(((chat, one) for chat, one in there if one), (None, None))
        if chat is None or message is None:
            raise missing("message", name)
        chat.take_back(message)
        room.ledger.note(
            MessageTakenBack(at=room.clock.now(), chat_id=chat.id, message_id=message.id, caller=caller_of(request))
        )
        return answer(request, message.told())

    return [
        Route("/agents/run", run, methods=["POST"]),
        Route("/agents/message", run, methods=["POST"]),
        Route("/agents/messages", run, methods=["POST"]),
        Route("/chats", start, methods=["POST"]),
        Route("/chats/{chat}/messages", say, methods=["POST"]),
        Route("/chats/messages/{message}/cancel", take_back, methods=["POST"]),
    ]


def _both(run: Run) -> Json:
    return {"user_message": run.user_message.told(), "assistant_message": run.first.told()}
