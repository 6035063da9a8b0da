"""Workers: they take a task through its statuses and run its app."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVarTuple

import anyio

from inferencesh_sandbox.app_process import AppRuntime
from inferencesh_sandbox.apps.types import AppFailed
from inferencesh_sandbox.ledger import Started
from inferencesh_sandbox.tasks import Status, Task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

    from anyio.abc import TaskGroup

    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.files import Store
    from inferencesh_sandbox.ledger import Ledger
    from inferencesh_sandbox.tasks import RunRequest
    from inferencesh_sandbox.tenants import Tenant

Args = TypeVarTuple("Args")

_ON_THE_WAY = (Status.DISPATCHED, Status.PREPARING, Status.SERVING, Status.SETTING_UP, Status.RUNNING)


class Workers:
    """Run tasks for as long as the sandbox is open."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._group: TaskGroup | None = None

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[None]:
        """Accept tasks inside the block. Tasks that still run at its end are cancelled."""
        async with anyio.create_task_group() as self._group:
            yield
            self._group.cancel_scope.cancel()

    def spawn(self, work: Callable[[*Args], Coroutine[Any, Any, None]], *args: *Args) -> None:
        """Run a coroutine in the background while the sandbox is open."""
        if self._group is None:
            raise RuntimeError("the sandbox is not open: serve it, or run its lifespan")
        self._group.start_soon(work, *args)

    async def take(self, request: RunRequest, owner: Tenant, ledger: Ledger) -> Task:
        """Create a task and occupy its session."""
        task = Task(request=request, owner=owner, clock=self._clock, ledger=ledger)
        owner.tasks.put(task.id, task)
        if request.session:
            owner.sessions.put(request.session.id, request.session)
            request.session.begin(task.id)
        ledger.note(Started(task_id=task.id, app=request.app.ref, caller=owner.caller))
        return task

    async def begin(self, task: Task) -> None:
        """Start a task and return at once. Call it when the answer about the task has been sent."""
        self.spawn(self.carry_out, task)

    async def carry_out(self, task: Task) -> None:
        """Run one task until it is completed, failed or cancelled."""
        with task.scope:
            try:
                await self._execute(task)
            except AppFailed as exc:
                task.end(Status.FAILED, error=str(exc))
            except Exception as exc:  # noqa: BLE001 - one broken app must not stop the others; the task shows the error
                task.end(Status.FAILED, error=f"the app broke: {type(exc).__name__}: {exc}")
        if not task.ended:
            task.end(Status.CANCELLED)
        if task.request.session:
            task.request.session.finish()

    async def _execute(self, task: Task) -> None:
        task.move(Status.QUEUED)
        if task.request.run_at:
            await self._clock.sleep((task.request.run_at - self._clock.now()).total_seconds())
        async with task.request.session.turn if task.request.session else nullcontext():
            await self._on_a_worker(task)

    async def _on_a_worker(self, task: Task) -> None:
        for status in _ON_THE_WAY:
            await self._clock.sleep(task.request.app.pace)
            task.move(status)
        output = await self._run_app(task)
        task.move(Status.UPLOADING)
        await self._clock.sleep(task.request.app.pace)
        task.end(Status.COMPLETED, output=dict(output))

    async def _run_app(self, task: Task) -> Mapping[str, Any]:
        memory = task.request.session.memory if task.request.session else {}
        return await task.request.function.run(AppRuntime(task, self._store, memory), task.request.inputs)
