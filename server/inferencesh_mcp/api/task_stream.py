"""Following a task to its end.

The end of the stream is not the result, whatever its last line said: the task is read by one GET. If nothing fails, following
a task costs exactly one stream and one GET.
"""

from __future__ import annotations

import functools
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from inferencesh_mcp.api.json import as_object, is_array, is_object
from inferencesh_mcp.api.models import Task, TaskStatus, checked_task
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.stream import Record, StreamFollower, appended, delta_text, named_fields
from inferencesh_mcp.api.wire import parsed, updated
from inferencesh_mcp.errors import InferenceError, WaitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from inferencesh_mcp.api.sender import Sender


@asynccontextmanager
async def task_states(
    sender: Sender, task: Task, *, stream: bool, poll_interval: float
) -> AsyncGenerator[AsyncIterator[Task]]:
    """A block with the new states of a task. Leaving it closes the connection at once."""
    follower = _TaskFollower(sender, task, stream=stream, poll_interval=poll_interval)
    async with aclosing(follower.states()) as states:
        yield states


def merge(task: Task, line: Record) -> Task:
    """The task after a line of its stream; the same object if nothing changes. A task that has ended does not change.

    A line may be: a whole task; `{data, fields}`, of which only the named fields count; `{data}`; `{event, data}`; a delta of
    text; anything else, which changes nothing.
    """
    if task.ended:
        return task
    data = line.get("data")
    if line.get("event") == "delta":
        text = delta_text(data)
        return task.model_copy(update={"streamed": appended(task.streamed, text)}) if text else task
    if is_object(data):
        news = named_fields(data, line.get("fields"))
    else:
        news = line if "status" in line or "id" in line else {}
    if news.get("id") not in (None, task.id, task.short_id):
        return task  # some events carry another object, with its own id
    fields = {name: value for name, value in news.items() if value is not None or name != "status"}
    update = parsed(Task, {**fields, "id": task.id})
    merged = updated(task, update, fields.keys() - {"id", "streamed"})
    return task if merged == task else merged


class _TaskFollower(StreamFollower[Task]):
    def __init__(self, sender: Sender, task: Task, *, stream: bool, poll_interval: float) -> None:
        path = f"/tasks/{segment(task.id, 'task id')}"
        super().__init__(sender, path, stream=stream, poll_interval=poll_interval)
        self._task = task
        self._lists: Record = {}
        """Lists of the last lines, as they were before they were parsed into `_task`."""
        self._null_fields: set[str] = set()
        """Fields that the last GET said to be null."""
        self._stream_has_ended = False
        """The stream says that the task has ended, and no GET since."""

    async def states(self) -> AsyncGenerator[Task]:
        """Each new state, or the newest of several that came at once; the last one has ended and was read by a GET.

        Raises what a GET raises and waiting cannot cure (KeyRefused, Forbidden, NotFound, UpstreamError), with the task's id.
        """
        while True:
            has_ended = self._task.ended or self._stream_has_ended
            if not has_ended and not await self._poll_until_changed():
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
                task = functools.reduce(merge, map(self._with_known_entries, lines), self._task)
                self._remember_lists(lines, task)
                if task.ended:
                    self._stream_has_ended = True
                    self._task = self._task.model_copy(update={"streamed": task.streamed})
                    return
                if task is not self._task:
                    # A connection's first line repeats what is known: only a new status makes it news.
                    if connection.line_count > 1 or task.status != self._task.status:
                        connection.has_news = True
                    self._task = task
                    yield task

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
            task = await self._read()
        except InferenceError as error:
            raise error.replace(task_id=self._task.id) from error
        if task is None:
            return False
        before, self._stream_has_ended = self._task, False
        names = Task.model_fields.keys() if task.ended else task.model_fields_set | self._null_fields
        self._task = updated(before, task, names - {"streamed"})
        return self._task != before

    async def _fetch(self) -> Task:
        record: Record = await self._sender.get(self._path)
        self._null_fields = {name for name, value in record.items() if value is None and name != "status"}
        return checked_task(self._task.id, parsed(Task, record))

    def _with_known_entries(self, line: Record) -> Record:
        """The line with entries of long lists that did not change as they were parsed before: each line repeats them all."""
        lists: Record = {}
        for name, items in _lists_in(line).items():
            before, entries = self._lists.get(name), getattr(self._task, name)
            if is_array(before) and len(before) == len(entries):
                pairs = zip(items, before, entries, strict=False)
                lists[name] = [entry if item == old else item for item, old, entry in pairs] + items[len(entries) :]
        if not lists:
            return line
        data = line.get("data")
        return {**line, "data": {**data, **lists}} if is_object(data) else {**line, **lists}

    def _remember_lists(self, lines: list[Record], task: Task) -> None:
        for line in lines:
            self._lists |= _lists_in(line)
        self._lists = {name: items for name, items in self._lists.items() if len(items) == len(getattr(task, name))}


def _lists_in(line: Record) -> Record:
    """The long lists of a line."""
    fields = as_object(line.get("data")) or line
    return {name: items for name in ("logs", "usage_events") if is_array(items := fields.get(name))}
