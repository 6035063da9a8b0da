"""`/chats`: chats, their messages and their streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from inferencesh_sandbox import streams
from inferencesh_sandbox.agent_requests import find_chat
from inferencesh_sandbox.ledger import StopRequested
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.tenants import caller_of
from inferencesh_sandbox.wire import answer, body_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.routes import Context

_SEARCHED = ("id", "name", "description")


def chats(context: Context) -> list[Route]:
    async def listed(request: Request) -> Response:
        """List the caller's chats, without the chats between agents."""
        chats_of_caller = [
            chat.dto() for chat in reversed(list(context.tenants.of(request).chats)) if chat.parent is None
        ]
        return answer(request, page(chats_of_caller, await body_of(request), searched=_SEARCHED))

    async def get(request: Request) -> Response:
        return answer(request, _requested(context, request).dto(with_messages=True))

    async def update(request: Request) -> Response:
        chat, body = _requested(context, request), await body_of(request)
        chat.name = str(body.get("name") or chat.name)
        chat.description = str(body.get("description") or chat.description)
        chat.publish_chat()
        return answer(request, chat.dto(with_messages=True))

    async def status(request: Request) -> Response:
        return answer(request, _requested(context, request).status_dto())

    return [
        Route("/chats/list", listed, methods=["POST"]),
        Route("/chats/{chat}", get),
        Route("/chats/{chat}", update, methods=["POST"]),
        Route("/chats/{chat}/status", status),
    ]


def chat_turns(context: Context) -> list[Route]:
    """The turns of a chat: follow, stop and read them."""

    async def stop(request: Request) -> Response:
        """Stop the current turn. An idle chat stays as it is, as the SDKs promise."""
        chat = _requested(context, request)
        if chat.busy:
            context.ledger.note(StopRequested(chat_id=chat.id, caller=caller_of(request)))
            context.conversations.stop(chat)
        return answer(request, chat.status_dto())

    async def delete(request: Request) -> Response:
        chat = _requested(context, request)
        context.conversations.stop(chat)
        context.tenants.of(request).chats.remove(chat.id)
        chat.streams.close()
        return Response(status_code=204)

    async def stream(request: Request) -> Response:
        return streams.response(request, _requested(context, request).streams.lines(context.clock))

    async def listed_messages(request: Request) -> Response:
        """Page through the messages, the newest first."""
        body = {"cursor": request.query_params.get("cursor"), "limit": _number(request.query_params.get("limit"))}
        records = [message.dto() for message in reversed(_requested(context, request).messages)]
        return answer(request, page(records, body, searched=("id",)))

    async def trace(request: Request) -> Response:
        return answer(request, _requested(context, request).trace_dto())

    return [
        Route("/chats/{chat}", delete, methods=["DELETE"]),
        Route("/chats/{chat}/messages", listed_messages),
        Route("/chats/{chat}/trace", trace),
        Route("/chats/{chat}/stop", stop, methods=["POST"]),
        Route("/chats/{chat}/stream", stream),
    ]


def _requested(context: Context, request: Request) -> Chat:
    return find_chat(context.tenants.of(request), request.path_params["chat"])


def _number(text: str | None) -> int | str | None:
    return int(text) if text and text.isdigit() else text
