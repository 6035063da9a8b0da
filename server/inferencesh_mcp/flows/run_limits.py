"""The limits of concurrent runs: of one caller, here and on all replicas, and of this process; and the drain at its end."""

from __future__ import annotations

import logging
import math
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

import anyio

from inferencesh_mcp.errors import InferenceError, RateLimited, Unavailable
from inferencesh_mcp.flows.ownership import StartRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from anyio.abc import TaskGroup

RETRY_AFTER = 5.0  # seconds: a run that ends frees a slot, and most take a few seconds
MAX_IN_BACKGROUND = 100  # searches for lost runs whose callers left: each lists tasks every few seconds

logger = logging.getLogger(__name__)


class Drain:
    """Whether this server is ending: waits end early, nothing new starts, and runs that were started go on."""

    def __init__(self) -> None:
        self.refuses_calls = False
        """Whether new calls are refused. Calls already accepted may still start runs until `start`."""
        self.is_stopping = False
        """Whether the server is ending: nothing is started any more, and no call waits."""
        self._waits: set[anyio.CancelScope] = set()

    def start(self) -> None:
        """End every wait, now and from now on. Runs that were started go on; their callers get the ids."""
        self.refuses_calls = self.is_stopping = True
        for wait in self._waits:
            wait.cancel()

    @contextmanager
    def deadline(self, seconds: float = math.inf) -> Generator[anyio.CancelScope]:
        """Cancel the block after `seconds`, or as soon as the drain starts."""
        with anyio.move_on_after(seconds) as wait:
            if self.is_stopping:
                wait.cancel()
            self._waits.add(wait)
            try:
                yield wait
            finally:
                self._waits.discard(wait)

    @contextmanager
    def before_start(self) -> Generator[None]:
        """Around what comes before a start: it ends early if the server does, and its errors say that nothing was started."""
        try:
            with self.deadline():
                yield
            self.raise_if_stopping()
        except InferenceError as exc:
            raise exc.replace(outcome="not_started", retry_safe=exc.retry_safe is not False) from exc

    def raise_if_stopping(self) -> None:
        """Refuse to start anything once the drain has started.

        Raises:
            Unavailable: the server is ending.
        """
        if self.is_stopping:
            raise Unavailable(
                message="This server is stopping and starts nothing more.",
                next_step="Call again in a moment: the next server takes it.",
                outcome="not_started",
                retry_safe=True,
                retry_after=1.0,
            )


class SharedLimiter(Protocol):
    """Counts the concurrent runs of all replicas together."""

    async def take(self, principal: str, most: int) -> str | None:
        """Return the name of a slot, or None if the principal has `most` already."""
        ...

    def give_back(self, principal: str, place: str) -> None: ...


class ConcurrentRuns:
    """Limits how many runs are followed at the same time. Each takes a slot until its call has ended.

    Also holds what all runs share: the starts that wait for their outcome, and the work that outlives its call.
    """

    def __init__(
        self,
        per_principal: int,
        in_all: int,
        *,
        drain: Drain | None,
        shared_limiter: SharedLimiter | None,
        replicated: bool,
    ) -> None:
        """`per_principal` limits one caller here and in `shared_limiter`, `in_all` this process.

        `replicated`: other processes may start runs with the same keys.
        """
        self._per_principal, self._in_all = per_principal, in_all
        self._shared_limiter = shared_limiter
        self._running: Counter[str] = Counter()
        self._background_count = 0
        self.drain = drain or Drain()
        self.started_count = 0
        """Runs started since this process began."""
        self.starts = StartRegistry(replicated=replicated)
        self.background: TaskGroup | None = None
        """For work that outlives the call that began it; set while the server runs."""

    @property
    def running(self) -> int:
        """The slots in use, of all principals."""
        return self._running.total()

    @asynccontextmanager
    async def slot(self, principal: str) -> AsyncGenerator[None]:
        """Hold a slot for one run of a principal.

        Raises:
            RateLimited: the principal is at their limit; nothing was started.
            Unavailable: this server is at its limit, or is ending; nothing was started.
        """
        self.drain.raise_if_stopping()
        if self._running[principal] >= self._per_principal:
            raise self._limit_reached()
        if self.running >= self._in_all:
            raise Unavailable(
                message=f"{self.running} runs are live already, the most this server takes.",
                next_step="Call again in a while.",
                outcome="not_started",
                retry_safe=True,
                retry_after=RETRY_AFTER,
            )
        self._running[principal] += 1
        shared_slot = None
        try:
            if self._shared_limiter:
                shared_slot = await self._shared_limiter.take(principal, self._per_principal)
                if shared_slot is None:
                    raise self._limit_reached()
            yield
        finally:
            if self._shared_limiter and shared_slot is not None:
                self._shared_limiter.give_back(principal, shared_slot)
            self._running[principal] -= 1
            self._running += Counter()  # drops the zeros

    def in_background(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work` although its call has ended; False if there is no room for it, or the server is not running."""
        if self.background is None or self._background_count >= MAX_IN_BACKGROUND:
            return False
        self._background_count += 1
        self.background.start_soon(self._run_in_background, work)
        return True

    async def _run_in_background(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:  # one caller's lost run must not end the server for the others
            logger.exception("the search for a run whose caller left failed")
        finally:
            self._background_count -= 1

    def _limit_reached(self) -> RateLimited:
        runs = "run is" if self._per_principal == 1 else "runs are"
        return RateLimited(
            message=f"{self._per_principal} {runs} live already, the most this server allows one caller.",
            next_step="Wait for one of them (`task_list` names them), or cancel one, then call again.",
            outcome="not_started",
            retry_safe=True,
            retry_after=RETRY_AFTER,
        )
