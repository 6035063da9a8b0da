"""Two hundred live runs at once in one bridge, then a thousand: what each holds, and what an event costs on its way."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client, StdioServerParameters

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, children, cpu_seconds, environ, resident, sandbox

FEW, MANY = 200, 1000
WARM = 20  # runs that end before: what a first run loads once is not what each run holds
STEPS = 200  # a second, of all runs together: as many events of few runs as of many
WINDOW = 10  # seconds in which CPU and events are counted
LONG = 600  # seconds of a run that is still live when all has been measured


async def figures() -> list[Figure]:
    with sandbox() as url:
        before = children()
        settings = environ(
            INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=url, INFERENCE_LOG_LEVEL="ERROR",
            INFERENCE_MAX_CONCURRENT_RUNS="1000", INFERENCE_WAIT_SECONDS="300",
        )  # fmt: skip
        server = StdioServerParameters(command=sys.executable, args=["-m", "inferencesh_mcp"], env=settings)
        async with Client(server, mode="legacy") as client:
            (pid,) = children() - before
            async with _live(client, WARM, seconds=0.1):
                pass
            few, many = await _held(client, pid, url, FEW), await _held(client, pid, url, MANY)
            return [*_told(few, FEW), *_told(many, MANY), *_together(few, many)]


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


async def _held(client: Client, pid: int, url: str, runs: int) -> Held:
    idle = resident(pid)
    async with _live(client, runs, seconds=LONG) as tasks:
        while len(tasks) < runs:
            await anyio.sleep(0.1)
        in_all = resident(pid)
        async with _following(url, list(tasks.values())) as (follower, bare, lines):
            before, bare_before, lines_before = cpu_seconds(pid), cpu_seconds(follower), lines()
            await anyio.sleep(WINDOW)
            used, bare_used, events = (
                cpu_seconds(pid) - before,
                cpu_seconds(follower) - bare_before,
                lines() - lines_before,
            )
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


@asynccontextmanager
async def _live(client: Client, runs: int, *, seconds: float) -> AsyncIterator[dict[int, str]]:
    """Start runs, all at once; yields the task ids of those that told of a step. Long ones are cancelled in the end."""
    tasks: dict[int, str] = {}

    async def run(number: int) -> None:
        async def hear(_progress: float, _total: float | None, message: str | None) -> None:
            if found := re.search(r"task (\w+) · step", message or ""):
                tasks[number] = found[1]

        given = {"seconds": seconds, "steps": max(1, int(seconds * STEPS / runs))}
        await client.call_tool("app_run", {"app": "sandbox/slow", "input": given}, progress_callback=hear)

    async with anyio.create_task_group() as group:
        for number in range(runs):
            group.start_soon(run, number)
        yield tasks
        if seconds >= LONG:
            group.cancel_scope.cancel()


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
