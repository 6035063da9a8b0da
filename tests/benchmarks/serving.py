"""The HTTP face under load: the same call, of the same thing, as a bare server of one tool; and what a caller leaves behind."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, cpu_seconds, environ, resident, sandbox

VERSION = "2026-07-28"
AT_ONCE = 8
CALLS = 400  # of each round
ROUNDS = 5  # of each server, in turns
CALLERS = 300  # each with a key and a connection of its own


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
    return [
        Figure(
            name=f"time of a call, {AT_ONCE} at once", value=1000 / _rate(ours), unit="ms", base=1000 / _rate(bare),
            base_name="a bare tool", aim=1.3, by_ratio=True,
            note=f"{_rate(ours):.0f} calls a second against {_rate(bare):.0f}; each call reads one task of the API; "
            f"CPU {_cpu(ours):.2f} ms against {_cpu(bare):.2f}",
        ),
        Figure(name="p50 of a call over HTTP", value=_quantile(ours, 50), unit="ms", base=_quantile(bare, 50),
               base_name="a bare tool", aim=1.3, by_ratio=True),
        Figure(name="p95 of a call over HTTP", value=_quantile(ours, 95), unit="ms", base=_quantile(bare, 95),
               base_name="a bare tool", aim=1.3, by_ratio=True),
        Figure(name=f"memory of one of {CALLERS} callers", value=memory[ours.url], unit="KiB", base=memory[bare.url],
               base_name="a bare tool", aim=64, note="each with a key and an open connection of its own"),
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
        return str(made.json()["id"])


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


def _request(task: str, key: str) -> tuple[dict[str, str], bytes]:
    headers = {
        "accept": "application/json, text/event-stream", "content-type": "application/json",
        "mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": "task_get", "authorization": f"Bearer {key}",
    }  # fmt: skip
    meta = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": "task_get", "arguments": {"task_id": task}, "_meta": meta}
    return headers, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


async def _round(server: Server, task: str) -> None:
    headers, message = _request(task, KEY)
    left = iter(range(CALLS))

    async def caller() -> None:
        async with httpx2.AsyncClient(headers=headers) as http:
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


async def _memory(server: Server, task: str) -> float:
    """KiB that one more caller costs while connected: most is the connection, the rest is what is kept about a caller."""
    idle = resident(server.pid)
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
    clients = [httpx2.AsyncClient(limits=limits, verify=False) for _ in range(CALLERS)]
    try:
        for number, http in enumerate(clients):
            headers, message = _request(task, f"{KEY}_{number}")
            await http.post(server.url, headers=headers, content=message)
        return (resident(server.pid) - idle) / CALLERS / 1024
    finally:
        for http in clients:
            await http.aclose()
