"""Runs that go on: read upstream each time, and in the end shown as the tool that started them would have shown it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from inferencesh_mcp.context import caller
from inferencesh_mcp.errors import Conflict, InferenceError, NotFound
from inferencesh_mcp.flows import Counting, run
from inferencesh_mcp.flows.batch import Room
from inferencesh_mcp.mcp_tasks.types import Standing, headline
from inferencesh_mcp.tools.batch_result import batch
from inferencesh_mcp.tools.preview import with_preview
from inferencesh_mcp.tools.progress import status_line
from inferencesh_mcp.tools.results import run_result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from inferencesh_mcp.api.models import Task
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.mcp_tasks.types import Held

T = TypeVar("T")

AT_ONCE = 8  # tasks of a batch that are read at the same time


class Run:
    """One run of an app."""

    async def look(self, ctx: Ctx, held: Held) -> Standing:
        who = caller(ctx)
        task = await who.api.task(held.of["task"])
        seconds = _seconds(task, held)
        now = Standing(status="working", message=status_line(task, seconds), changed_at=task.updated_at)
        if not task.ended:
            return now
        session = await run.session_of(who, task)
        answer = run_result(task, app=held.of["app"], seconds=seconds, session=session)
        if task.status == "cancelled":
            return replace(now, status="cancelled", message=headline(answer))
        return replace(now, status="completed", message=headline(answer), result=await with_preview(ctx, answer))

    async def answer(self, ctx: Ctx, held: Held, responses: Mapping[str, Any]) -> None:
        """A run asks nothing."""

    async def cancel(self, ctx: Ctx, held: Held) -> None:
        with suppress(Conflict):  # it has ended
            await caller(ctx).api.cancel(held.of["task"])


class Batch:
    """Many runs of one app, all of which were started."""

    async def look(self, ctx: Ctx, held: Held) -> Standing:
        api, room = caller(ctx).api, Room()

        async def read(task_id: str) -> Task:
            return room.held(await api.task(task_id))

        found = await _each(held.of["tasks"], read)
        tasks = [task for task in found if not isinstance(task, InferenceError)]
        gone = [task for task in found if isinstance(task, NotFound)]
        if unread := next((exc for exc in found if isinstance(exc, InferenceError) and exc not in gone), None):
            raise unread
        latest = max(tasks, key=_changed_at, default=None)
        done = len(gone) + sum(task.ended for task in tasks)
        now = Standing(
            status="working",
            message=status_line(Counting(done, len(found), latest if done < len(found) else None), held.age),
            changed_at=_changed_at(latest) if latest else None,
        )
        if done < len(found):
            return now
        app = held.of["app"]
        ends = [
            one if isinstance(one, InferenceError) else run.Ran(task=one, seconds=_seconds(one, held), app=app)
            for one in found
        ]
        answer = batch(app, list(ends))
        if tasks and all(task.status == "cancelled" for task in tasks):
            return replace(now, status="cancelled", message=headline(answer))
        return replace(now, status="completed", message=headline(answer), result=answer)

    async def answer(self, ctx: Ctx, held: Held, responses: Mapping[str, Any]) -> None:
        """A batch asks nothing."""

    async def cancel(self, ctx: Ctx, held: Held) -> None:
        """Cancel each, whatever becomes of the others; then say what could not be cancelled."""
        found = await _each(held.of["tasks"], caller(ctx).api.cancel)
        if failed := next((exc for exc in found if exc and not isinstance(exc, (Conflict, NotFound))), None):
            raise failed


async def _each(task_ids: Sequence[str], call: Callable[[str], Awaitable[T]]) -> list[T | InferenceError]:
    """Make the same call for every task, some at a time; what failed is in the place of its answer."""
    found: dict[str, T | InferenceError] = {}
    room = anyio.CapacityLimiter(AT_ONCE)

    async def one(task_id: str) -> None:
        async with room:
            try:
                found[task_id] = await call(task_id)
            except InferenceError as exc:
                found[task_id] = exc

    async with anyio.create_task_group() as group:
        for task_id in task_ids:
            group.start_soon(one, task_id)
    return [found[task_id] for task_id in task_ids]


def _changed_at(task: Task) -> datetime:
    return task.updated_at or task.created_at or datetime.min.replace(tzinfo=UTC)


def _seconds(task: Task, held: Held) -> float:
    """How long a run took, or takes by now."""
    if task.ended and task.created_at and task.updated_at:
        return (task.updated_at - task.created_at).total_seconds()
    return held.age
