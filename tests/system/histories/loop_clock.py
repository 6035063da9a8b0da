"""An event loop whose clock is turned, never waited for: half an hour of hanging connections passes in a blink.

While anybody has something to do, time stands still; when everybody waits, it goes on to the next moment that somebody
waits for. Sockets, the sandbox and the servers are real, and in this one loop: so that "everybody waits" can be seen.
`time.time` and `time.monotonic` tell the loop's time meanwhile. It begins at a fixed date, years from the machine's own,
which nothing may mind (X-42).
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from unittest.mock import patch

import anyio.to_thread

from inferencesh_sandbox import Clock

EPOCH = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
THREADS = 0.002  # seconds until threads are looked after again: they live in the machine's time

T = TypeVar("T")


class Turned(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        self.threads: Callable[[], int] = lambda: 0
        """How many threads work for this loop: time stands still until they have done."""
        super().__init__(_Hasty(self))

    def time(self) -> float:
        return self.now


class _Hasty(selectors.DefaultSelector):  # type: ignore[misc]  # it is another class on each system
    """Never waits for a moment: it is there."""

    def __init__(self, loop: Turned) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self._loop.threads():
            return super().select(THREADS)
        self._loop.now += timeout
        return []


class LoopClock(Clock):
    """The sandbox's time, where the loop's clock is turned."""

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def turned(main: Callable[[], Awaitable[T]]) -> T:
    """Run this on a clock of its own."""

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Turned)
        limiter = anyio.to_thread.current_default_thread_limiter()
        loop.threads = lambda: limiter.borrowed_tokens
        with (
            patch.object(time, "monotonic", loop.time),
            patch.object(time, "time", lambda: EPOCH.timestamp() + loop.now),
        ):
            return await main()

    with asyncio.Runner(loop_factory=Turned) as runner:
        return runner.run(watched())
