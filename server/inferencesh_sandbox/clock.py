"""The sandbox's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio


class Clock:
    """The machine's time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


async def wait_until_set(event: anyio.Event, seconds: float, clock: Clock) -> bool:
    """Wait for an event for at most `seconds` of the sandbox's clock. Return whether it was set."""
    async with anyio.create_task_group() as race:

        async def give_up() -> None:
            await clock.sleep(seconds)
            race.cancel_scope.cancel()

        race.start_soon(give_up)
        await event.wait()
        race.cancel_scope.cancel()
    return event.is_set()
