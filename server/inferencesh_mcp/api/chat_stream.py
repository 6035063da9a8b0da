"""Following a chat, which has no end of its own.

A turn ends when a GET confirms that the chat is idle. That GET is left out if the first connection brought the chat and every
message as whole values, with no line that could not be read: it could say nothing new.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from inferencesh_mcp.api.chat_models import Chat, ChatStatus, in_order
from inferencesh_mcp.api.chat_state import ChatState
from inferencesh_mcp.api.json import is_object
from inferencesh_mcp.api.models import MAX_PAGE_SIZE
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.stream import Connection, Record, StreamFollower
from inferencesh_mcp.api.wire import parsed
from inferencesh_mcp.errors import NotFound, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from inferencesh_mcp.api.sender import Sender

OPENING_SECONDS = 2.0
"""Longest wait for the stream to open before a message is sent: some servers answer only when there is news."""
CHAT_LINE_SECONDS = 0.05
"""Wait for the chat's own line after its run's last one: the API sends them together, but they may arrive apart."""


@asynccontextmanager
async def follow_chat(
    sender: Sender, chat: Chat, *, stream: bool, poll_interval: float
) -> AsyncGenerator[AsyncIterator[Chat]]:
    """A block with the new states of a chat. The stream is open when it begins; leaving the block closes it at once."""
    follower = _ChatFollower(sender, chat, stream=stream, poll_interval=poll_interval)
    async with aclosing(follower.states()) as states:
        await anext(states)  # opens the stream
        yield states


async def read_chat(sender: Sender, chat_id: str) -> Chat:
    """A chat with its messages. If the API leaves them out, the last hundred are read separately."""
    path = chat_path(chat_id)
    record = await sender.get(path)
    chat = parsed(Chat, record)
    if chat.chat_messages:
        return chat
    page = await sender.get_optional(f"{path}/messages?limit={MAX_PAGE_SIZE}")
    # Parsed as the chat's own: a server may answer with a plain list, and with more than was asked for.
    with_messages = parsed(Chat, {**record, "chat_messages": page.get("items") if is_object(page) else page})
    return chat.model_copy(update={"chat_messages": in_order(with_messages.chat_messages)})


def chat_path(chat_id: str) -> str:
    """The path of a chat."""
    return f"/chats/{segment(chat_id, 'chat id')}"


class _ChatFollower(StreamFollower[Chat]):
    polls_per_read = 3  # a tool can wait for an answer while the status stays busy

    def __init__(self, sender: Sender, chat: Chat, *, stream: bool, poll_interval: float) -> None:
        super().__init__(sender, chat_path(chat.id), stream=stream, poll_interval=poll_interval)
        self._state = ChatState(chat)
        self._last_state = chat
        """The last state that was yielded."""
        self._connections = 0

    async def states(self) -> AsyncGenerator[Chat]:
        """First the known state, as soon as the stream is open; then every new state, for as long as they are read.

        Raises what a GET raises and waiting cannot cure (KeyRefused, Forbidden, NotFound, UpstreamError).
        """
        if self._stream:
            async with aclosing(self._streamed_states(OPENING_SECONDS)) as states:
                async for state in states:
                    self._last_state = state
                    yield state
        else:
            yield self._last_state
        while True:
            await self._reread()
            if self._state.chat != self._last_state:
                self._last_state = self._state.chat
                yield self._last_state
            await self._pause()
            if not await self._poll_until_changed():
                async with aclosing(self._streamed_states()) as states:
                    async for state in states:
                        if state is not self._last_state:
                            self._last_state = state
                            yield state

    async def _streamed_states(self, opening_seconds: float = math.inf) -> AsyncGenerator[Chat]:
        """The known state, as soon as the stream is open or could not be opened; then the states of this connection.

        It ends when the connection ends, breaks or is idle. A stream that is not open after `opening_seconds` is not read:
        some servers answer only when there is news.
        """
        self._state.begin_connection()
        self._connections += 1
        opened, is_ending, seconds = False, False, math.inf
        async with self._connected() as connection, AsyncExitStack() as stack:
            chunks = await self._open(stack, opening_seconds)
            opened = True
            yield self._last_state
            while chunks and (lines := await connection.next_lines(chunks, seconds)) is not None:
                for state in self._apply(lines):
                    await anyio.lowlevel.checkpoint()  # many lines can come at once: let other tasks run
                    if connection.line_count > 1 or state.status != self._last_state.status:
                        connection.has_news = True
                    is_ending = self._becomes_idle(state)
                    if is_ending and not self._state.has_whole_chat:
                        continue  # the run has ended; the chat's own line follows
                    yield await self._confirmed() if is_ending and not self._is_complete(connection) else state
                    is_ending = False
                seconds = CHAT_LINE_SECONDS if is_ending else math.inf
            if is_ending:
                yield await self._confirmed()
        if not opened:
            yield self._last_state

    async def _open(self, stack: AsyncExitStack, seconds: float) -> AsyncIterator[bytes] | None:
        with anyio.move_on_after(seconds):
            return await stack.enter_async_context(self._transport.stream(f"{self._path}/stream", self._sender.key))
        return None

    def _apply(self, lines: list[Record]) -> Iterator[Chat]:
        """The states after each line; deltas that arrived together make one state."""
        last = self._state.chat
        for line, following in zip_longest(lines, lines[1:]):
            self._state.apply(line)
            if following is not None and line.get("event") == following.get("event") == "delta":
                continue
            if self._state.chat is not last:
                last = self._state.chat
                yield last

    def _becomes_idle(self, state: Chat) -> bool:
        """Whether the chat becomes idle with this state: before, it was busy, or a message was not final."""
        if state.busy:
            return False
        final_before = {message.id for message in self._last_state.chat_messages if message.final}
        return self._last_state.busy or any(
            message.final and message.id not in final_before for message in state.chat_messages
        )

    def _is_complete(self, connection: Connection) -> bool:
        """Whether the stream brought everything, so that a GET could add nothing."""
        return self._connections == 1 and not connection.bad_lines and self._state.has_whole_messages

    async def _confirmed(self) -> Chat:
        """The chat as a GET shows it, however long the API is unavailable."""
        while not await self._reread():
            await self._pause()
        return self._state.chat

    async def _is_status_new(self) -> bool:
        chat = self._state.chat
        try:
            status = parsed(ChatStatus, await self._sender.get(f"{self._path}/status"))
        except (NotFound, UpstreamError):
            return True  # not every server has this endpoint: the whole chat is read instead
        is_later = status.updated_at is not None and status.updated_at != chat.updated_at
        return status.status != chat.status or is_later

    async def _reread(self) -> bool:
        """Read the chat by a GET; False while the API is unavailable."""
        chat = await self._read()
        if chat is not None:
            self._state.apply_read(chat)
        return chat is not None

    async def _fetch(self) -> Chat:
        return await read_chat(self._sender, self._last_state.id)
