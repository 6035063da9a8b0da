"""The sandbox's time."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio


class Clock:
    """The time of day, and waiting, as the machine knows them."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


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
