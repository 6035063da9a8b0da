"""Streams of tasks and chats: the state, each change, and heartbeats."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response, StreamingResponse

from inferencesh_sandbox.clock import wait_until_set

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request

    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.tasks import Task
    from inferencesh_sandbox.wire import Json

_HEARTBEAT = 10.0
_SNAPSHOT = timedelta(seconds=20)
"""The whole task again: the Python SDK leaves a connection on which it saw nothing real for 30 s."""
_BEHIND = 20_000
"""Lines that a stream may be behind before it is ended: who does not read must not fill the memory."""


async def task_lines(task: Task, clock: Clock) -> AsyncGenerator[Json]:
    """Yield the lines of a task until it has ended.

    Each connection begins with the whole task and every delta so far, because an SDK that reconnects starts counting anew.
    A task that has ended is one line.
    """
    if not task.ended:
        changes = task.lines
        sent, whole_sent_at = len(changes), clock.now()
        yield task.dto()
        for line in changes[:sent]:
            if "event" in line:
                yield line
        while not task.ended or sent < len(changes):
            for line in changes[sent:]:
                sent += 1
                # The change to the last status has no line of its own: the last line is the whole task.
                if not task.ended or line is not changes[-1]:
                    yield line
            if sent < len(changes) or task.ended:
                continue
            if not await wait_until_set(task.changed, _HEARTBEAT, clock):
                yield {"type": "heartbeat"}
            if clock.now() - whole_sent_at >= _SNAPSHOT and not task.ended:
                sent, whole_sent_at = len(changes), clock.now()
                yield task.dto()
    yield task.dto()


class ChatStreams:
    """The open streams of one chat."""

    def __init__(self, present: Callable[[], list[Json]]) -> None:
        """`present` returns the chat's state, which is where a stream begins."""
        self._present = present
        self._readers: set[_Reader] = set()

    def put(self, line: Json) -> None:
        """Send a line to all streams."""
        for reader in self._readers:
            reader.lines.append(line)
            reader.closed = reader.closed or len(reader.lines) > _BEHIND
            reader.changed.set()

    def close(self) -> None:
        """End all streams: the chat is deleted."""
        for reader in self._readers:
            reader.closed = True
            reader.changed.set()

    async def lines(self, clock: Clock) -> AsyncGenerator[Json]:
        """Yield the chat's state, then each change, until the chat is deleted."""
        reader = _Reader(deque(self._present()))
        self._readers.add(reader)
        try:
            while not reader.closed:
                reader.changed = anyio.Event()
                while reader.lines:
                    yield reader.lines.popleft()
                if not reader.changed.is_set() and not await wait_until_set(reader.changed, _HEARTBEAT, clock):
                    yield {"type": "heartbeat"}
        finally:
            self._readers.discard(reader)


@dataclass(eq=False)
class _Reader:
    """One stream, and the lines that it has not sent yet."""

    lines: deque[Json]
    closed: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)


def response(request: Request, records: AsyncGenerator[Json]) -> Response:
    """A stream as the request accepts it: server-sent events, or one JSON object per line."""
    if "text/event-stream" in request.headers.get("accept", ""):
        return StreamingResponse(_as_events(records), media_type="text/event-stream")
    return StreamingResponse(_as_ndjson(records), media_type="application/x-ndjson")


async def _as_ndjson(records: AsyncGenerator[Json]) -> AsyncGenerator[bytes]:
    async for line in records:
        yield _compact(line) + b"\n"


async def _as_events(records: AsyncGenerator[Json]) -> AsyncGenerator[bytes]:
    """The same lines as unnamed server-sent events."""
    async for line in records:
        yield b"data: " + _compact(line) + b"\n\n"


def _compact(line: Json) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()
