"""`/sessions`: the held workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from inferencesh_sandbox.sessions import ensure_usable, find_session
from inferencesh_sandbox.wire import answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from inferencesh_sandbox.routes import Context
    from inferencesh_sandbox.sessions import Session


def sessions(context: Context) -> list[Route]:
    def requested(request: Request) -> Session:
        return find_session(context.tenants.of(request).sessions, request.path_params["session"])

    async def listed(request: Request) -> Response:
        active = [session.dto() for session in context.tenants.of(request).sessions if session.status == "active"]
        return answer(request, active)

    async def get(request: Request) -> Response:
        return answer(request, requested(request).dto())

    async def keepalive(request: Request) -> Response:
        session = ensure_usable(requested(request))
        session.touch()
        return answer(request, session.dto())

    async def end(request: Request) -> Response:
        ensure_usable(requested(request)).end()
        return Response(status_code=204)

    return [
        Route("/sessions", listed),
        Route("/sessions/{session}", get),
        Route("/sessions/{session}", end, methods=["DELETE"]),
        Route("/sessions/{session}/keepalive", keepalive, methods=["POST"]),
    ]
