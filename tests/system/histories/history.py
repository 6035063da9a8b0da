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


def run_history(seed: int, folder: Path) -> list[str]:
    """What is wrong with the history of this seed, and what it met; nothing where all is well."""
    return turned(lambda: _history(seed, folder))


def run_storm(seed: int, folder: Path, *, runs: int, transport: str) -> list[str]:
    """The same of so many runs of one host at once, over `memory` or `http`."""
    return turned(lambda: _storm(seed, folder, runs, transport))


async def _history(seed: int, folder: Path) -> list[str]:
    chance = Random(seed)
    async with (
        world(Weather(Random(chance.random())), folder, LoopClock()) as its_world,
        _way("memory" if chance.random() < 0.5 else "http", its_world, chance) as way,
    ):
        return await _lived(its_world, way, chance)


async def _storm(seed: int, folder: Path, runs: int, transport: str) -> list[str]:
    chance = Random(seed)
    async with (
        world(Weather(Random(chance.random())), folder, LoopClock()) as its_world,
        _way(transport, its_world, chance) as way,
    ):
        caller = Caller("ada", KEYS["ada"], way, chance, its_world.sandbox.clock, its_world.weather)
        return await _judged(its_world, [caller], caller.all_at_once(runs))


@asynccontextmanager
async def _way(transport: str, its_world: World, chance: Random) -> AsyncIterator[Way]:
    if transport == "memory":
        yield InMemory(its_world)
        return
    replicas = Replicas(its_world, chance)
    async with replicas.running():
        yield replicas


async def _lived(its_world: World, way: Way, chance: Random) -> list[str]:
    callers = [
        Caller(name, key, way, Random(chance.random()), its_world.sandbox.clock, its_world.weather)
        for name, key in KEYS.items()
    ]

    async def together() -> None:
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller.live, OPERATIONS[caller.name])

    return await _judged(its_world, callers, together())


async def _judged(its_world: World, callers: list[Caller], story: Coroutine[Any, Any, None]) -> list[str]:
    before = at_work()
    await story
    its_world.weather.share = 0.0
    await anyio.sleep(REST)
    log = "\n".join(record.getMessage() for record in its_world.log)
    wrong = [*judge(its_world, callers, log), *(f"J-6: {name} is still at work" for name in (at_work() - before))]
    return [*wrong, *its_world.weather.met, log] if wrong else []
