"""Nothing that may cost more than the operator's limit starts before the person agreed.

A run counts by the most that it may cost for its own input, and a batch as a whole. What one caller runs at the same time
without asking counts together, followed or not, so that many small runs are no way around the limit.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from inferencesh_mcp.bounded import BoundedDict, RecentSet
from inferencesh_mcp.errors import CallError, Forbidden, InferenceError, NotFound, SpendLimitExceeded
from inferencesh_mcp.flows.concurrency import PATIENCE, for_each

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from decimal import Decimal

    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.api.models import App, RunRequest

MICROCENTS = 100_000_000  # in one US dollar
MAX_HANDED_OVER = 4_096  # runs that went on after their calls and are remembered; the oldest are dropped
LOST_SECONDS = 900.0  # how long a run counts of which it is not known whether it started
MAX_CHECKED = 100  # of these runs that are read, to see whether they have ended, before one question
MAX_USED = 4_096
USED_SECONDS = 3_600.0
"""How long a used agreement is remembered. The sealed state that carries it expires much earlier."""


@dataclass(frozen=True, kw_only=True)
class SpendQuestion:
    """What the person is asked to agree to. Amounts are in microcents."""

    app: str
    runs: int
    most: int
    """The most that the runs may cost together, as far as that is known; of an unknown cost, its least."""
    unknown: int
    """Runs of which it is not known what they may cost at most."""
    live: int
    """The most that the caller's other runs may cost that were not asked about."""
    limit: int
    digest: str
    """Hash of the runs and their cost. An agreement counts only for this."""


class Agreement(Enum):
    AGREED = auto()
    DECLINED = auto()
    CANNOT_ASK = auto()
    """Nobody can be asked here, or nobody answered."""


HandOver = Callable[[int, str], None]
"""Called with the number of a run and the id of its task, if the task goes on after the block; without an id, if it is not
known whether it does."""
Confirm = Callable[[SpendQuestion], Awaitable[Agreement]]
"""Asks the person. It may raise what carries the question to the host."""


class PlannedRun(Protocol):
    """What a run costs by. `run_request.Prepared` is one."""

    @property
    def app(self) -> App: ...

    @property
    def spec(self) -> Any:
        """A `RunSpec`."""
        ...


class SharedUses(Protocol):
    """Remembers what replicas used."""

    async def use_once(self, name: str, seconds: float) -> bool:
        """Whether no replica has used this name within `seconds`."""
        ...


class SpendLimit:
    """The operator's limit, what runs within it now, and the agreements that were used."""

    def __init__(self, limit_usd: Decimal | None, *, strict: bool = False, shared: SharedUses | None = None) -> None:
        """`strict`: a cost that is not known counts as above the limit. `shared`: so that an agreement counts once on all
        replicas.
        """
        self._shared = shared
        self._limit = None if limit_usd is None else int(limit_usd * MICROCENTS)
        self._strict = strict
        self._live = Counter[str]()
        self._handed_over: BoundedDict[str, _HandedOver] = BoundedDict(MAX_HANDED_OVER)
        """By the id of their task; what has none that is known has one of ours."""
        self._used = RecentSet[str](MAX_USED, USED_SECONDS)

    @property
    def is_set(self) -> bool:
        return self._limit is not None

    async def use_once(self, agreement: str) -> bool:
        """Whether this agreement was not used before; it counts as used from now on."""
        if agreement in self._used:
            return False
        self._used.add(agreement)
        return self._shared is None or await self._shared.use_once(agreement, USED_SECONDS)

    @asynccontextmanager
    async def hold(
        self, api: Api, principal: str, confirm: Confirm | None, runs: Mapping[int, tuple[PlannedRun, RunRequest]]
    ) -> AsyncGenerator[HandOver]:
        """Let these runs of a caller, by number, start inside the block, which lasts as long as they are followed.

        Raises:
            WaitError, UpstreamError: the platform did not say what they cost.
            SpendLimitExceeded: they may cost more than the limit, and the person did not agree.
        """
        if self._limit is None or not runs:
            yield _no_hand_over
            return
        costs = await _costs(api, runs)
        most = sum(cost.most for cost in costs.values())
        unknown = sum(not cost.is_known for cost in costs.values())
        if most + self._live_cost(principal) > self._limit:
            await self._forget_ended(api, principal)
        live = self._live_cost(principal)
        is_within = most + live <= self._limit or not (most or unknown)
        if is_within and not (unknown and self._strict):
            held = most
            self._live[principal] += held  # nothing was awaited since the check

            def hand_over(number: int, task_id: str) -> None:
                nonlocal held
                cost = costs[number].most
                until = math.inf if task_id else time.monotonic() + LOST_SECONDS
                self._handed_over[task_id or secrets.token_hex(8)] = _HandedOver(principal, cost, until)
                held -= cost
                self._live[principal] -= cost

            try:
                yield hand_over
            finally:
                self._live[principal] -= held
                self._live += Counter()  # drops the zeros
            return
        question = SpendQuestion(
            app=str(next(iter(runs.values()))[0].spec.app),
            runs=len(runs),
            most=most,
            unknown=unknown,
            live=live,
            limit=self._limit,
            digest=_digest(runs, most, unknown),
        )
        agreement = await confirm(question) if confirm else Agreement.CANNOT_ASK
        if agreement is not Agreement.AGREED:
            raise _refusal(question, agreement)
        yield _no_hand_over

    def _live_cost(self, principal: str) -> int:
        """The most that what this caller runs may cost, as far as nobody was asked about it."""
        now = time.monotonic()
        handed_over = (run for run in self._handed_over.values() if run.principal == principal and run.until > now)
        return self._live[principal] + sum(run.cost for run in handed_over)

    async def _forget_ended(self, api: Api, principal: str) -> None:
        """Forget the caller's runs that went on after their calls and have ended."""
        runs = self._handed_over.items()
        own = [id_ for id_, run in runs if run.principal == principal and math.isinf(run.until)]

        async def forget_if_ended(task_id: str) -> None:
            try:
                ended = (await api.task(task_id)).ended
            except NotFound:
                ended = True
            except InferenceError:
                return
            if ended:
                self._handed_over.pop(task_id, None)

        with anyio.move_on_after(PATIENCE):
            await for_each(own[:MAX_CHECKED], forget_if_ended)


