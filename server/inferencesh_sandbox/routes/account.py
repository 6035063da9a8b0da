"""`/me`, the integrations and the health check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

from inferencesh_sandbox.apps import APPS
from inferencesh_sandbox.costs import PERSON_SCOPES, SCOPES
from inferencesh_sandbox.ids import short
from inferencesh_sandbox.tenants import is_person
from inferencesh_sandbox.wire import Json, answer, body_of, objects_in

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.routes.context import Context


_CONNECTIONS = {False: ("credential", "slug", "credentials"), True: ("integration", "key", "integrations")}
"""How a connection is called, by whether the older names hold: its type, its name's field, the list of them."""


def account(context: Context) -> list[Route]:
    async def me(request: Request) -> Response:
        tenant = context.tenants.of(request)
        name = f"sandbox-{short(tenant.user_id)}"
        user = {"id": tenant.user_id, "short_id": short(tenant.user_id), "team_id": tenant.team_id, "username": name}
        user |= {"email": f"{name}@sandbox.invalid", "role": "user"}
        team = {"id": tenant.team_id, "username": name, "name": "Sandbox"}
        scopes = PERSON_SCOPES if is_person(request) else SCOPES
        me = {"user": user, "team": team, "personal_team_id": tenant.team_id, "scopes": list(scopes)}
        return answer(request, user | me)

    async def check(request: Request) -> Response:
        context.tenants.of(request)
        kind, name, listed = _CONNECTIONS[context.facts.named_integrations]
        body = await body_of(request)
        errors = [
            _missing("secret", str(requirement.get("key") or ""))
            for requirement in objects_in(body, "secrets")
            if _needed(requirement)
        ]
        errors += [
            _missing(kind, str(requirement.get(name) or ""))
            for requirement in objects_in(body, listed)
            if _needed(requirement)
        ]
        return answer(request, {"satisfied": False, "errors": errors} if errors else {"satisfied": True})

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"ok": True, "name": "inferencesh-mcp sandbox"})

    return [
        Route("/me", me),
        Route("/credentials/check", check, methods=["POST"]),
        Route("/integrations/check", check, methods=["POST"]),
        Route("/healthz", healthz),
    ]


def _needed(requirement: Json) -> bool:
    return not requirement.get("optional")


def _missing(kind: str, key: str) -> Json:
    """An error for a requirement. The sandbox has no connections, so each requirement is missing."""
    requirement = next(
        (requirement for app in APPS for requirement in app.requirements if requirement["key"] == key), None
    )
    if requirement is not None:
        return {**requirement, "type": kind}
    action = {"type": "add_secret", "secrets": [key]} if kind == "secret" else {"type": "connect", "provider": key}
    return {"type": kind, "key": key, "message": f"{kind} {key} is missing", "action": action}
