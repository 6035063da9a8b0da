"""One history, from its seed to its judgement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio

from tests.system.histories.callers import Caller
from tests.system.histories.judge import at_work, judge
from tests.system.histories.loop_clock import LoopClock, turned
from tests.system.histories.random_faults import Weather
from tests.system.histories.world import InMemory, Replicas, Way, World, world

REST = 60.0
"""Seconds after which whatever was to be cancelled or told has been."""
KEYS = {"ada": "inf_person_CANARY_ada", "bob": "inf_person_CANARY_ada", "eve": "inf_person_CANARY_eve"}
"""Two share theirs."""
OPERATIONS = {"ada": 2, "bob": 2, "eve": 1}


def told(seed: int, folder: Path) -> list[str]:
    """What is wrong with the history of this seed, and what it met; nothing where all is well."""
    return turned(lambda: _history(seed, folder))


def stormed(seed: int, folder: Path, *, runs: int, over: str) -> list[str]:
    """The same of so many runs of one host at once, over `memory` or `http`."""
    return turned(lambda: _storm(seed, folder, runs, over))


async def _history(seed: int, folder: Path) -> list[str]:
    chance = Random(seed)
    async with (
        world(Weather(Random(chance.random())), folder, LoopClock()) as made,
        _way("memory" if chance.random() < 0.5 else "http", made, chance) as way,
    ):
        return await _lived(made, way, chance)


async def _storm(seed: int, folder: Path, runs: int, over: str) -> list[str]:
    chance = Random(seed)
    async with world(Weather(Random(chance.random())), folder, LoopClock()) as made, _way(over, made, chance) as way:
        caller = Caller("ada", KEYS["ada"], way, chance, made.sandbox.clock, made.weather)
        return await _judged(made, [caller], caller.all_at_once(runs))


@asynccontextmanager
async def _way(over: str, made: World, chance: Random) -> AsyncIterator[Way]:
    if over == "memory":
        yield InMemory(made)
        return
    replicas = Replicas(made, chance)
    async with replicas.running():
        yield replicas


async def _lived(made: World, way: Way, chance: Random) -> list[str]:
    callers = [
        Caller(name, key, way, Random(chance.random()), made.sandbox.clock, made.weather) for name, key in KEYS.items()
    ]

    async def together() -> None:
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller.live, OPERATIONS[caller.name])

    return await _judged(made, callers, together())


async def _judged(made: World, callers: list[Caller], story: Coroutine[Any, Any, None]) -> list[str]:
    before = at_work()
    await story
    made.weather.share = 0.0
    await anyio.sleep(REST)
    log = "\n".join(record.getMessage() for record in made.log)
    wrong = [*judge(made, callers, log), *(f"J-6: {name} is still at work" for name in (at_work() - before))]
    return [*wrong, *made.weather.met, log] if wrong else []
