"""`/me`, `/billing`, `/usage`, `/entitlements`, what a task cost, the integrations and the health check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

from inferencesh_sandbox import costs
from inferencesh_sandbox.apps import APPS
from inferencesh_sandbox.ids import short
from inferencesh_sandbox.tenants import is_person
from inferencesh_sandbox.wire import Json, answer, body_of, missing, objects_in

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.routes import Context


_CONNECTIONS = {False: ("credential", "slug", "credentials"), True: ("integration", "key", "integrations")}
"""How a connection is called, by whether the older names hold: its type, its name's field, the list of them."""


def account(context: Context) -> list[Route]:
    async def me(request: Request) -> Response:
        tenant = context.tenants.of(request)
        name = f"sandbox-{short(tenant.user_id)}"
        user = {"id": tenant.user_id, "short_id": short(tenant.user_id), "team_id": tenant.team_id, "username": name}
        user |= {"email": f"{name}@sandbox.invalid", "role": "user"}
        team = {"id": tenant.team_id, "username": name, "name": "Sandbox"}
        scopes = costs.PERSON_SCOPES if is_person(request) else costs.SCOPES
        me = {"user": user, "team": team, "personal_team_id": tenant.team_id, "scopes": list(scopes)}
        return answer(request, user | me)

    async def check(request: Request) -> Response:
        context.tenants.of(request)
        body = await body_of(request)
        errors = [
            _missing(kind, str(requirement.get(name) or ""))
            for kind, name, field in (("secret", "key", "secrets"), _CONNECTIONS[context.facts.named_integrations])
            for requirement in objects_in(body, field)
            if not requirement.get("optional")
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


def money(context: Context) -> list[Route]:
    """The balance, the spending and the limits."""

    async def billing(request: Request) -> Response:
        balance = costs.balance(context.tenants.of(request))
        return answer(request, {"balance": balance, "currency": "usd", "status": "active"})

    async def balance(request: Request) -> Response:
        return answer(request, {"balance": costs.balance(context.tenants.of(request))})

    async def breakdown(request: Request) -> Response:
        tenant, span = context.tenants.of(request), request.query_params.get("range", "30d")
        return answer(request, costs.breakdown(tenant, span, context.clock.now()))

    async def entitlements(request: Request) -> Response:
        return answer(request, costs.entitlements(context.tenants.of(request), usage=False))

    async def entitlement_usage(request: Request) -> Response:
        return answer(request, costs.entitlements(context.tenants.of(request), usage=True))

    async def cost(request: Request) -> Response:
        task_id = request.path_params["task"]
        task = context.tenants.of(request).tasks.get(task_id)
        if task is None:
            raise missing("task", task_id)
        return answer(request, costs.cost_dto(task))

    return [
        Route("/billing", billing),
        Route("/billing/balance", balance),
        Route("/usage/breakdown", breakdown),
        Route("/entitlements", entitlements),
        Route("/entitlements/usage", entitlement_usage),
        Route("/tasks/{task}/cost", cost),
    ]


def _missing(kind: str, key: str) -> Json:
    """An error for a requirement. The sandbox has no connections, so each requirement is missing."""
    requirement = next(
        (requirement for app in APPS for requirement in app.requirements if requirement["key"] == key), None
    )
    if requirement is not None:
        return {**requirement, "type": kind}
    action = {"type": "add_secret", "secrets": [key]} if kind == "secret" else {"type": "connect", "provider": key}
    return {"type": kind, "key": key, "message": f"{kind} {key} is missing", "action": action}
