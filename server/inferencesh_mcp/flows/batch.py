"""Many inputs through one app: so many at a time, one outcome for each in order, and none started after the end."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.models import Task
from inferencesh_mcp.errors import InferenceError, InvalidInput, Outcome, WaitError
from inferencesh_mcp.flows import BatchProgress, Transfer
from inferencesh_mcp.flows.cancel import cancel_abandoned_run, cancel_abandoned_task, log_abandoned_candidates
from inferencesh_mcp.flows.run import RunResult, run_in_slot
from inferencesh_mcp.flows.run_request import validate
from inferencesh_mcp.flows.started_ids import collect_started_ids
from inferencesh_mcp.internal_errors import internal_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh_mcp.flows import Caller, Report, State
    from inferencesh_mcp.flows.run_request import RunSpec

MOST_KEPT = 16 * 1024 * 1024  # characters of all outputs that are held for one answer, which shows a hundredth of that
MOST_PROBLEMS = 5  # inputs whose mistakes are told at once


class Room:
    """How much is held of what a batch's tasks gave back, however many they are and however much it is."""

    def __init__(self) -> None:
        self._left = MOST_KEPT

    def held(self, task: Task) -> Task:
        """The task as an answer needs it. An output that there is no room for stays where it is; the answer says how to get it."""
        output, size = task.output, len(json.dumps(task.output, default=str))
        if size > self._left:
            output = None
        else:
            self._left -= size
        return task.model_copy(update={"output": output, "input": None, "setup": None, "app": None, "logs": ()})


@dataclass(frozen=True)
class Skipped:
    """An input whose turn did not come before the call had to answer."""


End = RunResult | InferenceError | Skipped
"""How one input ended: it ran (or still runs), it failed, or it was not started."""


async def run_many(
    caller: Caller, wanted: Sequence[RunSpec], report: Report, *, most: int, seconds: float, follow: bool = True
) -> list[End]:
    """Check all, then run all, at most `most` at once, or as many as the caller has places for.

    Past `seconds` no more are started, and what runs is handed over. Without `follow` nothing is waited for: each is
    started and handed over.

    A failed one does not stop the rest. When the caller leaves, what runs is cancelled and nothing more is started.

    Raises:
        InvalidInput: inputs that do not fit, by their number; nothing was started.
        RateLimited, Unavailable: there is no place for even one of them; nothing was started.
    """
    began = time.monotonic()
    report(BatchProgress(0, len(wanted), None))
    async with caller.runs.slot(caller.principal):
        await _check(caller, wanted)
        batch = _Batch(caller, wanted, report, end=began + seconds, follow=follow)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(batch.work)
                for _ in range(min(most, len(wanted)) - 1):
                    group.start_soon(batch.help)
        except anyio.get_cancelled_exc_class():
            await batch.leave()
            raise
    return batch.ends


async def _check(caller: Caller, wanted: Sequence[RunSpec]) -> None:
    from inferencesh_mcp.schema.validate import ValidationBudget  # brings jsonschema along

    work = ValidationBudget()
    wrong: list[str] = []
    for number, one in enumerate(wanted):
        await anyio.lowlevel.checkpoint()  # others' turn, and a cancellation's: an app that is known is not waited for
        try:
            await validate(caller, one, reread=not wrong, work=work)
        except InferenceError as exc:
            if not isinstance(exc, InvalidInput):
                exc.outcome, exc.retry_safe = "not_started", True
                raise
            wrong.append(f"inputs.{number}: {exc.message}")
    if wrong:
        more = f" (and {len(wrong) - MOST_PROBLEMS} more)" if len(wrong) > MOST_PROBLEMS else ""
        raise InvalidInput(
            message=" ".join(wrong[:MOST_PROBLEMS]) + more,
            next_step="Correct them and call again; none was started.",
            outcome="not_started",
            retry_safe=True,
        )


class _Batch:
    """What the workers share: the inputs still to come, and how those that came ended."""

    def __init__(self, caller: Caller, wanted: Sequence[RunSpec], report: Report, *, end: float, follow: bool) -> None:
        from inferencesh_mcp.flows.upload import Uploads

        self.ends: list[End] = [Skipped()] * len(wanted)
        self._caller = caller
        self._app = str(wanted[0].app)
        self._coming = iter(enumerate(wanted))
        self._report = report
        self._total = len(wanted)
        self._done = 0
        self._room = Room()
        self._end = end
        self._follow = follow
        self._uploads = Uploads()

    async def work(self) -> None:
        """Run one input after another until none is left or the time is over."""
        drain = self._caller.runs.drain
        while (
            not drain.started
            and (seconds := self._end - time.monotonic()) > 0
            and (following := next(self._coming, None))
        ):
            number, wanted = following
            self.ends[number] = await self._end_of(wanted, seconds if self._follow else 0)
            self._done += 1
            self._heard(None)

    async def _end_of(self, wanted: RunSpec, seconds: float) -> End:
        with collect_started_ids() as started:
            try:
                ran = await run_in_slot(self._caller, wanted, self._heard, seconds=seconds, uploads=self._uploads)
                return replace(ran, task=self._room.held(ran.task))
            except InferenceError as exc:
                return exc
            except Exception as exc:  # noqa: BLE001 - the other inputs must not be lost over it
                known = started.tasks[0] if started.tasks else ""
                outcome: Outcome = "started" if known else "unknown"
                return internal_error(exc, "app_run_many", outcome=outcome, task_id=known)

    async def help(self) -> None:
        """ValidationBudget along, where there is a place for it; without one the others do it all."""
        with suppress(WaitError):
            async with self._caller.runs.slot(self._caller.principal):
                await self.work()

    async def leave(self) -> None:
        """The caller left before they were told: what was to be handed over, or could not be followed, runs for nobody."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for end in self.ends:
                    match end:
                        case RunResult():
                            group.start_soon(cancel_abandoned_task, self._caller, end.task)
                        case InferenceError(task_id=str() as task_id):
                            group.start_soon(cancel_abandoned_run, self._caller, task_id)
                        case InferenceError(outcome="unknown"):
                            log_abandoned_candidates(self._app, end.candidates)
                        case _:
                            pass

    def _heard(self, state: State | None) -> None:
        latest = state if isinstance(state, Task | Transfer) else None
        self._report(BatchProgress(self._done, self._total, latest))
