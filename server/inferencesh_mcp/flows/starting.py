"""A run's first moment: it is started once, and its id is known (promise 1, reliability 4.1).

Nobody knows an idempotency key of this API. So a start is never sent again once it may have arrived, and where
the reply was lost the task is looked for among the recent ones.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from inferencesh_mcp.errors import InferenceError, OutcomeUnknown, RateLimited, Unavailable
from inferencesh_mcp.flows.leaving import leave_task, leave_unknown
from inferencesh_mcp.flows.remembering import Remembered
from inferencesh_mcp.flows.stopping import Stopping

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from inferencesh_mcp.api.models import RunRequest, Task
    from inferencesh_mcp.flows import Caller

LOOKS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between the looks at the recent tasks
ALLOWANCE = timedelta(seconds=2)  # on top of the known skew: `Date` has whole seconds, and replies take a while
MOST_IN_ALL = 1_000  # live runs of one process: what its memory and its sockets are measured for (reliability 4.6)
RETRY_AFTER = 5.0  # seconds: a run that is over makes room, and most take longer than a moment
REMEMBERED = 4_096  # tasks and messages: those of the last minutes are enough, a lost reply is looked for in seconds
LAST_LOOK = 3.0  # seconds; with the cancel after it, within what a process has for its end

logger = logging.getLogger(__name__)


class Everywhere(Protocol):
    """The places of all replicas together."""

    async def take(self, principal: str, most: int) -> str | None:
        """The name of a place; None where all of the principal's are taken."""
        ...

    def give_back(self, principal: str, place: str) -> None: ...


class Live:
    """The runs that this process is following now: how many each principal has, and which tasks and messages are spoken for."""

    def __init__(
        self, most: int, most_in_all: int = MOST_IN_ALL, *, stopping: Stopping | None = None, everywhere: Everywhere | None = None
    ) -> None:  # fmt: skip
        """`most` is for one principal, here and `everywhere`; `most_in_all` is for this process."""
        self._everywhere = everywhere
        self._most, self._most_in_all = most, most_in_all
        self.stopping = stopping or Stopping()
        self._running: Counter[str] = Counter()
        self._asked: Counter[tuple[str, str]] = Counter()
        self.started = 0
        """Runs since this process began."""
        self._owned = Remembered[tuple[str, str]](REMEMBERED)

    @contextmanager
    def asking(self, principal: str, what: str) -> Generator[None]:
        """Note that the answer to a start of this is awaited: until it is there, whose task is whose cannot be told."""
        self._asked[principal, what] += 1
        try:
            yield
        finally:
            self._asked[principal, what] -= 1
            self._asked += Counter()

    def asked(self, principal: str, what: str) -> bool:
        return (principal, what) in self._asked

    @asynccontextmanager
    async def place(self, principal: str) -> AsyncGenerator[None]:
        """Hold one of a principal's places.

        Raises:
            RateLimited: all of them are taken; nothing was started.
            Unavailable: this server takes no more, from nobody; nothing was started.
        """
        self.stopping.check()
        if self._running[principal] >= self._most:
            raise self._all_taken()
        if self.running >= self._most_in_all:
            raise Unavailable(
                message=f"{self.running} runs are live already, the most this server takes.",
                next_step="Call again in a while.",
                outcome="not_started",
                retry_safe=True,
                retry_after=RETRY_AFTER,
            )
        self._running[principal] += 1
        try:
            async with self._one_of_all(principal):
                yield
        finally:
            self._running[principal] -= 1
            self._running += Counter()  # drops the zeros

    @asynccontextmanager
    async def _one_of_all(self, principal: str) -> AsyncGenerator[None]:
        if self._everywhere is None:
            yield
            return
        place = await self._everywhere.take(principal, self._most)
        if place is None:
            raise self._all_taken()
        try:
            yield
        finally:
            self._everywhere.give_back(principal, place)

    def _all_taken(self) -> RateLimited:
        return RateLimited(
            message=f"{self._most} {'run is' if self._most == 1 else 'runs are'} live already, the most this server allows one caller.",
            next_step="Wait for one of them (`task_list` names them), or cancel one, then call again.",
            outcome="not_started",
            retry_safe=True,
            retry_after=RETRY_AFTER,
        )

    @property
    def running(self) -> int:
        """The runs of everybody."""
        return self._running.total()

    def own(self, principal: str, made: str) -> None:
        """Mark a task, a chat or a message as some call's own, so that no other adopts it, not even after that one ended."""
        self._owned.add((principal, made))

    def owned(self, principal: str, made: str) -> bool:
        return (principal, made) in self._owned


