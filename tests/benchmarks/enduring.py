"""A host that does not read what its server writes: what the bridge keeps for it while a million events arrive."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import anyio

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import INITIALIZE, INITIALIZED, KEY, environ, lines, sandbox
from tests.system.faults.front import Visit, fronting
from tests.system.faults.process_usage import growth

EVENTS = 1_000_000
WARM = 100_000  # of them, which do not count: what the first ones load once is not what is kept for a host
AT_ONCE = 1_000
PIPE = 4096  # bytes, the least that Linux takes: 64 KiB would hold minutes of progress, and nobody would ever wait
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n"
# What `sandbox/slow` logs, each time another line: what a host is told of.
EVENT = (
    b'{"data":{"id":"%s","logs":[{"log_type":4,"content":"step %d/1000000"}],"updated_at":"2026-11-26T09:00:00.000000Z"},'
    b'"fields":["logs","updated_at"]}\n'
)
RUN = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {
        "name": "app_run",
        "arguments": {"app": "sandbox/slow", "input": {"seconds": 3600, "steps": 1}},
        "_meta": {"progressToken": "unread"},
    },
}


async def figures() -> list[Figure]:
    flood = Flood()
    with sandbox() as url:
        async with fronting(url) as front:
            front.on("GET /tasks/", flood.pour, flood.end)
            with _unread(front.url) as (pid, output):
                await flood.warm.wait()
                began = time.perf_counter()
                with growth(pid) as grown:
                    flood.wanted.set()
                    await flood.over.wait()
                took, unread = time.perf_counter() - began, _waiting(output)
    assert unread > PIPE - 512, f"the pipe was never full: {unread} bytes"
    return [
        Figure(
            name="memory for a host that does not read", value=grown.bytes / 2**20, unit="MiB", base=flood.sent / 2**20,
            base_name=f"{EVENTS:,} events", aim=4, note=f"read in {took:.0f} s, with {unread:,} bytes unread in its pipe",
        )
    ]  # fmt: skip


class Flood:
    """Events of one run, as fast as they are read; when the last was, whoever read it asks again."""

    def __init__(self) -> None:
        self.warm, self.wanted, self.over = anyio.Event(), anyio.Event(), anyio.Event()
        self.sent = 0
        """Bytes, since it was wanted."""

    async def pour(self, visit: Visit) -> None:
        task = re.findall(r"/tasks/(\w+)/stream", visit.head)[0].encode()
        await visit.say(HEAD + _events(task, 0, WARM))
        self.warm.set()
        await self.wanted.wait()
        for first in range(WARM, WARM + EVENTS, AT_ONCE):
            events = _events(task, first, AT_ONCE)
            await visit.say(events)
            self.sent += len(events)

    async def end(self, visit: Visit) -> None:
        self.over.set()
        await visit.reader.read()


def _events(task: bytes, first: int, count: int) -> bytes:
    return b"".join(EVENT % (task, step) for step in range(first, first + count))


@contextmanager
def _unread(url: str) -> Iterator[tuple[int, IO[bytes]]]:
    """A server with a run, whose host reads nothing any more; and what it does not read."""
    settings = environ(
        INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=url, INFERENCE_LOG_LEVEL="ERROR", INFERENCE_WAIT_SECONDS="3600"
    )
    command = [sys.executable, "-m", "inferencesh_mcp"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=settings) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(lines(INITIALIZE))
            process.stdin.flush()
            process.stdout.readline()
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE)
            process.stdin.write(lines(INITIALIZED, RUN))
            process.stdin.flush()
            yield process.pid, process.stdout
        finally:
            process.kill()  # told to end, it would wait for its host for seconds


def _waiting(pipe: IO[bytes]) -> int:
    """Bytes that are in it."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