@dataclass(frozen=True)
class _HandedOver:
    """A run that went on after its call."""

    principal: str
    cost: int
    until: float
    """When it no longer counts, on the monotonic clock; infinite if its end can be seen."""


def _no_hand_over(_number: int, _task_id: str) -> None:
    """The run does not count: there is no limit, or the person agreed to it."""


@dataclass(frozen=True)
class _Cost:
    """The most that a run may cost, in microcents; if that is not known, the least."""

    most: int
    is_known: bool


async def _costs(api: Api, runs: Mapping[int, tuple[PlannedRun, RunRequest]]) -> dict[int, _Cost]:
    """What each run may cost.

    Raises:
        WaitError, UpstreamError: the platform did not say.
    """
    costs = dict.fromkeys(runs, _Cost(0, is_known=False))

    async def read(number: int) -> None:
        prepared, request = runs[number]
        function = request.function or prepared.app.resolved_function or None
        try:
            estimate = await api.estimate(prepared.app.id, request.input, function)
        except (CallError, Forbidden):  # it has no estimate for this
            return
        bounds = estimate.bounds
        costs[number] = _Cost(bounds[1], is_known=True) if bounds else _Cost(max(estimate.min or 0, 0), is_known=False)

    await for_each(runs, read)
    return costs


def _digest(runs: Mapping[int, tuple[PlannedRun, RunRequest]], most: int, unknown: int) -> str:
    """A hash of what is to run, as the caller requested it: files have new addresses after each upload.

    A `run_at` of "2h" is another time in each round. The sealed state binds the arguments themselves.
    """
    planned = [prepared for prepared, _ in runs.values()]
    specs = [{"app_id": run.app.id, **asdict(replace(run.spec, run_at=None))} for run in planned]
    return hashlib.sha256(json.dumps([specs, most, unknown], sort_keys=True, default=str).encode()).hexdigest()


def _refusal(question: SpendQuestion, agreement: Agreement) -> SpendLimitExceeded:
    usd = [f"${amount / MICROCENTS:.8f}".rstrip("0").rstrip(".") for amount in (question.most, question.limit)]
    cost = f"may cost {usd[0]}" if question.most else "has a cost that is not known"
    if question.most and question.unknown:
        cost += " or more"
    together = ", with what runs already," if question.live else ""
    runs = f"{question.app} on {question.runs} inputs" if question.runs > 1 else question.app
    if agreement is Agreement.DECLINED:
        return SpendLimitExceeded(
            message=f"{runs} {cost}; the person declined it.",
            next_step="Do not run it again unless they ask for it.",
            retry_safe=False,
        )
    return SpendLimitExceeded(
        message=f"{runs} {cost}{together} and the limit is {usd[1]}; the person was not asked.",
        next_step="Choose a cheaper input, or have the operator raise INFERENCE_MAX_RUN_COST.",
    )
