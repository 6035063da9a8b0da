"""The HTTP face under load: the same call, of the same thing, as a bare server of one tool; what a caller leaves behind; and what
one caller's thousand live runs are to another."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, cpu_seconds, environ, resident, sandbox

VERSION = "2026-07-28"
AT_ONCE = 8
CALLS = 400  # of each round
ROUNDS = 5  # of each server, in turns
CALLERS = 300  # each with a key and a connection of its own
CROWD = 1000  # live runs of one caller
LONG = 600  # seconds that each of them takes
STEPS = 120  # of each, in that time: together 400 events a second
SOON = 30  # seconds at most until the next of them runs
PACE = 0.05  # seconds from one call of another caller to the next, answered or not
FEW, MANY = 100, 1200  # such calls: with no crowd, and beside one


@dataclass
class Server:
    """One of the two, and what was measured of it."""

    pid: int
    url: str
    rates: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


async def figures() -> list[Figure]:
    with sandbox() as url, ExitStack() as stack:
        task = await _task(url)
        quiet = {"INFERENCE_LOG_LEVEL": "ERROR", "INFERENCE_MAX_CONNECTIONS": "1000", "INFERENCE_BASE_URL": url}
        ours = stack.enter_context(_server(["-m", "inferencesh_mcp", "http", "--port", "0"], **quiet))
        bare = stack.enter_context(_server([str(Path(__file__).with_name("bare_http.py"))], BASE_URL=url))
        for _ in range(ROUNDS + 1):
            for server in (ours, bare):
                await _round(server, task)
        memory = {server.url: await _memory(server, task) for server in (ours, bare)}
        beside = await _beside(url, task)
    return [
        Figure(
            name=f"time of a call, {AT_ONCE} at once", value=1000 / _rate(ours), unit="ms", base=1000 / _rate(bare),
            base_name="a bare tool", aim=1.3, by_ratio=True,
            note=f"{_rate(ours):.0f} calls a second against {_rate(bare):.0f}; each call reads a task and its charge; "
            f"CPU {_cpu(ours):.2f} ms against {_cpu(bare):.2f}",
        ),
        Figure(name="p50 of a call over HTTP", value=_quantile(ours, 50), unit="ms", base=_quantile(bare, 50),
               base_name="a bare tool", aim=1.3, by_ratio=True),
        Figure(name="p95 of a call over HTTP", value=_quantile(ours, 95), unit="ms", base=_quantile(bare, 95),
               base_name="a bare tool", aim=1.3, by_ratio=True),
        Figure(name=f"memory of one of {CALLERS} callers", value=memory[ours.url], unit="KiB", base=memory[bare.url],
               base_name="a bare tool", aim=64, note="each with a key and an open connection of its own"),
        *beside,
    ]  # fmt: skip


def _rate(server: Server) -> float:
    return statistics.median(server.rates[1:])


def _cpu(server: Server) -> float:
    return statistics.median(server.cpu[1:]) * 1000


def _quantile(server: Server, percent: int) -> float:
    return statistics.quantiles(server.waits[CALLS:], n=100)[percent - 1] * 1000


async def _task(url: str) -> str:
    """A task that has ended, for both to read."""
    async with httpx2.AsyncClient(
        base_url=url, headers={"authorization": f"Bearer {KEY}", "x-api-version": "2"}
    ) as http:
        made = await http.post("/apps/run", json={"app": "sandbox/echo", "input": {"n": 1}, "wait": True})
        return str(made.json()["data"]["id"])


@contextmanager
def _server(command: list[str], **settings: str) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.PIPE, text=True, env=environ(**settings)
    ) as process:
        try:
            assert process.stderr is not None
            yield Server(process.pid, re.findall(r"http://\S+", process.stderr.readline())[0])
        finally:
            process.terminate()


def _request(tool: str, key: str, progress: str = "", **arguments: Any) -> tuple[dict[str, str], bytes]:
    headers = {
        "accept": "application/json, text/event-stream", "content-type": "application/json",
        "mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": tool, "authorization": f"Bearer {key}",
    }  # fmt: skip
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {},
    }  # fmt: skip
    if progress:
        meta["progressToken"] = progress
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    return headers, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


async def _round(server: Server, task: str) -> None:
    headers, message = _request("task_get", KEY, task_id=task)
    left = iter(range(CALLS))

    async def caller() -> None:
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            for _ in left:
                began = time.perf_counter()
                answer = await http.post(server.url, content=message)
                server.waits.append(time.perf_counter() - began)
                assert answer.json()["result"].get("isError") is not True, answer.text

    began, used = time.perf_counter(), cpu_seconds(server.pid)
    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(caller)
    server.rates.append(CALLS / (time.perf_counter() - began))
    server.cpu.append((cpu_seconds(server.pid) - used) / CALLS)


async def _beside(url: str, task: str) -> list[Figure]:
    """What a caller notices of another one who has all the runs that a server takes."""
    settings = {
        "INFERENCE_BASE_URL": url, "INFERENCE_LOG_LEVEL": "ERROR", "INFERENCE_WAIT_SECONDS": str(LONG),
        "INFERENCE_MAX_CONCURRENT_RUNS": str(CROWD), "INFERENCE_MAX_STREAMS": str(CROWD),
        "INFERENCE_MAX_CONNECTIONS": str(2 * CROWD),  # both callers are of one address here
    }  # fmt: skip
    with _server(["-m", "inferencesh_mcp", "http", "--port", "0"], **settings) as server:
        await _paced(server, url, task, FEW)  # not counted
        idle = await _paced(server, url, task, FEW)
        async with _crowd(server):
            await _paced(server, url, task, FEW)  # nor this: the last of the crowd have only begun
            busy = await _paced(server, url, task, MANY)
    at_idle, p95, api = (_p95(times) * 1000 for times in (idle.waits, busy.waits, busy.bare))
    return [
        Figure(
            name=f"p95 beside {CROWD} runs of another", value=p95, unit="ms", base=at_idle,
            base_name="beside none", aim=max(50, 10 * at_idle),
            note=f"a call every {PACE * 1000:.0f} ms; half of them took {statistics.median(busy.waits) * 1000:.0f} ms or less, the "
            f"longest {max(busy.waits) * 1000:.0f} ms; p95 of what they read of the API was {api:.0f} ms itself",
        ),
        Figure(
            name="of these calls refused", value=idle.refused + busy.refused, unit="", base=len(busy.waits), base_name="calls",
            aim=0, exact=True,
        ),
    ]  # fmt: skip


@dataclass
class Paced:
    """Calls of one caller, and reads of the same by `httpx2`: seconds of each."""

    waits: list[float] = field(default_factory=list[float])
    bare: list[float] = field(default_factory=list[float])
    refused: int = 0


async def _paced(server: Server, url: str, task: str, calls: int) -> Paced:
    """Call at a pace that does not wait for answers: who stood still for a second has then kept twenty calls waiting."""
    headers, message = _request("task_get", KEY, task_id=task)
    paced = Paced()

    async def call(http: httpx2.AsyncClient) -> None:
        began = time.perf_counter()
        answer = await http.post(server.url, content=message)
        answered = time.perf_counter()
        await http.get(f"{url}/tasks/{task}")
        paced.waits.append(answered - began)
        paced.bare.append(time.perf_counter() - answered)
        paced.refused += answer.status_code != 200 or answer.json()["result"].get("isError") is True

    async with httpx2.AsyncClient(headers=headers, timeout=60) as http, anyio.create_task_group() as group:
        for _ in range(calls):
            group.start_soon(call, http)
            await anyio.sleep(PACE)
    return paced


@asynccontextmanager
async def _crowd(server: Server) -> AsyncIterator[None]:
    """Another caller, in a process of its own, whose runs are all live."""
    run = {"app": "sandbox/slow", "input": {"seconds": LONG, "steps": STEPS}}
    headers, message = _request("app_run", f"{KEY}_crowd", "crowd", **run)
    job = {"url": server.url, "headers": headers, "message": message.decode(), "runs": CROWD}
    command = [sys.executable, str(Path(__file__).with_name("crowd.py"))]
    async with await anyio.open_process(command, stderr=None, env=environ()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(json.dumps(job).encode() + b"\n")
        output = BufferedByteReceiveStream(process.stdout)
        try:
            for _ in range(CROWD):
                with anyio.fail_after(SOON):
                    await output.receive_until(b"\n", 100)
            yield
        finally:
            process.terminate()


def _p95(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[94]


async def _memory(server: Server, task: str) -> float:
    """KiB that one more caller costs while connected: most is the connection, the rest is what is kept about a caller."""
    idle = resident(server.pid)
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
    clients = [httpx2.AsyncClient(limits=limits, verify=False, timeout=60) for _ in range(CALLERS)]
    try:
        for number, http in enumerate(clients):
            headers, message = _request("task_get", f"{KEY}_{number}", task_id=task)
            await http.post(server.url, headers=headers, content=message)
        return (resident(server.pid) - idle) / CALLERS / 1024
    finally:
        for http in clients:
            await http.aclose()
