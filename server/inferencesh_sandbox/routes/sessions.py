"""`/sessions`: the workers that are held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from inferencesh_sandbox.sessions import alive, found
from inferencesh_sandbox.wire import answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from inferencesh_sandbox.routes.context import Room
    from inferencesh_sandbox.sessions import Session


def sessions(room: Room) -> list[Route]:
    def asked_for(request: Request) -> Session:
        return found(room.tenants.of(request), request.path_params["session"])

    async def listed(request: Request) -> Response:
        active = [one.told() for one in room.tenants.of(request).sessions if one.status == "active"]
        return answer(request, active)

    async def one(request: Request) -> Response:
        return answer(request, asked_for(request).told())

    async def keepalive(request: Request) -> Response:
        session = alive(asked_for(request))
        session.touch()
        return answer(request, session.told())

    async def end(request: Request) -> Response:
        alive(asked_for(request)).end()
        return Response(status_code=204)

    return [
        Route("/sessions", listed),
        Route("/sessions/{session}", one),
        Route("/sessions/{session}", end, methods=["DELETE"]),
        Route("/sessions/{session}/keepalive", keepalive, methods=["POST"]),
    ]
