"""Two hundred live runs at once in one bridge, then a thousand: what each holds, and what an event costs on its way. In another
bridge a thousand that say nothing: what a start costs, and what becomes of five hundred that are left in one moment.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client, StdioServerParameters

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, children, cpu_seconds, environ, resident, sandbox

FEW, MANY = 200, 1000
STARTS = 200  # runs whose start is measured, together: the first, and the last of many
STORM = 500  # runs that are left at once
WARM = 20  # runs that end before: what a first run loads once is not what each run holds
STEPS = 200  # a second, of all runs together: as many events of few runs as of many
WINDOW = 10  # seconds in which CPU and events are counted
LONG = 600  # seconds of a run that is still live when all has been measured
PATIENCE = 30  # seconds after which a run that was left and still runs is lost
CANCELLED = 12


async def figures() -> list[Figure]:
    async with _bridge() as (client, pid, http):
        few, many = await _held(client, pid, http, FEW), await _held(client, pid, http, MANY)
    async with _bridge() as (client, pid, http):
        return [*_told(few, FEW), *_told(many, MANY), *_together(few, many), *await _begun_and_left(client, pid, http)]


@asynccontextmanager
async def _bridge() -> AsyncIterator[tuple[Client, int, httpx2.AsyncClient]]:
    """A client of a warm bridge, its process, and the sandbox that it runs apps on."""
    headers = {"authorization": f"Bearer {KEY}", "x-api-version": "2"}
    limits = httpx2.Limits(max_connections=None)
    with sandbox() as url:
        before = children()
        settings = environ(
            INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=url, INFERENCE_LOG_LEVEL="ERROR",
            INFERENCE_MAX_CONCURRENT_RUNS="1000", INFERENCE_WAIT_SECONDS="300",
        )  # fmt: skip
        server = StdioServerParameters(command=sys.executable, args=["-m", "inferencesh_mcp"], env=settings)
        async with (
            Client(server, mode="legacy") as client,
            httpx2.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=PATIENCE) as http,
        ):
            (pid,) = children() - before
            async with _live(client, seconds=0.1, steps=1) as live:
                live.start(WARM)
            yield client, pid, http


@dataclass(frozen=True, kw_only=True)
class Held:
    """What some live runs cost: bytes of each and in all, and milliseconds of CPU an event; the same of bare streams."""

    each: float
    in_all: int
    event: float
    bare_each: float
    bare_event: float
    events: float
    """A second."""


@dataclass(kw_only=True)
class Live:
    """Runs of one client, as it is told of them."""

    client: Client
    group: TaskGroup
    input_: dict[str, Any]
    started: int = 0
    tasks: dict[int, str] = field(default_factory=dict[int, str])
    """Of those that run, by their number: the id."""
    stepped: set[int] = field(default_factory=set[int])
    """Those that have told of a step."""

    def start(self, runs: int) -> None:
        """Start so many more, all at once."""
        for number in range(self.started, self.started + runs):
            self.group.start_soon(self._run, number)
        self.started += runs

    async def running(self) -> None:
        """Wait until all of them run."""
        while len(self.tasks) < self.started:
            await anyio.sleep(0.02)

    async def _run(self, number: int) -> None:
        async def hear(_progress: float, _total: float | None, message: str | None) -> None:
            if match := re.search(r"running .* task (\w+)(?: · (step))?", message or ""):
                self.tasks[number] = match[1]
                if match[2]:
                    self.stepped.add(number)

        arguments = {"app": "sandbox/slow", "input": self.input_}
        result = await self.client.call_tool("app_run", arguments, progress_callback=hear)
        assert not result.is_error, result


@asynccontextmanager
async def _live(client: Client, *, seconds: float, steps: int) -> AsyncIterator[Live]:
    """Runs that are started in this block, and take so long. Long ones are left at its end, all at once."""
    async with anyio.create_task_group() as group:
        yield Live(client=client, group=group, input_={"seconds": seconds, "steps": steps})
        if seconds >= LONG:
            group.cancel_scope.cancel()


async def _held(client: Client, pid: int, http: httpx2.AsyncClient, runs: int) -> Held:
    idle = resident(pid)
    async with _live(client, seconds=LONG, steps=LONG * STEPS // runs) as live:
        live.start(runs)
        await live.running()
        while len(live.stepped) < runs:
            await anyio.sleep(0.1)
        in_all = resident(pid)
        async with _following(str(http.base_url), list(live.tasks.values())) as (follower, bare, lines):
            before, bare_before, lines_before = cpu_seconds(pid), cpu_seconds(follower), lines()
            await anyio.sleep(WINDOW)
            used, bare_used, events = (
                cpu_seconds(pid) - before,
                cpu_seconds(follower) - bare_before,
                lines() - lines_before,
            )
    await _cancelled(http, live.tasks.values())  # what is measured next begins with none
    return Held(
        each=(in_all - idle) / runs, in_all=in_all, event=used / events * 1000,
        bare_each=bare / runs, bare_event=bare_used / events * 1000, events=events / WINDOW,
    )  # fmt: skip


def _told(held: Held, runs: int) -> list[Figure]:
    return [
        Figure(
            name=f"memory of one of {runs} live runs", value=held.each / 1024, unit="KiB",
            base=held.bare_each / 1024, base_name="a bare httpx2 stream", aim=128,
        ),
        Figure(
            name=f"CPU of one event at {runs} runs", value=held.event, unit="ms",
            base=held.bare_event, base_name="a bare httpx2 stream", aim=0.5 if runs == FEW else 1,
            note=f"{held.events:.0f} events a second, each run with a progress token",
        ),
    ]  # fmt: skip


def _together(few: Held, many: Held) -> list[Figure]:
    return [
        Figure(
            name=f"CPU of one event, {MANY}", value=many.event, unit="ms", base=few.event, base_name=f"at {FEW} runs",
            aim=2.5, by_ratio=True,
        ),
        Figure(
            name=f"memory in all at {MANY} runs", value=many.in_all / 2**20, unit="MiB", base=few.in_all / 2**20,
            base_name=f"at {FEW} runs", aim=256,
        ),
    ]  # fmt: skip


async def _begun_and_left(client: Client, pid: int, http: httpx2.AsyncClient) -> list[Figure]:
    """What a start costs when nothing is live and when nearly all is; then leave many at once, as a host does that is told
    to stop, and cancel as many by hand."""
    async with _live(client, seconds=LONG, steps=1) as others:
        first = await _cpu_of_starts(others, pid)
        others.start(MANY - STORM - STARTS)
        await others.running()
        async with _live(client, seconds=LONG, steps=1) as live:
            live.start(STORM - STARTS)
            await live.running()
            last = await _cpu_of_starts(live, pid)
            began = time.time()
        ours = await _cancelled(http, live.tasks.values(), began)
        tasks = [await _started(http) for _ in range(STORM)]
        began = time.time()
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(http.post, f"/tasks/{task}/cancel")
        by_hand = await _cancelled(http, tasks, began)
    return [
        Figure(
            name=f"CPU of a start at {MANY} runs", value=last, unit="ms", base=first, base_name=f"of the first {STARTS}",
            aim=10, note=f"of the last {STARTS}, until the host is told that they run",
        ),
        Figure(
            name=f"{STORM} runs left at once", value=max(ours, default=PATIENCE), unit="s", base=max(by_hand, default=PATIENCE),
            base_name="cancelled by httpx2", aim=5, note="until the API has cancelled the last of them",
        ),
        Figure(
            name="of them not cancelled", value=STORM - len(ours), unit="", base=STORM, base_name="left", aim=0, exact=True,
        ),
    ]  # fmt: skip


async def _cpu_of_starts(live: Live, pid: int) -> float:
    """Milliseconds of each."""
    used = cpu_seconds(pid)
    live.start(STARTS)
    await live.running()
    return (cpu_seconds(pid) - used) / STARTS * 1000


async def _started(http: httpx2.AsyncClient) -> str:
    answer = await http.post("/apps/run", json={"app": "sandbox/slow", "input": {"seconds": LONG, "steps": 1}})
    return str(answer.raise_for_status().json()["data"]["id"])


async def _cancelled(http: httpx2.AsyncClient, tasks: Iterable[str], began: float = 0.0) -> list[float]:
    """Seconds after which each was cancelled, as the API tells the time of it; a lost one has none."""
    took: dict[str, float] = {}
    open_ones, end = set(tasks), time.time() + PATIENCE
    while open_ones and time.time() < end:
        await anyio.sleep(1)  # to ask is work for the API, which has enough of it
        for task in list(open_ones):
            record = (await http.get(f"/tasks/{task}/status")).raise_for_status().json()["data"]
            if record["status"] == CANCELLED:
                took[task] = datetime.fromisoformat(record["updated_at"]).timestamp() - began
                open_ones.remove(task)
    return list(took.values())


@asynccontextmanager
async def _following(url: str, tasks: list[str]) -> AsyncIterator[tuple[int, int, Callable[[], int]]]:
    """Follow the same tasks by bare streams: the process, the bytes that all of them hold, and how many lines came."""
    counted = 0

    async def count(process: Process) -> None:
        nonlocal counted
        assert process.stdout is not None
        async for chunk in process.stdout:
            counted += chunk.count(b"\n")

    command = [sys.executable, str(Path(__file__).with_name("follower.py"))]
    async with await anyio.open_process(command, stderr=None, env=environ()) as process, anyio.create_task_group() as group:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(json.dumps({"url": url, "key": KEY, "tasks": tasks}).encode() + b"\n")
        await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 100)
        idle = resident(process.pid)
        group.start_soon(count, process)
        await process.stdin.send(b"\n")
        while counted < len(tasks) * 2:  # all are open, and each has told of something
            await anyio.sleep(0.1)
        yield process.pid, resident(process.pid) - idle, lambda: counted
        process.terminate()
        group.cancel_scope.cancel()
