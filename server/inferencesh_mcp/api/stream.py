"""Following a task or a chat by its NDJSON stream: what both share.

The stream is fast but not reliable: it can end early, stay silent or repeat itself, so what decides is a GET of the record.
A broken stream is reopened, polling replaces streams that bring no news, and an unavailable API is waited for.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import anyio

from inferencesh_mcp.api.json import NdjsonReader, as_object, as_text, is_object, texts
from inferencesh_mcp.api.retry import MAX_RETRY_AFTER_SECONDS, backoff
from inferencesh_mcp.errors import InferenceError, NotFound, WaitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator

    from inferencesh_mcp.api.sender import Sender

Record = dict[str, Any]
"""A line of a stream."""
R = TypeVar("R")
IDLE_SECONDS = 60.0
"""A stream is given up after this long without a line, or after three times its largest gap between heartbeats."""
MAX_FRUITLESS = 5
"""After more than this many streams in a row without news, polling replaces the stream."""
STREAM_AGAIN_SECONDS = 30.0
"""While polling replaces the stream, the stream is tried again this often."""
NOT_FOUND_PAUSES = (0.1, 0.2, 0.3, 0.4)
"""Seconds to wait after a 404: a new record may not be known everywhere yet."""
POLL_JITTER = 0.1
"""Share by which an interval between polls is shortened or lengthened at random, so that followers do not poll in step."""
POLLS_PER_MINUTE = 600
"""Polls of one key. The platform allows 1,000 reads a minute; the rest is left for the key's other uses."""

MAX_TEXT_LENGTH = 4 * 1024 * 1024
"""Characters of one text made of deltas; of a longer one only the end is kept."""

logger = logging.getLogger(__name__)


