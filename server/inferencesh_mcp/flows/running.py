"""One run of an app, from its input to its end or its hand-over; and following a task that runs already."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio

from inferencesh_mcp.api.models import AppFunction, AppVersion, RunRequest
from inferencesh_mcp.errors import InferenceError, InvalidInput
from inferencesh_mcp.flows.checking import problems
from inferencesh_mcp.flows.starting import start
from inferencesh_mcp.flows.uploading import upload_all

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import App, Estimate, Task
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.flows import Caller, Report

CANCEL_GRACE = 5.0  # seconds for telling the platform that nobody waits any more (reliability D-5)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run as the caller asks for it; empty or None is the app's default."""

    app: AppRef
    input: dict[str, Any]
    setup: dict[str, Any] | None = None
    infra: Literal["cloud", "private", "private_first"] | None = None
    variant: str | None = None
    session: str | None = None
    session_timeout: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a call ended: a task that is over, or one that goes on without it."""

    task: Task
    seconds: float
    """How long this call took."""
    app: str = ""


async def run(caller: Caller, wanted: Wanted, report: Report, *, wait: bool = True) -> Ran:
    """Check, upload, start once, and follow to the end or for `wait_seconds`.

    Raises:
        InvalidInput: the input does not fit; nothing was uploaded or started.
        InferenceError: what else went wrong, with `outcome`, and `task_id` where there is one.
    """
    began = time.monotonic()
    with caller.live.place(caller.principal):
        try:
            app, request = await _prepared(caller, wanted, report)
        except InferenceError as exc:
            exc.outcome, exc.retry_safe = "not_started", True
            raise
        task = await start(caller, request, app.id)
        with caller.live.owning(caller.principal, task.id):
            budget = caller.wait_seconds - (time.monotonic() - began) if wait else 0
            task = await _followed_or_cancelled(caller, task, report, budget)
    return Ran(task=task, seconds=time.monotonic() - began, app=str(wanted.app))


async def rehearse(caller: Caller, wanted: Wanted, report: Report) -> tuple[RunRequest, Estimate | None]:
    """Do everything short of the run: return what would be sent and what the platform thinks it would cost."""
    app, request = await _prepared(caller, wanted, report)
    try:
        return request, await caller.api.estimate(app.id, request.input, request.function)
    except InferenceError as exc:  # a price is a help, not a condition
        logger.info("no estimate for %s: %s", wanted.app, exc.code)
        return request, None


async def attend(caller: Caller, task: Task, report: Report, seconds: float) -> Task:
    """Follow a task for at most `seconds` and return its newest state. Leaving does not stop it."""
    report(task)
    with anyio.move_on_after(seconds):
        async with caller.api.follow(task, stream=caller.stream, poll_interval=caller.poll_interval) as states:
            async for state in states:
                task = state
                report(task)
    return task


async def _followed_or_cancelled(caller: Caller, task: Task, report: Report, budget: float) -> Task:
    """Follow; and when nobody can receive the result any more, stop the run rather than let it cost (promise 3)."""
    seen = task
    try:
        await anyio.lowlevel.checkpoint()  # a cancellation that came while the start was under way
        if budget > 0 and not task.ended:
            return await attend(caller, task, report, budget)
    except anyio.get_cancelled_exc_class():
        await _resolve(caller, seen.id)
        raise
    except InferenceError as exc:
        exc.outcome, exc.task_id, exc.retry_safe = "started", task.id, False
        raise
    return task


async def _resolve(caller: Caller, task_id: str) -> None:
    """Bring a run that nobody waits for to the end that the operator chose, and say so."""
    if caller.on_cancel == "keep":
        logger.warning("task %s goes on without its caller", task_id)
        return
    with anyio.move_on_after(CANCEL_GRACE, shield=True) as grace:
        try:
            await caller.api.cancel(task_id)
            logger.warning("task %s was cancelled because its caller left", task_id)
        except InferenceError as exc:
            logger.error("task %s may still run: it could not be cancelled (%s)", task_id, exc.code)  # noqa: TRY400
    if grace.cancelled_caught:
        logger.error("task %s may still run: the cancel was not answered", task_id)


async def _prepared(caller: Caller, wanted: Wanted, report: Report) -> tuple[App, RunRequest]:
    app = await caller.catalogue.app(caller.api, caller.principal, wanted.app)
    wrong = _wrong(app, wanted)
    if wrong:  # perhaps with an older schema than the one in force
        app = await caller.catalogue.app(caller.api, caller.principal, wanted.app, fresh=True)
        wrong = _wrong(app, wanted)
    if wrong:
        raise InvalidInput(
            message=f"The input does not fit {wanted.app}: " + "; ".join(wrong) + ".",
            next_step=f'Correct these and call again; `app_get(app="{wanted.app}")` shows every field.',
        )
    function = function_of(app, wanted.app)
    value = await upload_all(caller.api, caller.folders, function.input_schema, wanted.input, report)
    return app, RunRequest(
        app=str(replace(wanted.app, function="")), input=value, setup=wanted.setup, function=wanted.app.function or None,
        infra=wanted.infra, variant=wanted.variant, session=wanted.session, session_timeout=wanted.session_timeout,
    )  # fmt: skip


def _wrong(app: App, wanted: Wanted) -> list[str]:
    version = version_of(app)
    found = problems(function_of(app, wanted.app).input_schema, wanted.input)
    if wanted.setup is not None:
        found += ["setup: " + problem for problem in problems(version.setup_schema, wanted.setup)]
    if wanted.variant and version.variants and wanted.variant not in version.variants:
        found.append(f"variant must be one of {', '.join(version.variants)}; got {wanted.variant}")
    if wanted.session_timeout is not None and (wanted.session != "new" or not 1 <= wanted.session_timeout <= 3600):
        found.append('session_timeout is 1 to 3600 seconds and goes with session="new" only')
    return found


def function_of(app: App, ref: AppRef) -> AppFunction:
    """The function that would run, with its own schema.

    Raises:
        InvalidInput: the app has no such function.
    """
    version = version_of(app)
    name = ref.function or version.default_function or "run"
    found = version.functions.get(name)
    if found is None and not ref.function:  # an app of one function says what it takes on the version itself
        return AppFunction(name=name, input_schema=version.input_schema, output_schema=version.output_schema)
    if found is None:
        known = ", ".join(version.functions) or "run"
        raise InvalidInput(message=f"{app.ref} has no function '{name}'.", next_step=f"Its functions: {known}.")
    return found


def version_of(app: App) -> AppVersion:
    """The version that was asked for; an app may come without one, and then its schemas are not known."""
    return app.version or AppVersion()
