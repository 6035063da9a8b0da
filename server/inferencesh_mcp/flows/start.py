"""A run's first moment: it is started once, and its id is known (promise 1, reliability 4.1).

A start is never sent again once it may have arrived. Where the reply was lost the task is looked for among the recent ones;
`ownership` says which of them is taken for it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from inferencesh_mcp.api.models import PAGE_LIMIT
from inferencesh_mcp.errors import OutcomeUnknown, RateLimited, Unavailable
from inferencesh_mcp.flows.answer_turns import AnswerTurns
from inferencesh_mcp.flows.cancel import cancel_abandoned_task, log_abandoned_candidates
from inferencesh_mcp.flows.drain import Drain
from inferencesh_mcp.flows.lost_starts import Candidates, LostStart
from inferencesh_mcp.flows.ownership import Start, StartRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anyio.abc import TaskGroup

    from inferencesh_mcp.api.models import RunRequest, Task
    from inferencesh_mcp.flows import Caller

LOOKS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between the looks at the recent tasks
ALLOWANCE = timedelta(seconds=2)  # on top of the known skew: `Date` has whole seconds, and replies take a while
MOST_IN_ALL = 1_000  # live runs of one process: what its memory and its sockets are measured for (reliability 4.6)
RETRY_AFTER = 5.0  # seconds: a run that is over makes room, and most take longer than a moment
PAGES = 5  # of recent tasks that are looked through: a lost start is looked for among those of some seconds
MOST_IN_BACKGROUND = 100  # lost runs that are looked for after their callers left: each costs a list every few seconds

logger = logging.getLogger(__name__)


class SharedLimiter(Protocol):
    """The places of all replicas together."""

    async def take(self, principal: str, most: int) -> str | None:
        """The name of a place; None where all of the principal's are taken."""
        ...

    def give_back(self, principal: str, place: str) -> None: ...


class LiveRuns:
    """The runs that this process is following now: how many each principal has, and which tasks and messages are whose."""

    def __init__(
        self, most: int, most_in_all: int = MOST_IN_ALL, *,
        drain: Drain | None = None, shared_limiter: SharedLimiter | None = None, replicated: bool = False,
    ) -> None:  # fmt: skip
        """`most` is for one principal, here and `shared_limiter`; `most_in_all` is for this process.
        `replicated`: other processes may start runs with the same keys."""
        self._shared_limiter = shared_limiter
        self._most, self._most_in_all = most, most_in_all
        self.drain = drain or Drain()
        self._running: Counter[str] = Counter()
        self.started = 0
        """Runs since this process began."""
        self.starts = StartRegistry(replicated=replicated)
        self.answers = AnswerTurns()
        self.background: TaskGroup | None = None
        """For the work that outlives the call it was begun for; set while the server lives."""
        self._in_background = 0

    def in_background(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Go on with this although its call has ended; False where there is no room, or no server, for it."""
        if self.background is None or self._in_background >= MOST_IN_BACKGROUND:
            return False
        self._in_background += 1
        self.background.start_soon(self._worked, work)
        return True

    async def _worked(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:  # one caller's lost run must not take the others' server with it
            logger.exception("looking after a run whose caller left failed")
        finally:
            self._in_background -= 1

    @asynccontextmanager
    async def slot(self, principal: str) -> AsyncGenerator[None]:
        """Hold one of a principal's places.

        Raises:
            RateLimited: all of them are taken; nothing was started.
            Unavailable: this server takes no more, from nobody; nothing was started.
        """
        self.drain.raise_if_started()
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
        if self._shared_limiter is None:
            yield
            return
        place = await self._shared_limiter.take(principal, self._most)
        if place is None:
            raise self._all_taken()
        try:
            yield
        finally:
            self._shared_limiter.give_back(principal, place)

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


async def start(caller: Caller, request: RunRequest, app_id: str) -> Task:
    """Start a run and return its task, adopting it where the reply was lost and the task is certainly this run's.

    Raises:
        OutcomeUnknown: nobody can tell whether it runs; `candidates` are the tasks it may be.
        InferenceError: it did not start; `outcome` says so.
    """
    sent = caller.runs.starts.begin(_what(request, app_id))
    try:
        task = await caller.api.run(request)
    except OutcomeUnknown as lost:
        logger.warning("the reply to a run of %s was lost; looking for its task", request.app)
        found = await _lost(caller, request, app_id, lost, sent).find()
        if isinstance(found, list):
            # Also in the log: whoever asked may be gone by now, or never hear the answer.
            told = ", ".join(found) or "its task could not be found"
            logger.warning("what became of a run of %s is not known, and it may still run: %s", request.app, told)
            raise _unknown(request, lost, found) from lost
        return found
    except BaseException:
        sent.refused()
        raise
    sent.made(task.id)
    return task


def _lost(caller: Caller, request: RunRequest, app_id: str, lost: OutcomeUnknown, sent: Start) -> LostStart[Task]:
    since = (lost.sent_at or datetime.now(UTC)) - ALLOWANCE
    return LostStart(
        caller=caller,
        start=sent,
        looks=LOOKS,
        look=lambda: _look(caller, request, app_id, since),
        leave=partial(cancel_abandoned_task, caller),
        leave_unknown=partial(log_abandoned_candidates, request.app),
    )


async def _look(caller: Caller, request: RunRequest, app_id: str, since: datetime) -> Candidates[Task]:
    """The tasks made since the start was sent, of the same thing, that are no other call's own."""
    found: dict[str, Task] = {}
    cursor = ""
    for _ in range(PAGES):
        page = await caller.api.list_tasks(limit=PAGE_LIMIT, since=since, cursor=cursor)
        recent = [task for task in page.items if task.created_at is None or task.created_at >= since]
        found |= {
            task.id: task
            for task in recent
            if _is_same(task, request, app_id) and not caller.runs.starts.is_owned(task.id)
        }
        cursor = page.next_cursor
        if len(recent) < len(page.items) or not (page.has_next and cursor):  # newest first: the rest is older
            return Candidates(found, complete=True)
    return Candidates(found)


def _is_same(task: Task, request: RunRequest, app_id: str) -> bool:
    """Whether a task is of what was asked for, as far as it tells."""
    return (
        task.app_id in {"", app_id}
        and _canonical(task.input) == _canonical(request.input)
        and task.function in {"", request.function or task.function}
        and request.session in {None, "new", task.session_id}
    )


def _what(request: RunRequest, app_id: str) -> str:
    """Equal for starts whose tasks `_is_same` might mistake for each other: a function or session that is not named fits any."""
    return _canonical(["run", app_id, request.input])


def _canonical(value: Any) -> str:
    """The value as everybody writes it: what was sent as 7.0 may be told again as 7. Seeds stay exact, however large."""
    return json.dumps(json.loads(json.dumps(value), parse_float=_number), sort_keys=True)


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _unknown(request: RunRequest, lost: OutcomeUnknown, found: list[str]) -> OutcomeUnknown:
    ids = tuple(found)
    if ids:
        told = f"it may be {' or '.join(ids)}"
        then = "Look at these tasks with `task_get`; do not run the app again before that."
    else:
        told = "it is not among the recent tasks, but may still appear"
        then = "Call `task_list` in a minute to see whether it runs; running it again may pay twice."
    return OutcomeUnknown(
        message=f"{request.app}: {lost.message}; {told}.",
        next_step=then, outcome="unknown", retry_safe=False, candidates=ids,
    )  # fmt: skip