class Connection:
    """One connection's lines, and whether it is still alive. A complete line is a sign of life, a single byte is not."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.has_news = False
        """Whether a line changed what is known; set by the follower."""
        self.line_count = 0
        """Lines that were not heartbeats."""
        self._reader = NdjsonReader()
        self._idle, self._clock = IDLE_SECONDS, clock
        self._last_line = clock()
        self._last_heartbeat: float | None = None
        self._ended = False
        self._end_reason = "it ended"

    @property
    def bad_lines(self) -> int:
        """Lines that could not be read."""
        return self._reader.bad

    async def next_lines(self, chunks: AsyncIterator[bytes], seconds: float = math.inf) -> list[Record] | None:
        """The lines that the next bytes complete, without heartbeats.

        None if the connection has ended, or if nothing came for so many seconds; it cannot be used afterwards.
        """
        if self._ended:
            return None
        chunk = None
        with anyio.move_on_after(min(seconds, self._last_line + self._idle - self._clock())) as limit:
            chunk = await anext(chunks, None)
        if limit.cancelled_caught:
            self._end_reason = "it was idle for too long"
        self._ended = chunk is None
        lines = self._reader.end() if chunk is None else self._reader.feed(chunk)
        if self._reader.too_long:
            self._ended, self._end_reason = True, "a line was too long"
        return self._without_heartbeats(lines)

    def log_end(self, subject: str) -> None:
        """Log why the connection was closed."""
        logger.debug(
            "%s: stream closed, %s; %d lines, %d bad", subject, self._end_reason, self.line_count, self.bad_lines
        )

    def _without_heartbeats(self, lines: list[Record]) -> list[Record]:
        if lines:
            self._last_line = self._clock()
        news = [line for line in lines if line.get("type") != "heartbeat"]
        if len(news) < len(lines):
            if self._last_heartbeat is not None:
                self._idle = max(self._idle, 3 * (self._last_line - self._last_heartbeat))
            self._last_heartbeat = self._last_line
        self.line_count += len(news)
        return news


class StreamFollower(ABC, Generic[R]):
    """Follows one record, once: the subclass says how the record is read and what a changed status is."""

    polls_per_read: ClassVar[float] = math.inf
    """After so many polls the record is read although its status is the same."""

    def __init__(self, sender: Sender, path: str, *, stream: bool, poll_interval: float) -> None:
        """`stream=False` only polls, every `poll_interval` seconds."""
        self._sender, self._transport, self._path = sender, sender.transport, path
        self._stream, self._poll_interval = stream, poll_interval
        self._fruitless = 0
        """Streams without news and failed reads, in a row."""
        self._retry_after = 0.0
        """Seconds that the last failure asked to wait."""
        self._not_found_pauses = list(NOT_FOUND_PAUSES)

    @abstractmethod
    async def _fetch(self) -> R:
        """Read the record by a GET."""

    @abstractmethod
    async def _is_status_new(self) -> bool:
        """Poll the status alone: whether it differs from what is known."""

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        """A block in which one connection is read. A stream that fails is not an error: the block ends."""
        connection = Connection(self._transport.clock)
        try:
            yield connection
        except InferenceError as error:
            self._retry_after = error.retry_after or 0.0
            logger.info("%s: the stream failed (%s)", self._path, error.code)
        finally:
            self._fruitless = 0 if connection.has_news else self._fruitless + 1
            connection.log_end(self._path)

    async def _poll_until_changed(self) -> bool:
        """Poll if the stream is off or brings no news. True if the record should be read, False if the stream should."""
        if self._stream and self._fruitless <= MAX_FRUITLESS:
            return False
        end = self._transport.clock() + (STREAM_AGAIN_SECONDS if self._stream else math.inf)
        polls = 0
        with self._counted_as_poller():
            while self._transport.clock() < end:
                # The platform counts the reads of each key, so all runs and chats that are polled share one number.
                shared = self._transport.pollers[self._sender.account] * 60 / POLLS_PER_MINUTE
                interval = max(self._poll_interval, shared)
                await self._transport.sleep(interval * (1 - POLL_JITTER + 2 * POLL_JITTER * self._transport.random()))
                polls += 1
                try:
                    is_new = await self._is_status_new()
                except WaitError as error:
                    await self._transport.sleep(min(error.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
                    is_new = False
                if is_new or polls >= self.polls_per_read:
                    return True
        return False

    @contextmanager
    def _counted_as_poller(self) -> Generator[None]:
        pollers, account = self._transport.pollers, self._sender.account
        pollers[account] += 1
        try:
            yield
        finally:
            pollers[account] -= 1
            if not pollers[account]:
                del pollers[account]

    async def _read(self) -> R | None:
        """The record, or None while the API is unavailable, which is not an error."""
        while True:
            try:
                return await self._fetch()
            except NotFound:
                if not self._not_found_pauses:
                    raise
                await self._transport.sleep(self._not_found_pauses.pop(0))
            except WaitError as error:
                self._retry_after = error.retry_after or 0.0
                self._fruitless += 1
                logger.info("%s: it could not be read (%s)", self._path, error.code)
                return None

    async def _pause(self) -> None:
        """Wait before the next connection or read: as long as was asked for, or longer after several failures."""
        retry_after, self._retry_after = self._retry_after, 0.0
        await self._transport.sleep(
            max(min(retry_after, MAX_RETRY_AFTER_SECONDS), backoff(self._fruitless, self._transport.random))
        )


def delta_text(data: Any) -> str | None:
    """The text of a delta, which is a string or an object with `response`; None if there is no delta."""
    delta = as_object(data).get("delta")
    if not is_object(delta):
        return delta if isinstance(delta, str) else None
    return as_text(delta.get("response"))


def appended(text: str, more: str) -> str:
    """The text with one more delta; at most the last `MAX_TEXT_LENGTH` characters."""
    return (text + more)[-MAX_TEXT_LENGTH:]


def named_fields(data: Record, names: object) -> Record:
    """The fields that a line names; all of them if it names none that is there."""
    return {name: data[name] for name in texts(names) if name in data} or data
