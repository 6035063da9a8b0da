"""A chat's life as it is heard of: reconnect, confirm, fall back. What `following` is for a run, for a chat, which has no end.

The stream is the fast way to news, and not the truth: that a chat has become idle is told when a GET says so too. That
GET is left out where the stream has told the very same already: the chat and every message as whole values, on the one
connection that there was, with no line that could not be read.
"""

from __future__ import annotations

import logging
import math
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.chat_models import Chat, ChatMessage, ChatStatus
from inferencesh_mcp.api.chat_state import Conversation
from inferencesh_mcp.api.json import is_object
from inferencesh_mcp.api.models import Page, parsed
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.retry import LONGEST_RETRY_AFTER, backoff
from inferencesh_mcp.api.task_stream import Connection, Pace
from inferencesh_mcp.errors import InferenceError, NotFound, UpstreamError, WaitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from inferencesh_mcp.api.sender import Sender
    from inferencesh_mcp.api.task_state import Record

OPENING_SECONDS = 2.0
"""Until a stream that is to be there before a message is sent has been opened: some servers answer only when there is news."""
POLLS_PER_READ = 3
"""While polling, the whole chat is read this often even when its status stays: a tool can wait while the chat is busy."""
PAGE_OF_MESSAGES = 100
WORD_FOLLOWS_SECONDS = 0.05
"""Between a run's last line and the chat's own: they are told together, and may arrive apart."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def attend(sender: Sender, chat: Chat, *, stream: bool, pace: Pace) -> AsyncGenerator[AsyncIterator[Chat]]:
    """A block in which a chat's states are told; the stream is open when it begins, and closed there and then when it ends."""
    async with aclosing(_Attending(sender, chat, pace).states(stream=stream)) as states:
        await anext(states)  # opens the stream
        yield states


async def read_chat(sender: Sender, chat_id: str) -> Record:
    """A chat's record with its messages: where the API leaves them out, its last hundred are read on their own."""
    path = chat_path(chat_id)
    value = await sender.get(path)
    parsed(Chat, value)
    return value if value.get("chat_messages") else {**value, "chat_messages": await _messages(sender, path)}


def chat_path(chat_id: str) -> str:
    """Where a chat is."""
    return f"/chats/{segment(chat_id, 'chat id')}"


async def _messages(sender: Sender, path: str) -> list[Record]:
    try:
        value = await sender.get(f"{path}/messages?limit={PAGE_OF_MESSAGES}")
    except (NotFound, UpstreamError) as error:
        if error.status not in {404, 405}:
            raise
        return []
    page = parsed(Page[ChatMessage], value)
    told = value.get("items") if is_object(value) else value
    return [one for one in told or () if is_object(one)] if page.items else []


