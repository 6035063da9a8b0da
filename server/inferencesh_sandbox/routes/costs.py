"""`/billing`, `/usage`, `/entitlements/usage` and what a task cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from inferencesh_sandbox import costs as money
from inferencesh_sandbox.wire import answer, missing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.routes.context import Context


def costs(context: Context) -> list[Route]:
    async def account(request: Request) -> Response:
        balance = money.balance(context.tenants.of(request))
        return answer(request, {"balance": balance, "currency": "usd", "status": "active"})

    async def breakdown(request: Request) -> Response:
        tenant, span = context.tenants.of(request), request.query_params.get("range", "30d")
        return answer(request, money.breakdown(tenant, span, context.clock.now()))

    async def entitlement_usage(request: Request) -> Response:
        return answer(request, money.entitlement_usage(context.tenants.of(request)))

    async def cost(request: Request) -> Response:
        task_id = request.path_params["task"]
        task = context.tenants.of(request).tasks.get(task_id)
        if task is None:
            raise missing("task", task_id)
        return answer(request, money.cost_dto(task))

    return [
        Route("/billing", account),
        Route("/usage/breakdown", breakdown),
        Route("/entitlements/usage", entitlement_usage),
        Route("/tasks/{task}/cost", cost),
    ]
