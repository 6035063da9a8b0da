"""A TCP proxy in front of the sandbox, for what the sandbox cannot do to itself: to be away, to be slow, to be no HTTP.

Each connection plays the next act of the script; when it has run out, everything passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


@dataclass(frozen=True)
class Act:
    """What one connection is in for; without a limit, bytes pass."""

    request_bytes: int | None = None
    """Bytes of the request that are passed on before the connection is reset."""
    response_bytes: int | None = None
    """Bytes of the answer that are passed back before the connection ends."""
    resets: bool = True
    """Whether it ends with RST; else with FIN."""
    piece: int = 65536
    """Bytes passed back at a time."""
    every: float = 0.0
    """Seconds between pieces."""
    instead: bytes | None = None
    """Said at once, whatever is asked; the sandbox never hears of it."""
    replaces: bytes | None = None
    """Said once the sandbox has answered, in place of its answer."""
    silent: bool = False
    """Accept, and never say a word."""
    date: bytes = b""
    """What stands in the answer for the date: as long as what stood there."""


class Proxy:
    def __init__(self, target: int) -> None:
        self.script: deque[Act] = deque()
        self.connections = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._full: list[socket.socket] = []
        self.port = 0

    async def open(self) -> None:
        """Accept connections; again on the same port after `shut` or `fill`."""
        self._empty()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Refuse connections from now on; those that are open stay."""
        if self._server:
            self._server.close()
            self._server = None

    def fill(self) -> None:
        """Leave new connections without an answer: a listener whose backlog is full."""
        self.shut()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(0)
        self._full = [listener]
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))
            self._full.append(waiting)

    def _empty(self) -> None:
        for item in self._full:
            item.close()
        self._full = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        act = self.script.popleft() if self.script else Act()
        with contextlib.suppress(OSError):
            await self._play(act, reader, writer)
        if act.resets and (act.request_bytes is not None or act.response_bytes is not None):
            with contextlib.suppress(OSError):  # whoever asked may have gone first
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        ends_at_once = act.resets and act.replaces is None and act.instead is None
        writer.transport.abort() if ends_at_once else writer.close()

    async def _play(self, act: Act, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if act.silent:
            await reader.read()
            return
        if act.instead is not None:
            writer.write(act.instead)
            await writer.drain()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        asking = asyncio.create_task(_pass(reader, back, Act(response_bytes=act.request_bytes)))
        telling = asyncio.create_task(
            _pass(there, writer, act) if act.replaces is None else _replaced(there, writer, act)
        )
        try:
            await asyncio.wait({asking, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, telling):
                task.cancel()
            await asyncio.gather(asking, telling, return_exceptions=True)
            back.transport.abort()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter, act: Act) -> None:
    """Pass bytes on until the source ends or the act's limit is reached."""
    left = act.response_bytes
    while left != 0 and (piece := await source.read(act.piece if left is None else min(act.piece, left))):
        target.write(re.sub(rb"(?<=\r\ndate: )[^\r]+", act.date, piece) if act.date else piece)
        await target.drain()
        left = None if left is None else left - len(piece)
        if act.every:
            await asyncio.sleep(act.every)


async def _replaced(source: asyncio.StreamReader, target: asyncio.StreamWriter, act: Act) -> None:
    await source.read(1)
    target.write(act.replaces or b"")
    await target.drain()


@asynccontextmanager
async def proxying(url: str) -> AsyncIterator[Proxy]:
    """A proxy in front of this URL for as long as the block lasts."""
    proxy = Proxy(int(url.rpartition(":")[2]))
    await proxy.open()
    try:
        yield proxy
    finally:
        proxy.shut()
        proxy._empty()
