"""Run many inputs through one app: a few at a time, with one result for each, in order."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.models import Task
from inferencesh_mcp.errors import InferenceError, InvalidInput, WaitError
from inferencesh_mcp.flows import BatchProgress, Transfer
from inferencesh_mcp.flows.cancel import cancel_abandoned_run, cancel_abandoned_task, log_abandoned_candidates
from inferencesh_mcp.flows.concurrency import PATIENCE, for_each
from inferencesh_mcp.flows.internal_errors import collect_started_ids, internal_error
from inferencesh_mcp.flows.run import RunResult, optional_estimate, run_prepared, within_limit
from inferencesh_mcp.flows.run_details import read_details
from inferencesh_mcp.flows.run_request import build_request, prepare
from inferencesh_mcp.flows.upload import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferencesh_mcp.api.models import RunRequest
    from inferencesh_mcp.flows import Caller, Report, State
    from inferencesh_mcp.flows.run_request import Prepared, RunSpec
    from inferencesh_mcp.flows.spend_limit import HandOver

MAX_KEPT = 16 * 1024 * 1024  # characters of all outputs held for one answer, which shows a hundredth of that
MAX_PROBLEMS = 5  # inputs whose mistakes one error names
MIN_SECONDS = 10.0  # for the runs of a batch that the person agreed to


class OutputBudget:
    """Bounds the memory that the outputs of a batch take, whatever their number and size."""

    def __init__(self) -> None:
        self._left = MAX_KEPT

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
    report(BatchProgress(0, len(specs), None))
    batch = _Batch(caller, specs, report, most=most, end=time.monotonic() + seconds, follow=follow)
    async with caller.runs.slot(caller.principal):
        with batch.uploads:
            await batch.prepare_all()
            if caller.spend_limit.is_set:
                await batch.build_all()
            async with within_limit(caller, batch.requests) as hand_over:
                await batch.run(hand_over)
    return batch.ends


class _Batch:
    """The inputs of one call, and the results so far."""

    def __init__(
        self, caller: Caller, specs: Sequence[RunSpec], report: Report, *, most: int, end: float, follow: bool
    ) -> None:
        self.ends: list[End] = [Skipped()] * len(specs)
        self.uploads = Uploads(caller.api, caller.folders, self._report_progress)
        self.requests: dict[int, tuple[Prepared, RunRequest]] = {}
        """What is ready to start, by the number of the input."""
        self._caller = caller
        self._specs = specs
        self._report = report
        self._most = most
        self._end = end
        self._follow = follow
        self._prepared: list[Prepared] = []
        self._has_ended: dict[int, bool] = {}
        """The inputs that were taken up, and whether their runs have ended."""
        self._outputs = OutputBudget()

    async def prepare_all(self) -> None:
        """Check all inputs before anything is sent."""
        from inferencesh_mcp.schema.bounded_validator import Budget  # imports jsonschema: 60 ms

        budget = Budget()
        wrong: list[str] = []
        for number, spec in enumerate(self._specs, 1):
            # Let others run, and a cancellation: a cached app is read without waiting.
            await anyio.lowlevel.checkpoint()
            try:
                prepared = await prepare(self._caller, spec, self.uploads, reread=not wrong, budget=budget)
                self._prepared.append(prepared)
            except InvalidInput as exc:
                wrong.append(f"input {number}: {exc.message}")
            except InferenceError as exc:
                raise exc.replace(outcome="not_started", retry_safe=True) from exc
        if wrong:
            more = f" (and {len(wrong) - MAX_PROBLEMS} more)" if len(wrong) > MAX_PROBLEMS else ""
            raise InvalidInput(
                message=" ".join(wrong[:MAX_PROBLEMS]) + more,
                next_step="Correct them and call again; none was started.",
                outcome="not_started",
                retry_safe=True,
            )

    async def build_all(self) -> None:
        """Build the requests of all runs before the first starts. An input that cannot be sent has failed."""

        async def build(number: int) -> None:
            try:
                await self._build(number)
            except InferenceError as exc:
                self.ends[number] = exc

        await for_each(range(len(self._prepared)), build, self._most)
        self.requests = dict(sorted(self.requests.items()))

    async def _build(self, number: int) -> RunRequest:
        prepared = self._prepared[number]
        with self._caller.runs.drain.before_start():
            request = await build_request(prepared, self.uploads)
        self.requests[number] = prepared, request
        return request

    async def run(self, hand_over: HandOver) -> None:
        """Run the inputs, at most `most` at once. If the caller leaves, what was started is cancelled."""
        if self.requests:  # the person may have taken the time of the call to agree
            self._end = max(self._end, time.monotonic() + MIN_SECONDS)
        remaining = iter([number for number, end in enumerate(self.ends) if isinstance(end, Skipped)])
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._work, remaining, hand_over)
                for _ in range(min(self._most, len(self.ends)) - 1):
                    group.start_soon(self._work_in_own_slot, remaining, hand_over)
            await self._read_details()
        except anyio.get_cancelled_exc_class():
            await self._cancel_all()
            raise

    async def _work(self, remaining: Iterator[int], hand_over: HandOver) -> None:
        """Run one input after another until none is left or the time is over."""
        while not self._caller.runs.drain.is_stopping and (seconds := self._end - time.monotonic()) > 0:
            number = next(remaining, None)
            if number is None:
                return
            self._count(number, ended=False)
            self.ends[number] = await self._run_one(number, hand_over, seconds if self._follow else 0)
            self._count(number, ended=True)

    async def _work_in_own_slot(self, remaining: Iterator[int], hand_over: HandOver) -> None:
        """Work in a second slot if there is one; otherwise the other workers do it all."""
        with suppress(WaitError):
            async with self._caller.runs.slot(self._caller.principal):
                await self._work(remaining, hand_over)

    async def _run_one(self, number: int, hand_over: HandOver, seconds: float) -> End:
        with collect_started_ids() as started:
            try:
                request = self.requests[number][1] if number in self.requests else await self._build(number)
                result = await run_prepared(
                    self._caller,
                    self._prepared[number],
                    request,
                    partial(self._report_run, number),
                    partial(hand_over, number),
                    seconds=seconds,
                    with_details=False,
                )
                return replace(result, task=self._outputs.trimmed(result.task), uploaded=self.uploads.sent)
            except InferenceError as exc:
                return exc
            except Exception as exc:  # noqa: BLE001 - the other inputs must not be lost because of it
                return internal_error(exc, "app_run_many", started, may_start=True)

    async def _read_details(self) -> None:
        """Read what the answer adds to each run, all at the same time: it must not hold up the runs themselves."""
        results = {number: end for number, end in enumerate(self.ends) if isinstance(end, RunResult)}

        async def read(number: int) -> None:
            estimate = partial(optional_estimate, self._caller, *self.requests[number])
            details = await read_details(self._caller, results[number].task, estimate)
            self.ends[number] = replace(results[number], details=details)

        with anyio.move_on_after(PATIENCE):
            await for_each(results, read)

    async def _cancel_all(self) -> None:
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
                            log_abandoned_candidates(str(self._specs[0].app), end.candidates)
                        case _:
                            pass

    def _report_run(self, number: int, state: State) -> None:
        """Report the state of one run. It counts as done as soon as its task has ended."""
        if isinstance(state, Task) and state.ended:
            self._count(number, ended=True)
        else:
            self._report_progress(state)

    def _count(self, number: int, *, ended: bool) -> None:
        self._has_ended[number] = ended
        self._report_progress(None)

    def _report_progress(self, state: State | None) -> None:
        latest = state if isinstance(state, Task | Transfer) else None
        done = sum(self._has_ended.values())
        self._report(BatchProgress(done, len(self.ends), latest, live=len(self._has_ended) - done))
