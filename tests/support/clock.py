"""A clock that stands still until a test advances it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

from inferencesh_sandbox import Clock


@dataclass(frozen=True, eq=False)
class _Sleep:
    length: float
    until: datetime
    woken: anyio.Event = field(default_factory=anyio.Event)


class TurnedClock(Clock):
    """A clock that stands still until `advance` turns it: hours pass in a test without waiting."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self._sleeps: list[_Sleep] = []
        self._fell_asleep = anyio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed this many seconds; none at all only lets others run."""
        if seconds <= 0:
            return await anyio.lowlevel.checkpoint()
        sleep = _Sleep(seconds, self._now + timedelta(seconds=seconds))
        self._sleeps.append(sleep)
        self._fell_asleep.set()
        self._fell_asleep = anyio.Event()
        try:
            await sleep.woken.wait()
        finally:
            self._sleeps.remove(sleep)

    def advance(self, seconds: float) -> None:
        """Turn the clock on, and wake everyone whose time has come."""
        self._now += timedelta(seconds=seconds)
        for sleep in self._sleeps:
            if sleep.until <= self._now:
                sleep.woken.set()

    async def until_asleep(self, sleepers: int = 1) -> None:
        """Wait until so many sleeps are waiting that `advance` has not yet reached."""
        while len(self._waiting()) < sleepers:
            await self._fell_asleep.wait()

    async def hurry(self, shorter_than: float = 5.0) -> None:
        """Go on for ever from sleep to sleep, as fast as they come; longer ones, as a heartbeat's, are not waited for."""
        while True:
            due = [sleep.until for sleep in self._waiting() if sleep.length < shorter_than]
            if due:
                self.advance((min(due) - self._now).total_seconds())
                await anyio.lowlevel.checkpoint()
            else:
                await self._fell_asleep.wait()

    def _waiting(self) -> list[_Sleep]:
        return [sleep for sleep in self._sleeps if not sleep.woken.is_set()]
