"""Following a task to its end.

The end of the stream is not the result, whatever its last line said: the task is read by one GET. If nothing fails, following
a task costs exactly one stream and one GET.
"""

from __future__ import annotations

import functools
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.enums import status_word
from inferencesh_mcp.api.json import is_array
from inferencesh_mcp.api.models import Task, TaskStatus, checked_task
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.stream import StreamFollower
from inferencesh_mcp.api.task_state import STREAMED, Record, has_ended, merge
from inferencesh_mcp.api.wire import Wire, parsed
from inferencesh_mcp.errors import InferenceError, WaitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from inferencesh_mcp.api.sender import Sender


@asynccontextmanager
async def follow_task(
    sender: Sender, task: Task, *, stream: bool, poll_interval: float
) -> AsyncGenerator[AsyncIterator[Task]]:
    """A block with the new states of a task. Leaving it closes the connection at once."""
    follower = _TaskFollower(sender, task, stream=stream, poll_interval=poll_interval)
    async with aclosing(follower.states()) as states:
        yield states


class _TaskFollower(StreamFollower):
    def __init__(self, sender: Sender, task: Task, *, stream: bool, poll_interval: float) -> None:
        path = f"/tasks/{segment(task.id, 'task id')}"
        super().__init__(sender, path, stream=stream, poll_interval=poll_interval)
        self._task = task
        self._record: Record = task.model_dump(exclude_unset=True)
        self._parsed_record: Record = {}
        """The record that `_task` was made of."""

    async def states(self) -> AsyncGenerator[Task]:
        """Each new state, or the newest of several that came at once; the last one has ended and was read by a GET.

        Raises what a GET raises and waiting cannot cure (KeyRefused, Forbidden, NotFound, UpstreamError), with the task's id.
        """
        while True:
            if not has_ended(self._record) and not await self._poll_until_changed():
                async with aclosing(self._streamed_states()) as states:
                    async for state in states:
                        yield state
            if await self._refresh():
                yield self._task
                if self._task.ended:
                    return
            await self._pause()

    async def _streamed_states(self) -> AsyncGenerator[Task]:
        """The states of one connection until it ends, breaks, is idle, or reports the end, which a GET must confirm."""
        async with (
            self._connected() as connection,
            self._transport.stream(f"{self._path}/stream", self._sender.key) as chunks,
        ):
            while (lines := await connection.next_lines(chunks)) is not None:
                before, self._record = self._record, functools.reduce(merge, lines, self._record)
                if has_ended(self._record):
                    return
                if self._record is not before:
                    # A connection's first line repeats what is known: only a new status makes it news.
                    if connection.line_count > 1 or _status(before) != _status(self._record):
                        connection.has_news = True
                    yield self._parse_record()

    async def _is_status_new(self) -> bool:
        try:
            status = parsed(TaskStatus, await self._sender.get(f"{self._path}/status"))
        except WaitError:
            raise
        except InferenceError:
            return True  # not every server has this endpoint, and any other error shows when the task is read
        return status.status != self._task.status

    async def _refresh(self) -> bool:
        """Read the task by a GET; True if that is news."""
        try:
            record = await self._read()
        except InferenceError as error:
            raise error.replace(task_id=self._task.id) from error
        if record is None:
            return False
        before = self._task
        self._record = record if has_ended(record) else {**self._record, **record}
        return self._parse_record() != before

    async def _fetch(self) -> Record:
        record = await self._sender.get(self._path)
        checked_task(self._task.id, parsed(Task, record))
        return {**record, STREAMED: self._record.get(STREAMED, "")}

    def _parse_record(self) -> Task:
        """The record as a Task. Entries of long lists that did not change are not parsed again: each line repeats them all."""
        lists = {name: self._reuse(name, getattr(self._task, name)) for name in ("logs", "usage_events")}
        self._task, self._parsed_record = parsed(Task, {**self._record, **lists}), self._record
        return self._task

    def _reuse(self, name: str, entries: tuple[Wire, ...]) -> Any:
        """A list of the record in which unchanged items are the entries that were parsed before."""
        items, before = self._record.get(name), self._parsed_record.get(name)
        if not (is_array(items) and is_array(before) and len(before) == len(entries)):
            return items
        if items == before:
            return entries
        pairs = zip(items, before, entries, strict=False)
        return [entry if item == old else item for item, old, entry in pairs] + items[len(entries) :]


def _status(record: Record) -> str:
    return status_word(record.get("status"))
