"""Streams of tasks and chats: the state, each change, and heartbeats."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from inferencesh_sandbox.clock import wait_until_set

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.tasks import Task
    from inferencesh_sandbox.wire import Json

_HEARTBEAT = 10.0
_SNAPSHOT = timedelta(seconds=20)
"""The whole task again: the Python SDK leaves a connection on which it saw nothing real for 30 s."""


async def lines(task: Task, clock: Clock) -> AsyncGenerator[Json]:
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


async def chat_lines(chat: Chat, clock: Clock) -> AsyncGenerator[Json]:
    """Yield the lines of a chat: its state, then each change, until it is deleted."""
    watch = chat.watched()
    try:
        while not watch.closed:
            changed = watch.changed
            while watch.lines:
                yield watch.lines.popleft()
            if not changed.is_set() and not await wait_until_set(changed, _HEARTBEAT, clock):
                yield {"type": "heartbeat"}
    finally:
        chat.unwatched(watch)


async def as_ndjson(records: AsyncGenerator[Json]) -> AsyncGenerator[bytes]:
    async for line in records:
        yield _compact(line) + b"\n"


async def as_events(records: AsyncGenerator[Json]) -> AsyncGenerator[bytes]:
    """The same lines as unnamed server-sent events."""
    async for line in records:
        yield b"data: " + _compact(line) + b"\n\n"


def _compact(line: Json) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()
