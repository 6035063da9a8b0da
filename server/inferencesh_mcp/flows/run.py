"""One run of an app, from its input to its end or its hand-over; and following a task that runs already."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.models import Session
from inferencesh_mcp.errors import Forbidden, Gone, InferenceError, KeyRefused, NotFound
from inferencesh_mcp.flows.cancel import cancel_abandoned_task
from inferencesh_mcp.flows.concurrency import optional_call
from inferencesh_mcp.flows.run_request import build_request, function_of, missing_requirements, validate, version_of
from inferencesh_mcp.flows.start import start
from inferencesh_mcp.flows.started_ids import record_task

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import App, Estimate, RunRequest, Task
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.errors import Requirement
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.run_request import RunSpec
    from inferencesh_mcp.flows.upload import Uploads

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a call ended: a task that is over, or one that goes on without it."""

    task: Task
    seconds: float
    """How long this call took."""
    app: str = ""
    session: Session | None = None


async def run(caller: Caller, wanted: RunSpec, report: Report, *, seconds: float) -> RunResult:
    """Check, upload, start once, and follow to the end or until `seconds` of this call are over.

    Raises:
        InvalidInput: the input does not fit; nothing was uploaded or started.
        InferenceError: what else went wrong, with `outcome`, and `task_id` where there is one.
    """
    async with caller.runs.slot(caller.principal):
        return await run_in_slot(caller, wanted, report, seconds=seconds)


async def run_in_slot(
    caller: Caller, wanted: RunSpec, report: Report, *, seconds: float, uploads: Uploads | None = None
) -> RunResult:
    """The same, for who holds one of the caller's places already; `uploads` are those of the batch that it belongs to."""
    began = time.monotonic()
    try:
        app, request = await _prepared(caller, wanted, report, uploads)
    except InferenceError as exc:
        exc.outcome, exc.retry_safe = "not_started", True
        raise
    task = await start(caller, request, app.id)
    record_task(task.id)
    caller.runs.started += 1
    task, session = await _seen_off(caller, task, report, seconds - (time.monotonic() - began))
    return RunResult(task=task, seconds=time.monotonic() - began, app=str(wanted.app), session=session)


async def _prepared(caller: Caller, wanted: RunSpec, report: Report, uploads: Uploads | None) -> tuple[App, RunRequest]:
    """Everything that comes before the start; a server that is about to end does not get there."""
    with caller.runs.drain.deadline(math.inf):
        app, wanted = await validate(caller, wanted)
        request = await build_request(caller, app, wanted, report, uploads)
    caller.runs.drain.raise_if_started()
    return app, request


async def dry_run(
    caller: Caller, wanted: RunSpec, report: Report
) -> tuple[RunRequest, Estimate | None, tuple[Requirement, ...] | None]:
    """Do everything short of the run: return what would be sent, what the platform thinks it would cost, and what is missing.

    Raises:
        InferenceError: what a run would have been refused for. Nothing was started.
    """
    try:
        app, wanted = await validate(caller, wanted)
        request = await build_request(caller, app, wanted, report)
        missing = await missing_requirements(caller, app, version_of(app), function_of(app, wanted.app))
        return request, await estimate(caller, wanted.app, app, request.input, request.function), missing
    except InferenceError as exc:
        exc.outcome, exc.retry_safe = "not_started", True
        raise


async def estimate(caller: Caller, ref: AppRef, app: App, given: Any, function: str | None) -> Estimate | None:
    """What the platform thinks a run would cost; None where it does not say, or not soon. A price is a help, not a condition.

    Raises:
        InferenceError: it was refused, and so is the app, if it is read anew: it must not be shown from memory.
    """
    # By the app's id an alias is not seen, so the function that it pins is named.
    function = function or app.resolved_function or None
    refusals = () if app.visibility == "public" else (KeyRefused, Forbidden, NotFound)
    try:
        return await optional_call(
            caller.api.estimate(app.id, given, function), f"estimate for {app.ref}", reraise=refusals
        )
    except refusals:
        await caller.app_cache.app(caller.api, caller.principal, ref, fresh=True)
        return None


async def session_of(caller: Caller, task: Task) -> Session | None:
    """The session that a task used, which says when it expires. The run's own answer must not be lost over this."""
    if not task.session_id:
        return None
    try:
        return await optional_call(caller.api.session(task.session_id), f"session {task.session_id}", reraise=Gone)
    except Gone:
        return Session(id=task.session_id, status="ended")


async def follow_task(caller: Caller, task: Task, report: Report, seconds: float) -> Task:
    """Follow a task for at most `seconds` and return its newest state. Leaving does not stop it."""
    report(task)
    with caller.runs.drain.deadline(seconds):
        async with caller.api.follow(task, stream=caller.stream, poll_interval=caller.poll_interval) as states:
            async for state in states:
                task = state
                report(task)
    if caller.runs.drain.started and not task.ended:
        logger.warning("task %s goes on without this server", task.id)
    return task


async def _seen_off(caller: Caller, task: Task, report: Report, budget: float) -> tuple[Task, Session | None]:
    """Follow; and when nobody can receive the result any more, stop the run rather than let it cost (promise 3)."""
    try:
        await anyio.lowlevel.checkpoint()  # a cancellation that came while the start was under way
        if budget > 0 and not task.ended:
            task = await follow_task(caller, task, report, budget)
        return task, await session_of(caller, task)
    except anyio.get_cancelled_exc_class():
        await cancel_abandoned_task(caller, task)
        raise
    except InferenceError as exc:
        exc.outcome, exc.task_id, exc.retry_safe = "started", task.id, False
        raise
