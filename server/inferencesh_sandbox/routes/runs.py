"""`POST /apps/run`: start a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.background import BackgroundTask
from starlette.routing import Route

from inferencesh_sandbox.run_requests import parse_run_request
from inferencesh_sandbox.wire import Json, answer, base_of, body_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.routes.context import Context
    from inferencesh_sandbox.tasks import Task


def runs(context: Context) -> list[Route]:
    def dto(task: Task) -> Json:
        return task.run_dto() if context.facts.slim_run_answers else task.dto()

    async def run(request: Request) -> Response:
        tenant = context.tenants.of(request)
        run_request = parse_run_request(
            await body_of(request), tenant=tenant, clock=context.clock, base=base_of(request)
        )
        task = await context.workers.take(run_request, tenant, context.ledger)
        # Start after the answer: an SDK that polls compares with the status in that answer.
        return answer(request, dto(task), after=BackgroundTask(context.workers.begin, task))

    return [Route("/apps/run", run, methods=["POST"]), Route("/run", run, methods=["POST"])]
