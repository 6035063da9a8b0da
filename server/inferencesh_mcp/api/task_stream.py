"""Following a task to its end.

The end of the stream is not the result, whatever its last line said: the task is read by one GET. If nothing fails, following
a task costs exactly one stream and one GET.
"""

from __future__ import annotations

import functools
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.api.models import Task, TaskStatus, checked_task
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.stream import Record, StreamFollower, appended, delta_text, named_fields
from inferencesh_mcp.api.wire import parsed, updated
from inferencesh_mcp.errors import InferenceError, WaitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from inferencesh_mcp.api.sender import Sender
    from inferencesh_mcp.api.wire import Wire


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


_LISTS = ("logs", "usage_events")


class _TaskFollower(StreamFollower[Record]):
    def __init__(self, sender: Sender, task: Task, *, stream: bool, poll_interval: float) -> None:
        path = f"/tasks/{segment(task.id, 'task id')}"
        super().__init__(sender, path, stream=stream, poll_interval=poll_interval)
        self._task = task
        self._lists: dict[str, tuple[list[Any], tuple[Wire, ...]]] = {}
        """The long lists of the last line that had them, by name: as they came, and parsed."""
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
                task = functools.reduce(merge, map(self._with_parsed_lists, lines), self._task)
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
            record = await self._read()
            if record is None:
                return False
            task = checked_task(self._task.id, parsed(Task, record))
        except InferenceError as error:
            raise error.replace(task_id=self._task.id) from error
        before, self._stream_has_ended = self._task, False
        null_fields = {name for name, value in record.items() if value is None and name != "status"}
        names = Task.model_fields.keys() if task.ended else task.model_fields_set | null_fields
        self._task = updated(before, task, names - {"streamed"})
        return self._task != before

    async def _fetch(self) -> Record:
        record: Record = await self._sender.get(self._path)
        return record

    def _with_parsed_lists(self, line: Record) -> Record:
        data = line.get("data")
        fields: Record = data if is_object(data) else line
        lists = {name: self._parse_list(name, items) for name in _LISTS if is_array(items := fields.get(name))}
        if not lists:
            return line
        return {**line, "data": {**fields, **lists}} if is_object(data) else {**line, **lists}

    def _parse_list(self, name: str, items: list[Any]) -> list[Any]:
        """The entries of a list. Each line repeats all of them: those that did not change are not parsed again."""
        old_items, old_entries = self._lists.get(name, ([], ()))
        known = [
            entry if item == old else item for item, old, entry in zip(items, old_items, old_entries, strict=False)
        ]
        entries = getattr(parsed(Task, {"id": self._task.id, name: known + items[len(old_items) :]}), name)
        # Entries that are no objects are dropped: then no entry belongs to an item for certain.
        self._lists[name] = (items, entries) if len(items) == len(entries) else ([], ())
        return list(entries)
