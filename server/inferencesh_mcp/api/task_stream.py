"""A run's life as it is heard of: reconnect, confirm, fall back.

The stream is the fast way to news, never the truth: its end is no result, whatever its last line said. The truth is one
`GET /tasks/{id}`. When nothing fails, following a run to its end costs exactly one stream and one GET.
"""

from __future__ import annotations

import functools
import logging
import math
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from inferencesh_mcp.api.enums import status_word
from inferencesh_mcp.api.json import is_array
from inferencesh_mcp.api.models import Task, TaskStatus, Wire, parsed, the_one
from inferencesh_mcp.api.ndjson import Lines
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.retry import LONGEST_RETRY_AFTER, backoff
from inferencesh_mcp.api.task_state import STREAMED, Record, has_ended, is_heartbeat, merge
from inferencesh_mcp.api.transport import Call, Transport
from inferencesh_mcp.errors import InferenceError, NotFound, WaitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from inferencesh_mcp.api.keys import Key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How patient following is; times in seconds."""

    idle: float = 60.0
    """A stream without a line for this long, or for three times its largest gap between heartbeats, is given up."""
    barren: int = 5
    """After so many reopened streams without an event, polling stands in."""
    poll: float = 2.0
    stream_again: float = 30.0
    """While polling stands in, the stream is tried again this often."""
    unknown: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
    """Pauses in the first second, when a task that was just made may not be found yet."""


@asynccontextmanager
async def follow(
    transport: Transport, key: Key | None, task: Task, *, stream: bool, pace: Pace
) -> AsyncGenerator[AsyncIterator[Task]]:
    """A block in which a run's states are told; leaving it closes the connection there and then."""
    async with aclosing(_Following(transport, key, task, pace).states(stream=stream)) as states:
        yield states


class _Following:
    """One run that is being followed, once."""

    def __init__(self, transport: Transport, key: Key | None, task: Task, pace: Pace) -> None:
        self._transport, self._key, self._pace = transport, key, pace
        self._path = f"/tasks/{segment(task.id, 'task id')}"
        self._task = task
        self._record: Record = task.model_dump(exclude_unset=True)
        self._shown: Record = {}
        """The record that `_task` was made of."""
        self._barren = 0
        """Streams in a row that told nothing new, and reads that failed."""
        self._asked_to_wait = 0.0
        self._unknown = list(pace.unknown)

    async def states(self, *, stream: bool) -> AsyncGenerator[Task]:
        """Each new state, or the newest of several that came at once; the last one has ended, and was read by a GET.

        It does not end otherwise, and raises what a GET raises and no patience can cure (KeyRefused, Forbidden, NotFound,
        UpstreamError), with the task's id. A stream that breaks is never an error, and an API that is away is waited for.
        """
        while True:
            if not has_ended(self._record) and not await self._changed_while_polling(stream=stream):
                async with aclosing(self._streamed()) as news:
                    async for state in news:
                        yield state
            if await self._refreshed():
                yield self._task
                if self._task.ended:
                    return
            await self._transport.sleep(self._pause())

    async def _streamed(self) -> AsyncGenerator[Task]:
        """What one connection tells, until it ends, breaks, falls silent, or tells the end, which a GET must confirm."""
        connection = Connection(self._pace.idle, self._transport.clock)
        fruitful = False
        try:
            async with self._transport.stream(f"{self._path}/stream", self._key) as chunks:
                while (batch := await connection.next_lines(chunks)) is not None:
                    before, self._record = self._record, functools.reduce(merge, batch, self._record)
                    if has_ended(self._record):
                        return
                    if self._record is not before:
                        # A connection's first line repeats what is known: only a new status makes it an event.
                        fruitful = fruitful or connection.told > 1 or _status(before) != _status(self._record)
                        yield self._state()
        except InferenceError as error:
            self._asked_to_wait = error.retry_after or 0.0
            logger.info("task %s: the stream failed (%s)", self._task.id, error.code)
        finally:
            self._barren = 0 if fruitful else self._barren + 1
            connection.log(f"task {self._task.id}")

    async def _changed_while_polling(self, *, stream: bool) -> bool:
        """Poll instead of streaming, where that is called for; True as soon as the status is another one."""
        if stream and self._barren <= self._pace.barren:
            return False
        end = self._transport.clock() + (self._pace.stream_again if stream else math.inf)
        with self._transport.polling.by(self._key):
            while self._transport.clock() < end:
                # A tenth of jitter either way, so that many runs do not poll in step.
                interval = self._transport.polling.interval(self._key, self._pace.poll)
                await self._transport.sleep(interval * (0.9 + 0.2 * self._transport.random()))
                if await self._status_changed():
                    return True
        return False

    async def _status_changed(self) -> bool:
        try:
            answer = await self._transport.call(Call(method="GET", path=f"{self._path}/status"), self._key)
            return parsed(TaskStatus, answer.value).status != self._task.status
        except WaitError as error:
            await self._transport.sleep(min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))
            return False
        except InferenceError:
            # Not every server has this call, and what else is wrong the task tells, which is read instead.
            return True

    async def _refreshed(self) -> bool:
        """Read the task itself; True when that is news. An API that is away is no news."""
        try:
            fresh = await self._read()
        except WaitError as error:
            self._asked_to_wait = error.retry_after or 0.0
            self._barren += 1
            logger.info("task %s: it could not be read (%s)", self._task.id, error.code)
            return False
        except InferenceError as error:
            raise self._about_the_task(error) from error.__cause__
        before = self._task
        self._record = fresh if has_ended(fresh) else {**self._record, **fresh}
        return self._state() != before

    async def _read(self) -> Record:
        """The task's record by one GET; in its first second a 404 only means that it is not known everywhere yet."""
        while True:
            try:
                value = (await self._transport.call(Call(method="GET", path=self._path), self._key)).value
                the_one(self._task.id, parsed(Task, value))
                return {**value, STREAMED: self._record.get(STREAMED, "")}
            except NotFound:
                if not self._unknown:
                    raise
                await self._transport.sleep(self._unknown.pop(0))

    def _state(self) -> Task:
        """The record as a Task; of long lists, which are told anew with every entry, what did not change is not read again."""
        known = {name: self._known(name, getattr(self._task, name)) for name in ("logs", "usage_events")}
        self._task, self._shown = parsed(Task, {**self._record, **known}), self._record
        return self._task

    def _known(self, name: str, read: tuple[Wire, ...]) -> Any:
        told, shown = self._record.get(name), self._shown.get(name)
        if not (is_array(told) and is_array(shown) and len(shown) == len(read)):
            return told
        if told == shown:
            return read
        beside = zip(told, shown, read, strict=False)
        return [known if now == before else now for now, before, known in beside] + told[len(read) :]

    def _pause(self) -> float:
        asked, self._asked_to_wait = self._asked_to_wait, 0.0
        return max(min(asked, LONGEST_RETRY_AFTER), backoff(self._barren, self._transport.random))

    def _about_the_task(self, error: InferenceError) -> InferenceError:
        error.task_id = self._task.id
        return error


