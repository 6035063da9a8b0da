"""Who asks, what they have connected, and whether anyone is there at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

from inferencesh_mcp.sandbox.naming import short
from inferencesh_mcp.sandbox.wire import Json, answer, body_of, objects_in

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_mcp.sandbox.routes.room import Room


def account(room: Room) -> list[Route]:
    async def me(request: Request) -> Response:
        tenant = room.tenants.of(request)
        name = f"sandbox-{short(tenant.user_id)}"
        told = {"id": tenant.user_id, "short_id": short(tenant.user_id), "team_id": tenant.team_id, "username": name}
        return answer(request, told | {"email": f"{name}@sandbox.invalid", "role": "user"})

    async def check(request: Request) -> Response:
        room.tenants.of(request)
        return answer(request, _checked(await body_of(request)))

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"ok": True, "name": "inferencesh-mcp sandbox"})

    return [
        Route("/me", me),
        Route("/credentials/check", check, methods=["POST"]),
        Route("/integrations/check", check, methods=["POST"]),
        Route("/healthz", healthz),
    ]


def _checked(asked: Json) -> Json:
    """Nothing is ever connected in the sandbox: what is required is missing, unless it is optional."""
    errors = [_missing("secret", one, "add_secret") for one in objects_in(asked, "secrets") if _needed(one)]
    errors += [_missing("integration", one, "connect") for one in objects_in(asked, "integrations") if _needed(one)]
    return {"satisfied": False, "errors": errors} if errors else {"satisfied": True}


def _needed(one: Json) -> bool:
    return not one.get("optional")


def _missing(kind: str, one: Json, action: str) -> Json:
    key = str(one.get("key") or "")
    provider = {"provider": key} if kind == "integration" else {}
    return {"type": kind, "key": key, "message": f"{kind} {key} is missing", "action": {"type": action, **provider}}