class _Attending:
    """One chat that is being followed, once."""

    def __init__(self, sender: Sender, chat: Chat, pace: Pace) -> None:
        self._sender, self._transport, self._pace = sender, sender.transport, pace
        self._path = chat_path(chat.id)
        self._known = Conversation(chat)
        self._told = chat
        """The last state that was told."""
        self._barren = 0
        """Streams in a row that told nothing new, and reads that failed."""
        self._asked_to_wait = 0.0
        self._unknown = list(pace.unknown)
        self._connections = 0

    async def states(self, *, stream: bool) -> AsyncGenerator[Chat]:
        """First what is known already, as soon as the stream is open, then every new state, for as long as it is asked for.

        Raises what a GET raises and no patience can cure (KeyRefused, Forbidden, NotFound, UpstreamError).
        """
        async with aclosing(self._streamed(OPENING_SECONDS) if stream else self._unstreamed()) as news:
            async for state in news:
                yield self._telling(state)
        while True:
            if await self._refreshed():
                yield self._telling(self._known.chat)
            await self._transport.sleep(self._pause())
            if not await self._changed_while_polling(stream=stream):
                async with aclosing(self._streamed()) as news:
                    async for state in news:
                        if state is not self._told:
                            yield self._telling(state)

    async def _unstreamed(self) -> AsyncGenerator[Chat]:
        yield self._told

    async def _streamed(self, patience: float = math.inf) -> AsyncGenerator[Chat]:
        """What one connection tells until it ends, breaks or falls silent; first of all, that it has been tried to open.

        A server that answers only when there is news is given `patience` seconds.
        """
        connection = Connection(self._pace.idle, self._transport.clock)
        self._known.connected()
        self._connections += 1
        resting = False
        fruitful, opened = False, False
        try:
            async with AsyncExitStack() as stack:
                chunks = await self._opened(stack, patience)
                opened, patience = True, math.inf
                yield self._told
                while chunks and (batch := await connection.next_lines(chunks, patience)) is not None:
                    for state in self._heard(batch):
                        await anyio.lowlevel.checkpoint()  # others' turn: many lines can come at once
                        fruitful = fruitful or connection.told > 1 or state.status != self._told.status
                        resting = self._comes_to_rest(state)
                        if resting and not self._known.is_told:
                            continue  # the run has ended; the chat's own word follows
                        yield await self._confirmed() if resting and not self._is_sure(connection) else state
                        resting = False
                    patience = WORD_FOLLOWS_SECONDS if resting else math.inf
                if resting:
                    yield await self._confirmed()
        except InferenceError as error:
            self._asked_to_wait = error.retry_after or 0.0
            logger.info("%s: the stream failed (%s)", self._path, error.code)
        finally:
            self._barren = 0 if fruitful else self._barren + 1
            connection.log(self._path)
        if not opened:
            yield self._told

    async def _opened(self, stack: AsyncExitStack, seconds: float) -> AsyncIterator[bytes] | None:
        with anyio.move_on_after(seconds):
            return await stack.enter_async_context(self._transport.stream(f"{self._path}/stream", self._sender.key))
        return None

    def _heard(self, batch: list[Record]) -> Iterator[Chat]:
        """The states that lines lead to, one by one; pieces of text that came together are told together."""
        last = self._known.chat
        for line, following in zip_longest(batch, batch[1:]):
            self._known.hear(line)
            if following is not None and line.get("event") == following.get("event") == "delta":
                continue
            if self._known.chat is not last:
                last = self._known.chat
                yield last

    def _comes_to_rest(self, state: Chat) -> bool:
        """Whether the chat has become idle by this state: before, it was busy, or a message was not final yet."""
        if state.busy:
            return False
        before = {message.id for message in self._told.chat_messages if message.final}
        return self._told.busy or any(one.final and one.id not in before for one in state.chat_messages)

    def _is_sure(self, connection: Connection) -> bool:
        """Whether a read could tell nothing that the stream has not told."""
        return self._connections == 1 and not connection.bad and self._known.has_whole_messages

    async def _confirmed(self) -> Chat:
        """The chat as the record has it, however long that takes."""
        while not await self._reread():
            await self._transport.sleep(self._pause())
        return self._known.chat

    async def _changed_while_polling(self, *, stream: bool) -> bool:
        """Poll instead of streaming, where that is called for; True as soon as there may be news."""
        if stream and self._barren <= self._pace.barren:
            return False
        end = self._transport.clock() + (self._pace.stream_again if stream else math.inf)
        polls = 0
        with self._transport.polling.by(self._sender.key):
            while self._transport.clock() < end:
                # A tenth of jitter either way, so that many chats are not polled in step.
                interval = self._transport.polling.interval(self._sender.key, self._pace.poll)
                await self._transport.sleep(interval * (0.9 + 0.2 * self._transport.random()))
                polls += 1
                if await self._status_changed() or polls == POLLS_PER_READ:
                    return True
        return False

    async def _status_changed(self) -> bool:
        known = self._known.chat
        try:
            now = parsed(ChatStatus, await self._sender.get(f"{self._path}/status"))
        except WaitError as error:
            await self._transport.sleep(min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))
            return False
        except (NotFound, UpstreamError):
            return True  # not every server has this call: the whole chat is read instead
        later = now.updated_at is not None and now.updated_at != known.updated_at
        return now.status != known.status or later

    async def _refreshed(self) -> bool:
        """Read the chat itself; True when there is news since the last state that was told."""
        await self._reread()
        return self._known.chat != self._told

    async def _reread(self) -> bool:
        """True when the chat could be read. An API that is away is no news, and no error."""
        try:
            self._known.read(await self._read())
        except WaitError as error:
            self._asked_to_wait = error.retry_after or 0.0
            self._barren += 1
            logger.info("%s: it could not be read (%s)", self._path, error.code)
            return False
        return True

    async def _read(self) -> Record:
        """The chat's record; in its first second a 404 only means that it is not known everywhere yet."""
        while True:
            try:
                return await read_chat(self._sender, self._told.id)
            except NotFound:
                if not self._unknown:
                    raise
                await self._transport.sleep(self._unknown.pop(0))

    def _telling(self, state: Chat) -> Chat:
        self._told = state
        return state

    def _pause(self) -> float:
        asked, self._asked_to_wait = self._asked_to_wait, 0.0
        return max(min(asked, LONGEST_RETRY_AFTER), backoff(self._barren, self._transport.random))
