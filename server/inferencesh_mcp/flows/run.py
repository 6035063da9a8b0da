"""Run an app: from its input to its end or its hand-over. Also follows a task that runs already."""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from inferencesh_mcp.errors import Forbidden, InferenceError, KeyRefused, NotFound, OutcomeUnknown
from inferencesh_mcp.flows.cancel import cancel_abandoned_task
from inferencesh_mcp.flows.concurrency import optional_call
from inferencesh_mcp.flows.internal_errors import record_task
from inferencesh_mcp.flows.run_details import RunDetails, read_details
from inferencesh_mcp.flows.run_request import build_request, missing_requirements, prepare, version_of
from inferencesh_mcp.flows.start import start
from inferencesh_mcp.flows.upload import Uploads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from inferencesh_mcp.api.models import App, Estimate, RunRequest, Task
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.errors import Requirement
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.run_request import Prepared, RunSpec
    from inferencesh_mcp.flows.spend_limit import HandOver
    from inferencesh_mcp.flows.upload import Uploaded

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a call ended: with a task that has ended, or with one that goes on after the call."""

    task: Task
    seconds: float | None = None
    """How long this call took, if it is known."""
    app: str = ""
    details: RunDetails = field(default_factory=RunDetails)
    uploaded: tuple[Uploaded, ...] = ()
    """What the call uploaded for its inputs."""


async def run(caller: Caller, spec: RunSpec, report: Report, *, seconds: float) -> RunResult:
    """Validate, upload, start once, and follow the task to its end or until `seconds` of this call are over.

    Raises:
        InvalidInput: the input does not fit; nothing was uploaded or started.
        InferenceError: any other failure, with `outcome`, and `task_id` if there is a task.
    """
    began = time.monotonic()
    async with caller.runs.slot(caller.principal):
        with Uploads(caller.api, caller.folders, report) as uploads:
            with caller.runs.drain.before_start():
                prepared = await prepare(caller, spec, uploads)
                request = await build_request(prepared, uploads)
            async with within_limit(caller, {0: (prepared, request)}) as hand_over:
                seconds -= time.monotonic() - began
                result = await run_prepared(caller, prepared, request, report, partial(hand_over, 0), seconds=seconds)
    return replace(result, seconds=time.monotonic() - began, uploaded=uploads.sent)


async def run_prepared(
    caller: Caller,
    prepared: Prepared,
    request: RunRequest,
    report: Report,
    hand_over: Callable[[str], None],
    *,
    seconds: float,
    with_details: bool = True,
) -> RunResult:
    """Start a run and follow it, for a call that holds a slot. `hand_over` is called with the id of a task that goes on, or
    without one if the run may have started.

    If the caller leaves, the run is cancelled, so that it does not cost for nobody.
    """
    began = time.monotonic()
    try:
        task = await start(caller, request, prepared.app.id)
    except OutcomeUnknown:
        hand_over("")
        raise
    record_task(task.id)
    caller.runs.started_count += 1
    details = RunDetails()
    try:
        await anyio.lowlevel.checkpoint()  # a cancellation that came while the start was under way
        if seconds > 0 and not task.ended:
            task = await follow_task(caller, task, report, seconds)
        if with_details:
            details = await read_details(caller, task, partial(optional_estimate, caller, prepared, request))
    except anyio.get_cancelled_exc_class():
        await cancel_abandoned_task(caller, task)
        raise
    except InferenceError as exc:
        next_step = f'Follow it with task_get(task_id="{task.id}", wait_seconds=45); do not run it again.'
        raise exc.replace(outcome="started", task_id=task.id, retry_safe=False, next_step=next_step) from exc
    finally:
        if not task.ended:
            hand_over(task.id)
    return RunResult(task=task, seconds=time.monotonic() - began, app=str(prepared.spec.app), details=details)


@asynccontextmanager
async def within_limit(caller: Caller, runs: Mapping[int, tuple[Prepared, RunRequest]]) -> AsyncGenerator[HandOver]:
    """Let runs, by number, start inside the block if they are within the spend limit, or the person agrees.

    Raises:
        SpendLimitExceeded: neither; nothing was started.
    """
    async with AsyncExitStack() as stack:
        with caller.runs.drain.before_start():
            hold = caller.spend_limit.hold(caller.api, caller.principal, caller.confirm, runs)
            hand_over = await stack.enter_async_context(hold)
        yield hand_over


async def optional_estimate(caller: Caller, prepared: Prepared, request: RunRequest) -> Estimate | None:
    """What a run costs, as an answer about it adds: it neither delays nor fails the answer."""
    call = estimate(caller, prepared.spec.app, prepared.app, request.input, request.function)
    return await optional_call(call, f"estimate for {prepared.app.ref}")


async def dry_run(
    caller: Caller, spec: RunSpec, report: Report
) -> tuple[RunRequest, Estimate | None, tuple[Requirement, ...] | None]:
    """Do everything but start: return the request, the platform's estimate, and the requirements that are missing.

    Raises:
        InferenceError: a run would have been refused with it. Nothing was started.
    """
    with caller.runs.drain.before_start(), Uploads(caller.api, caller.folders, report) as uploads:
        prepared = await prepare(caller, spec, uploads)
        request = await build_request(prepared, uploads)
        app, function = prepared.app, prepared.function
        missing = await missing_requirements(caller, app, version_of(app), function)
        price = await estimate(caller, spec.app, app, request.input, request.function)
    return request, price, missing


async def estimate(caller: Caller, ref: AppRef, app: App, app_input: Any, function: str | None) -> Estimate | None:
    """The platform's estimate of what a run costs; None if it has none, or does not answer soon.

    Raises:
        InferenceError: the key may not see the app any more, so it must not be shown from the cache.
    """
    # The estimate is asked for by the app's id, which does not name the function that an alias pins.
    function = function or app.resolved_function or None
    refusals = () if app.visibility == "public" else (KeyRefused, Forbidden, NotFound)
    try:
        call = caller.api.estimate(app.id, app_input, function)
        return await optional_call(call, f"estimate for {app.ref}", reraise=refusals)
    except refusals:
        await caller.app_cache.app(caller.api, caller.principal, ref, fresh=True)
        return None


async def follow_task(caller: Caller, task: Task, report: Report, seconds: float) -> Task:
    """Follow a task for at most `seconds` and return its newest state. The task goes on afterwards."""
    report(task)
    with caller.runs.drain.deadline(seconds):
        async with caller.api.follow(task, stream=caller.stream, poll_interval=caller.poll_interval) as states:
            async for state in states:
                task = state
                report(task)
    if caller.runs.drain.is_stopping and not task.ended:
        logger.warning("task %s goes on without this server", task.id)
    return task
