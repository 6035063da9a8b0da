"""`POST /agents/run` and its aliases: send a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.background import BackgroundTask
from starlette.routing import Route

from inferencesh_sandbox.agent_requests import chat_for, create_chat, find_chat, message_in
from inferencesh_sandbox.tenants import caller_of
from inferencesh_sandbox.wire import Json, answer, base_of, body_of, missing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.chats import Chat, Run
    from inferencesh_sandbox.routes import Context


def messages(context: Context) -> list[Route]:
    async def run(request: Request) -> Response:
        body = await body_of(request)
        chat = chat_for(context.tenants.of(request), body)
        return await sent(request, chat, body)

    async def start(request: Request) -> Response:
        """Start a chat, with or without a first message. The JS SDK's React part sends none."""
        body = await body_of(request)
        if body.get("input"):
            return await sent(request, None, body)
        return answer(request, create_chat(context.tenants.of(request), context.clock, body).dto(with_messages=True))

    async def send(request: Request) -> Response:
        """Send a message to a chat. If the body has `message` alone, answer with the user's message alone."""
        body = await body_of(request)
        chat = find_chat(context.tenants.of(request), request.path_params["chat"])
        user_message_only = "input" not in body and isinstance(body.get("message"), str)
        if user_message_only:
            body = {"input": {"text": body["message"]}}
        return await sent(request, chat, body, user_message_only=user_message_only)

    async def sent(request: Request, chat: Chat | None, body: Json, *, user_message_only: bool = False) -> Response:
        message = message_in(body, chat, base=base_of(request), facts=context.tenants.facts)
        chat = chat or create_chat(context.tenants.of(request), context.clock, body)
        run = await context.conversations.take(message, chat, caller_of(request))
        data = run.user_message.dto() if user_message_only else _sent_dto(run)
        # The turn begins after the answer, so that the answer always shows the assistant's message as pending.
        return answer(request, data, after=BackgroundTask(context.conversations.begin, run))

    async def withdraw(request: Request) -> Response:
        name = request.path_params["message"]
        pairs = ((chat, chat.message(name)) for chat in context.tenants.of(request).chats)
        chat, message = next(((chat, message) for chat, message in pairs if message), (None, None))
        if chat is None or message is None:
            raise missing("message", name)
        chat.withdraw(message)
        return answer(request, message.dto())

    return [
        Route("/agents/run", run, methods=["POST"]),
        Route("/agents/message", run, methods=["POST"]),
        Route("/agents/messages", run, methods=["POST"]),
        Route("/chats", start, methods=["POST"]),
        Route("/chats/{chat}/messages", send, methods=["POST"]),
        Route("/chats/messages/{message}/cancel", withdraw, methods=["POST"]),
    ]


def _sent_dto(run: Run) -> Json:
    return {"user_message": run.user_message.dto(), "assistant_message": run.first.dto()}
