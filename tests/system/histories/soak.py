"""Ten thousand operations on one server process in bad weather, in real time: what they leave behind, as one table.

What takes long is sped up where it is not the server's own: the sandbox's apps, and the hosts' moments of thought. Requests
that hang are left to the histories, where they take no time.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client

from inferencesh_mcp.http import tokens
from inferencesh_mcp.http.app import PATH
from inferencesh_sandbox import Clock
from tests.benchmarks.figures import Figure, as_table
from tests.benchmarks.processes import environ, resident
from tests.system.faults.process_usage import open_files
from tests.system.histories.callers import Caller
from tests.system.histories.judge import judge
from tests.system.histories.random_faults import Weather
from tests.system.histories.world import LONGEST, World, world

ROUNDS, EACH = 20, 500
CALLERS, AT_ONCE = 200, 40
FASTER = 50
REST = 15.0  # seconds until what was left is cancelled
KEPT_ALIVE = 40  # connections that the server may hold open to the API, by its own limits
READER = tokens.mint()


class FastClock(Clock):
    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds / FASTER)


@dataclass
class Served:
    """One server process over HTTP, and what Linux tells of it."""

    pid: int
    url: str
    log: Path
    local: bool = False

    @asynccontextmanager
    async def server(self, key: str) -> AsyncIterator[Any]:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=LONGEST) as http,
            streamable_http_client(self.url + PATH, http_client=http) as wire,
        ):
            yield wire

    async def restart(self) -> None:
        """It is weighed from its beginning to its end."""

    async def metric(self, name: str) -> float:
        async with httpx2.AsyncClient() as http:
            response = await http.get(f"{self.url}/metrics", headers={"Authorization": f"Bearer {READER}"})
        return sum(float(number) for number in re.findall(rf"(?m)^{name}(?:{{.*}})? (\S+)$", response.text))


@dataclass
class Rounds:
    """Weighs the process each time that so many operations are done."""

    server: Served
    done: int = 0
    weights: list[int] = field(default_factory=list)

    def count(self) -> None:
        self.done += 1
        if self.done % EACH == 0:
            self.weights.append(resident(self.server.pid))
            print(f"{self.done} operations, {self.weights[-1] / 2**20:.0f} MiB", file=sys.stderr)  # noqa: T201 - it takes minutes


def soaked() -> int:
    """Print the table; not zero where a figure is missed."""
    figures, wrong = anyio.run(_soaked)
    print("\n".join([as_table(figures), *wrong[:20]]))  # noqa: T201 - the report is the product
    return any(figure.met is False for figure in figures)


async def _soaked() -> tuple[list[Figure], list[str]]:
    chance = Random(0)
    weather = Weather(Random(chance.random()), hangs=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with world(weather, folder, FastClock()) as world_:
            with _serving(world_) as server:
                callers = [_caller(number, server, world_, chance) for number in range(CALLERS)]
                return await _figures(world_, server, callers)


def _caller(number: int, server: Served, world_: World, chance: Random) -> Caller:
    name = "".join(chr(97 + number // 26**place % 26) for place in range(3))
    key, clock = f"inf_person_CANARY_{name}", world_.sandbox.clock
    return Caller(name, key, server, Random(chance.random()), clock, world_.weather, pace=1 / FASTER)


async def _figures(world_: World, server: Served, callers: list[Caller]) -> tuple[list[Figure], list[str]]:
    rounds = Rounds(server)
    waiting = iter(callers)
    before = len(open_files(server.pid))

    async def work() -> None:
        for caller in waiting:
            await caller.live(ROUNDS * EACH // CALLERS, rounds.count)

    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(work)
    world_.weather.share = 0.0
    await anyio.sleep(REST)
    wrong = judge(world_, callers, server.log.read_text("utf-8"))
    lost = sum(line.startswith("J-2") for line in wrong)
    doubled = sum(line.startswith("J-1") for line in wrong)
    left = [path for path in (world_.folder / "tmp").rglob("*") if path.is_file()] + [*world_.folder.rglob("*.part")]
    fourth, last = rounds.weights[3], rounds.weights[-1]
    return [
        Figure(name="memory of the last round", value=last / 2**20, unit="MiB", base=fourth / 2**20,
               base_name="the fourth", aim=1.05, by_ratio=True,
               note=" ".join(f"{weight / 2**20:.0f}" for weight in rounds.weights)),
        _none("doubled", doubled, len(world_.sandbox.ledger.starts), "starts"),
        _none("lost", lost, len(world_.sandbox.ledger.starts), "starts"),
        _none("otherwise wrong", len(wrong) - lost - doubled, sum(len(caller.calls) for caller in callers), "calls"),
        _none("runs still held", await server.metric("inferencesh_live_runs"), rounds.done, "operations"),
        _none("requests still open", await server.metric("inferencesh_open_requests"), rounds.done, "operations"),
        _none("temporary files", len(left), rounds.done, "operations"),
        Figure(name="open files and connections", value=len(open_files(server.pid)), unit="", base=before,
               base_name="before", aim=before + KEPT_ALIVE, note=f"{KEPT_ALIVE} may be kept alive to the API"),
        Figure(name="faults met", value=len(world_.weather.met), unit="", base=len(world_.sandbox.ledger.requests()),
               base_name="requests that are remembered", aim=None),
    ], wrong  # fmt: skip


def _none(name: str, value: float, of: float, unit: str) -> Figure:
    return Figure(name=name, value=value, unit="", base=of, base_name=unit, aim=0, exact=True)


@contextmanager
def _serving(world_: World) -> Iterator[Served]:
    (world_.folder / "tmp").mkdir()
    settings = world_.environ(
        INFERENCE_WAIT_SECONDS="2",
        INFERENCE_LOG_LEVEL="INFO",
        INFERENCE_METRICS_TOKENS=tokens.line("reader", READER),
        TMPDIR=str(world_.folder / "tmp"),
    )
    command = [sys.executable, "-m", "inferencesh_mcp", "http", "--port", "0"]
    log = world_.folder / "log"
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr, env=environ(**settings)) as process:
        try:
            while not (match := re.search(r"http://[\d.:]+", log.read_text("utf-8"))):
                assert process.poll() is None, log.read_text("utf-8")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            yield Served(process.pid, match[0], log)
        finally:
            process.terminate()