class Connection:
    """One connection's lines, and whether it is still alive: a line is a sign of life, a byte is none."""

    def __init__(self, idle: float, clock: Callable[[], float]) -> None:
        self.told = 0
        """Lines that were no heartbeat."""
        self._lines = Lines()
        self._idle, self._clock = idle, clock
        self._heard = clock()
        self._last_beat: float | None = None
        self._ended = False
        self._why = "it ended"

    @property
    def bad(self) -> int:
        """Lines that could not be read."""
        return self._lines.bad

    async def next_lines(self, chunks: AsyncIterator[bytes], patience: float = math.inf) -> list[Record] | None:
        """The lines that the next bytes complete, without heartbeats; None when nothing more is to be expected, or when
        nothing came for `patience` seconds: then the connection is of no more use."""
        if self._ended:
            return None
        chunk = None
        with anyio.move_on_after(min(patience, self._heard + self._idle - self._clock())) as silence:
            chunk = await anext(chunks, None)
        if silence.cancelled_caught:
            self._why = "it fell silent"
        self._ended = chunk is None
        lines = self._lines.end() if chunk is None else self._lines.feed(chunk)
        if self._lines.too_long:
            self._ended, self._why = True, "a line was too long"
        return self._without_heartbeats(lines)

    def log(self, of: str) -> None:
        """Say in the log why nothing more is to be expected."""
        logger.debug("%s: stream closed, %s; %d lines, %d bad", of, self._why, self.told, self._lines.bad)

    def _without_heartbeats(self, lines: list[Record]) -> list[Record]:
        if lines:
            self._heard = self._clock()
        if any(is_heartbeat(line) for line in lines):
            if self._last_beat is not None:
                self._idle = max(self._idle, 3 * (self._heard - self._last_beat))
            self._last_beat = self._heard
        told = [line for line in lines if not is_heartbeat(line)]
        self.told += len(told)
        return told


def _status(record: Record) -> str:
    return status_word(record.get("status"))
