"""The sandbox with faults: `sandbox.faults.add(...)` breaks the next request that matches."""

from __future__ import annotations

from contextvars import ContextVar

import anyio
from starlette.datastructures import Headers

import inferencesh_sandbox
from inferencesh_sandbox import Clock, Facts
from inferencesh_sandbox.agent_loop import Conversations
from inferencesh_sandbox.apps.types import AppFailed
from inferencesh_sandbox.runs import Workers
from inferencesh_sandbox.tasks import Status
from tests.support.fault_wire import RECEIVE, broken
from tests.support.faults import EndAtOnce, Fault, Faults, Gate, LoseWorker, StayQueued, Twice

_WORKER_LOST = "worker lost: the machine that ran this task is gone"
_active: ContextVar[tuple[Fault | Gate, ...]] = ContextVar("active faults", default=())
"""The faults of the request under way; a task that the request starts inherits them."""


def _is_active(kind: type[Fault]) -> bool:
    return any(isinstance(fault, kind) for fault in _active.get())


class Sandbox(inferencesh_sandbox.Sandbox):
    """The sandbox with `faults`. Everything else is as in the package."""

    def __init__(self, clock: Clock | None = None, faults: Faults | None = None, *, facts: Facts | None = None) -> None:
        self.faults = faults or Faults()
        clock = clock or Clock()
        super().__init__(
            clock,
            facts=facts,
            middleware=lambda app: _FaultLayer(app, self.faults, clock),
            workers=_FaultyWorkers,
            conversations=_FaultyConversations,
        )
        self.app = _Connections(self.app)


class _Connections:
    """Keep uvicorn's own `receive` in the scope: a fault that breaks the connection needs it."""

    def __init__(self, app) -> None:
        self._app = app
        self.close = app.close

    async def __call__(self, scope, receive, send) -> None:
        scope[RECEIVE] = receive
        await self._app(scope, receive, send)


class _FaultLayer:
    def __init__(self, app, faults: Faults, clock: Clock) -> None:
        self._app = app
        self._faults = faults
        self._clock = clock

    async def __call__(self, scope, receive, send) -> None:
        app = self._app
        if scope["type"] == "http":
            faults = self._faults.taken_by(scope["method"], scope["path"], Headers(scope=scope))
            _active.set(tuple(faults))
            for fault in reversed(faults):
                app = broken(fault, app, self._clock)
        await app(scope, receive, send)


class _FaultyWorkers(Workers):
    def __init__(self, *parts) -> None:
        super().__init__(*parts)
        self._twins = {}

    async def take(self, order, owner, ledger):
        task = await super().take(order, owner, ledger)
        if _is_active(Twice):
            self._twins[task.id] = await super().take(order, owner, ledger)
        if _is_active(EndAtOnce):
            await self.carry_out(task)
        return task

    async def begin(self, task) -> None:
        for each in (task, self._twins.pop(task.id, None)):
            if each and not each.ended:
                await super().begin(each)

    async def _execute(self, task) -> None:
        if _is_active(StayQueued):
            task.move(Status.QUEUED)
            await anyio.sleep_forever()
        await super()._execute(task)

    async def _run_app(self, task):
        if not _is_active(LoseWorker):
            return await super()._run_app(task)
        if session := task.request.session:
            session.lost = True
            session.end()
        raise AppFailed(_WORKER_LOST)


class _FaultyConversations(Conversations):
    async def take(self, message, chat, caller):
        run = await super().take(message, chat, caller)
        if _is_active(EndAtOnce):
            await self.carry_out(run)
        return run

    async def carry_out(self, run) -> None:
        _active.set(())  # the faults of a message are not those of the tasks that its turn starts
        await super().carry_out(run)
