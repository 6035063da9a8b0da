"""`/chats`: what was said, and what is being said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from inferencesh_sandbox.agent_requests import found
from inferencesh_sandbox.ledger import StopAsked
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.streams import as_events, as_ndjson, chat_lines
from inferencesh_sandbox.tenants import caller_of
from inferencesh_sandbox.wire import answer, body_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.routes.context import Room

_SEARCHED = ("id", "name", "description")


def chats(room: Room) -> list[Route]:
    def asked_for(request: Request) -> Chat:
        return found(room.tenants.of(request), request.path_params["chat"])

    async def listed(request: Request) -> Response:
        """List the chats that the caller began; those of agents with agents are named by their parents."""
        mine = [chat.told() for chat in reversed(list(room.tenants.of(request).chats)) if chat.parent is None]
        return answer(request, page(mine, await body_of(request), searched=_SEARCHED))

    async def one(request: Request) -> Response:
        return answer(request, asked_for(request).told(whole=True))

    async def update(request: Request) -> Response:
        chat, asked = asked_for(request), await body_of(request)
        chat.name = str(asked.get("name") or chat.name)
        chat.description = str(asked.get("description") or chat.description)
        chat.tell_chat()
        return answer(request, chat.told(whole=True))

    async def status(request: Request) -> Response:
        return answer(request, asked_for(request).status_told())

    async def said(request: Request) -> Response:
        """Page through the messages, the newest first."""
        asked = {"cursor": request.query_params.get("cursor"), "limit": _number(request.query_params.get("limit"))}
        told = [message.told() for message in reversed(asked_for(request).messages)]
        return answer(request, page(told, asked, searched=("id",)))

    async def trace(request: Request) -> Response:
        return answer(request, asked_for(request).traced())

    async def stop(request: Request) -> Response:
        """Stop what is under way; in a chat where nothing is, do nothing, as the SDKs promise."""
        chat = asked_for(request)
        if chat.busy:
            room.ledger.note(StopAsked(at=room.clock.now(), chat_id=chat.id, caller=caller_of(request)))
            room.conversations.stop(chat)
        return answer(request, chat.status_told())

    async def delete(request: Request) -> Response:
        chat = asked_for(request)
        room.conversations.stop(chat)
        chat.owner.chats.take(chat.id)
        chat.close()
        return Response(status_code=204)

    async def stream(request: Request) -> Response:
        told = chat_lines(asked_for(request), room.clock)
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(as_events(told), media_type="text/event-stream")
        return StreamingResponse(as_ndjson(told), media_type="application/x-ndjson")

    return [
        Route("/chats/list", listed, methods=["POST"]),
        Route("/chats/{chat}", one),
        Route("/chats/{chat}", update, methods=["POST"]),
        Route("/chats/{chat}", delete, methods=["DELETE"]),
        Route("/chats/{chat}/status", status),
        Route("/chats/{chat}/messages", said),
        Route("/chats/{chat}/trace", trace),
        Route("/chats/{chat}/stop", stop, methods=["POST"]),
        Route("/chats/{chat}/stream", stream),
    ]


def _number(told: str | None) -> int | str | None:
    return int(told) if told and told.isdigit() else told