async def start(caller: Caller, request: RunRequest, app_id: str) -> Task:
    """Start a run and return its task, adopting it where the reply was lost.

    Raises:
        OutcomeUnknown: nobody can tell whether it runs; `candidates` are the tasks it may be.
        InferenceError: it did not start; `outcome` says so.
    """
    what = _what(request, app_id)
    try:
        with caller.live.asking(caller.principal, what):
            return await caller.api.run(request)
    except OutcomeUnknown as lost:
        logger.warning("the reply to a run of %s was lost; looking for its task", request.app)
        try:
            found = await _looked_for(caller, request, app_id, lost)
        except anyio.get_cancelled_exc_class():
            await _left(caller, request, app_id, lost)
            raise
        if len(found) == 1 and not caller.live.asked(caller.principal, what):
            return found[0]
        raise _unknown(request, lost, found) from lost


async def _looked_for(caller: Caller, request: RunRequest, app_id: str, lost: OutcomeUnknown) -> list[Task]:
    what = _what(request, app_id)
    found: list[Task] = []
    for pause in LOOKS:
        with caller.live.stopping.waiting(math.inf):
            await caller.api.sleep(pause)
        try:
            found = await _candidates(caller, request, app_id, lost)
        except InferenceError as exc:
            logger.info("the recent tasks could not be listed: %s", exc.code)
            continue
        if found and not caller.live.asked(caller.principal, what):
            break
    return found


async def _left(caller: Caller, request: RunRequest, app_id: str, lost: OutcomeUnknown) -> None:
    """The caller went while its task was looked for: look once more, so that it does not run, and cost, for nobody."""
    found: list[Task] = []
    with anyio.move_on_after(LAST_LOOK, shield=True), suppress(InferenceError):
        found = await _candidates(caller, request, app_id, lost)
    if len(found) == 1 and not caller.live.asked(caller.principal, _what(request, app_id)):
        await leave_task(caller, found[0])
        return
    leave_unknown(request.app, [task.id for task in found])


async def _candidates(caller: Caller, request: RunRequest, app_id: str, lost: OutcomeUnknown) -> list[Task]:
    """Tasks made since the start was sent, for the same thing, that no other live call calls its own."""
    since = (lost.sent_at or datetime.now(UTC)) - ALLOWANCE
    page = await caller.api.list_tasks(limit=50, since=since)
    return [
        task
        for task in page.items
        if _same(task, request, app_id)
        and (task.created_at is None or task.created_at >= since)
        and not caller.live.owned(caller.principal, task.id)
    ]


def _same(task: Task, request: RunRequest, app_id: str) -> bool:
    return (
        task.app_id in {"", app_id}
        and _canonical(task.input) == _canonical(request.input)
        and task.function in {"", request.function or task.function}
        and request.session in {None, "new", task.session_id}
    )


def _what(request: RunRequest, app_id: str) -> str:
    """Starts of the same, as far as their tasks would tell."""
    return _canonical([app_id, request.function, request.session, request.input])


def _canonical(value: Any) -> str:
    """The value as everybody writes it: what was sent as 7.0 may be told again as 7. Seeds stay exact, however large."""
    return json.dumps(json.loads(json.dumps(value), parse_float=_number), sort_keys=True)


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _unknown(request: RunRequest, lost: OutcomeUnknown, found: list[Task]) -> OutcomeUnknown:
    ids = tuple(task.id for task in found)
    if ids:
        told = f"it may be any of {', '.join(ids)}"
        then = "Look at these tasks with `task_get`; do not run the app again before that."
    else:
        told = "it is not among the recent tasks, but may still appear"
        then = "Call `task_list` in a minute to see whether it runs; running it again may pay twice."
    return OutcomeUnknown(
        message=f"{request.app}: {lost.message}; {told}.",
        next_step=then, outcome="unknown", retry_safe=False, candidates=ids,
    )  # fmt: skip
