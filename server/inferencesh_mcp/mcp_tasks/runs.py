"""Runs and batches as MCP tasks. Their state is read upstream each time; the result is the one of the tool."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from inferencesh_mcp.context import caller_of
from inferencesh_mcp.errors import Conflict, InferenceError, NotFound
from inferencesh_mcp.flows import BatchProgress, run
from inferencesh_mcp.flows.batch import OutputBudget
from inferencesh_mcp.flows.concurrency import for_each
from inferencesh_mcp.flows.run_details import RunDetails, charges_of, elapsed_seconds, read_details
from inferencesh_mcp.mcp_tasks.extension import TaskState
from inferencesh_mcp.tools.batch_result import batch_result
from inferencesh_mcp.tools.preview import with_preview
from inferencesh_mcp.tools.progress import status_line
from inferencesh_mcp.tools.results import run_result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from inferencesh_mcp.api.models import Task
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows.batch import End
    from inferencesh_mcp.mcp_tasks.task_id import TaskHandle

T = TypeVar("T")


class Run:
    """One run of an app."""

    async def read(self, ctx: Ctx, handle: TaskHandle) -> TaskState:
        caller = caller_of(ctx)
        task = await caller.api.task(handle.upstream_ids["task"])
        seconds = elapsed_seconds(task, caller.api.now())
        state = TaskState(
            status="working",
            message=status_line(task, handle.age if seconds is None else seconds),
            changed_at=task.updated_at,
        )
        if not task.ended:
            return state
        details = await read_details(caller, task)
        result = run_result(run.RunResult(task=task, app=handle.upstream_ids["app"], details=details))
        cancelled = task.status == "cancelled"
        return state.ended(result if cancelled else await with_preview(ctx, caller, result), cancelled=cancelled)

    async def answer(self, ctx: Ctx, handle: TaskHandle, responses: Mapping[str, Any]) -> None:
        """A run asks nothing."""

    async def cancel(self, ctx: Ctx, handle: TaskHandle) -> None:
        with suppress(Conflict):  # it has ended
            await caller_of(ctx).api.cancel(handle.upstream_ids["task"])


class Batch:
    """Many runs of one app, all of which were started."""

    async def read(self, ctx: Ctx, handle: TaskHandle) -> TaskState:
        api, memory = caller_of(ctx).api, OutputBudget()

        async def read_task(task_id: str) -> Task:
            return memory.trimmed(await api.task(task_id))

        results = await _call_all(handle.upstream_ids["tasks"], read_task)
        tasks = [task for task in results if not isinstance(task, InferenceError)]
        missing = [task for task in results if isinstance(task, NotFound)]
        if error := next((exc for exc in results if isinstance(exc, InferenceError) and exc not in missing), None):
            raise error
        latest = max(tasks, key=_changed_at, default=None)
        finished = len(missing) + sum(task.ended for task in tasks)
        state = TaskState(
            status="working",
            message=status_line(
                BatchProgress(finished, len(results), latest if finished < len(results) else None), handle.age
            ),
            changed_at=_changed_at(latest) if latest else None,
        )
        if finished < len(results):
            return state
        app, charges = handle.upstream_ids["app"], await charges_of(caller_of(ctx), tasks)
        outcomes: list[End] = [
            result
            if isinstance(result, InferenceError)
            else run.RunResult(task=result, app=app, details=RunDetails(charge=charges.get(result.id)))
            for result in results
        ]
        all_cancelled = bool(tasks) and all(task.status == "cancelled" for task in tasks)
        return state.ended(batch_result(app, outcomes), cancelled=all_cancelled)

    async def answer(self, ctx: Ctx, handle: TaskHandle, responses: Mapping[str, Any]) -> None:
        """A batch asks nothing."""

    async def cancel(self, ctx: Ctx, handle: TaskHandle) -> None:
        """Cancel every run, and then raise the first error other than `Conflict` and `NotFound`."""
        results = await _call_all(handle.upstream_ids["tasks"], caller_of(ctx).api.cancel)
        if failed := next((exc for exc in results if exc and not isinstance(exc, (Conflict, NotFound))), None):
            raise failed


async def _call_all(task_ids: Sequence[str], call: Callable[[str], Awaitable[T]]) -> list[T | InferenceError]:
    """Make a call for every task, some at a time. The error of a failed call stands in place of its result."""
    results: dict[str, T | InferenceError] = {}

    async def call_one(task_id: str) -> None:
        try:
            results[task_id] = await call(task_id)
        except InferenceError as exc:
            results[task_id] = exc

    await for_each(task_ids, call_one)
    return [results[task_id] for task_id in task_ids]


def _changed_at(task: Task) -> datetime:
    return task.updated_at or task.created_at or datetime.min.replace(tzinfo=UTC)
