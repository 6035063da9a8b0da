"""The sandbox's time: the machine's own, or one that a test turns by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio


class Clock:
    """The time of day, and waiting, as the machine knows them."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class TurnedClock(Clock):
    """A clock that stands still until `advance` turns it: hours pass in a test without waiting."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self._sleepers: list[tuple[datetime, anyio.Event]] = []
        self._fell_asleep = anyio.Event()

    @property
    def sleeping(self) -> int:
        """How many sleeps wait to be passed."""
        return len(self._sleepers)

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed this many seconds; none at all only lets others run."""
        if seconds <= 0:
            return await anyio.lowlevel.checkpoint()
        sleeper = (self._now + timedelta(seconds=seconds), anyio.Event())
        self._sleepers.append(sleeper)
        self._fell_asleep.set()
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Turn the clock on, and wake everyone whose time has come."""
        self._now += timedelta(seconds=seconds)
        for until, woken in self._sleepers:
            if until <= self._now:
                woken.set()

    async def until_asleep(self, sleepers: int = 1) -> None:
        """Wait until so many sleeps are waiting that `advance` has not yet reached."""
        while sum(not woken.is_set() for _, woken in self._sleepers) < sleepers:
            self._fell_asleep = anyio.Event()
            await self._fell_asleep.wait()


async def rings_within(event: anyio.Event, seconds: float, clock: Clock) -> bool:
    """Wait for an event, at most so long by the sandbox's clock; say whether it came."""
    async with anyio.create_task_group() as race:

        async def give_up() -> None:
            await clock.sleep(seconds)
            race.cancel_scope.cancel()

        race.start_soon(give_up)
        await event.wait()
        race.cancel_scope.cancel()
    return event.is_set()
