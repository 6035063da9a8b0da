"""`POST /apps/run`: a task begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.background import BackgroundTask
from starlette.routing import Route

from inferencesh_mcp.sandbox.faults import EndAtOnce, Twice
from inferencesh_mcp.sandbox.ledger import Started
from inferencesh_mcp.sandbox.ordering import ordered
from inferencesh_mcp.sandbox.tasks import Order, Task
from inferencesh_mcp.sandbox.wire import answer, base_of, body_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_mcp.sandbox.faults import Fault
    from inferencesh_mcp.sandbox.routes.room import Room
    from inferencesh_mcp.sandbox.tenants import Tenant


def runs(room: Room) -> list[Route]:
    async def run(request: Request) -> Response:
        tenant = room.tenants.of(request)
        order = ordered(await body_of(request), tenant=tenant, clock=room.clock, base=base_of(request))
        faults: list[Fault] = request.scope["sandbox.faults"]
        made = [_made(room, tenant, order) for _ in range(2 if _among(faults, Twice) else 1)]
        if _among(faults, EndAtOnce):
            await room.workers.carry_out(made[0], faults)
            return answer(request, made[0].told())
        # The work begins once the answer is out: an SDK that polls compares with the status in that answer.
        return answer(request, made[0].told(), after=BackgroundTask(room.workers.begin, made, faults))

    return [Route("/apps/run", run, methods=["POST"]), Route("/run", run, methods=["POST"])]


def _made(room: Room, tenant: Tenant, order: Order) -> Task:
    task = Task(order=order, owner=tenant, clock=room.clock, ledger=room.ledger)
    tenant.tasks.put(task.id, task)
    if order.session:
        tenant.sessions.put(order.session.id, order.session)
        order.session.begin(task.id)
    room.ledger.note(Started(at=room.clock.now(), task_id=task.id, app=order.app.ref, caller=tenant.caller))
    return task


def _among(faults: list[Fault], kind: type[Fault]) -> bool:
    return any(isinstance(fault, kind) for fault in faults)
