"""Run many inputs through one app: a few at a time, with one result for each, in order."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.models import Task
from inferencesh_mcp.errors import InferenceError, InvalidInput, WaitError
from inferencesh_mcp.flows import BatchProgress, Transfer
from inferencesh_mcp.flows.cancel import cancel_abandoned_run, cancel_abandoned_task, log_abandoned_candidates
from inferencesh_mcp.flows.internal_errors import collect_started_ids, internal_error
from inferencesh_mcp.flows.run import RunResult, run_in_slot
from inferencesh_mcp.flows.run_request import validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh_mcp.flows import Caller, Report, State
    from inferencesh_mcp.flows.run_request import RunSpec

MOST_KEPT = 16 * 1024 * 1024  # characters of all outputs held for one answer, which shows a hundredth of that
MOST_PROBLEMS = 5  # inputs whose mistakes one error names


class OutputBudget:
    """Bounds the memory that the outputs of a batch take, whatever their number and size."""

    def __init__(self) -> None:
        self._left = MOST_KEPT

    def trimmed(self, task: Task) -> Task:
        """The task as an answer needs it. An output beyond the budget is left out; the answer says how to get it."""
        output, size = task.output, len(json.dumps(task.output, default=str))
        if size > self._left:
            output = None
        else:
            self._left -= size
        return task.model_copy(update={"output": output, "input": None, "app": None, "logs": ()})


@dataclass(frozen=True)
class Skipped:
    """An input that was not started before the call had to answer."""


End = RunResult | InferenceError | Skipped
"""The result of one input: it ran (or still runs), it failed, or it was not started."""


async def run_many(
    caller: Caller, specs: Sequence[RunSpec], report: Report, *, most: int, seconds: float, follow: bool = True
) -> list[End]:
    """Check all inputs, then run them, at most `most` at once, or as many as the caller has slots for.

    After `seconds` no more are started, and those that run are handed over. Without `follow` each is started and handed
    over at once. A failure does not stop the rest. If the caller leaves, what runs is cancelled and nothing more is started.

    Raises:
        InvalidInput: inputs that do not fit, by their number; nothing was started.
        RateLimited, Unavailable: there is no slot for even one of them; nothing was started.
    """
    began = time.monotonic()
    report(BatchProgress(0, len(specs), None))
    async with caller.runs.slot(caller.principal):
        await _check(caller, specs)
        batch = _Batch(caller, specs, report, end=began + seconds, follow=follow)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(batch.work)
                for _ in range(min(most, len(specs)) - 1):
                    group.start_soon(batch.work_in_own_slot)
        except anyio.get_cancelled_exc_class():
            await batch.cancel_all()
            raise
    return batch.ends


async def _check(caller: Caller, specs: Sequence[RunSpec]) -> None:
    from inferencesh_mcp.schema.validate import ValidationBudget  # imports jsonschema: 60 ms

    budget = ValidationBudget()
    wrong: list[str] = []
    for number, spec in enumerate(specs, 1):
        await anyio.lowlevel.checkpoint()  # let others run, and a cancellation: a cached app is read without waiting
        try:
            await validate(caller, spec, reread=not wrong, budget=budget)
        except InferenceError as exc:
            if not isinstance(exc, InvalidInput):
                raise exc.replace(outcome="not_started", retry_safe=True) from exc
            wrong.append(f"input {number}: {exc.message}")
    if wrong:
        more = f" (and {len(wrong) - MOST_PROBLEMS} more)" if len(wrong) > MOST_PROBLEMS else ""
        raise InvalidInput(
            message=" ".join(wrong[:MOST_PROBLEMS]) + more,
            next_step="Correct them and call again; none was started.",
            outcome="not_started",
            retry_safe=True,
        )


class _Batch:
    """What the workers share: the inputs still to start, and the results so far."""

    def __init__(self, caller: Caller, specs: Sequence[RunSpec], report: Report, *, end: float, follow: bool) -> None:
        from inferencesh_mcp.flows.upload import Uploads

        self.ends: list[End] = [Skipped()] * len(specs)
        self._caller = caller
        self._app = str(specs[0].app)
        self._remaining = iter(enumerate(specs))
        self._report = report
        self._total = len(specs)
        self._done = 0
        self._outputs = OutputBudget()
        self._end = end
        self._follow = follow
        self._uploads = Uploads()

    async def work(self) -> None:
        """Run one input after another until none is left or the time is over."""
        drain = self._caller.runs.drain
        while (
            not drain.started
            and (seconds := self._end - time.monotonic()) > 0
            and (next_input := next(self._remaining, None))
        ):
            number, spec = next_input
            self.ends[number] = await self._run_one(spec, seconds if self._follow else 0)
            self._done += 1
            self._report_progress(None)

    async def _run_one(self, spec: RunSpec, seconds: float) -> End:
        with collect_started_ids() as started:
            try:
                result = await run_in_slot(
                    self._caller, spec, self._report_progress, seconds=seconds, uploads=self._uploads
                )
                return replace(result, task=self._outputs.trimmed(result.task))
            except InferenceError as exc:
                return exc
            except Exception as exc:  # noqa: BLE001 - the other inputs must not be lost because of it
                return internal_error(exc, "app_run_many", started, may_start=True)

    async def work_in_own_slot(self) -> None:
        """Work in a second slot if there is one; otherwise the other workers do it all."""
        with suppress(WaitError):
            async with self._caller.runs.slot(self._caller.principal):
                await self.work()

    async def cancel_all(self) -> None:
        """The caller left without an answer: cancel what was started, because nobody knows its id."""
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

    def _report_progress(self, state: State | None) -> None:
        latest = state if isinstance(state, Task | Transfer) else None
        self._report(BatchProgress(self._done, self._total, latest))
