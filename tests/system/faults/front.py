"""A raw HTTP front of the sandbox: single requests are answered by a test's own few lines, all others pass through.

It decides by the first request of a connection: files are moved on connections of their own, and what a script is for
must come first on its connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST
SMALL = 64 * 1024  # bytes that the system takes on before anybody reads: what is sent is soon waiting to be read


@dataclass
class Visit:
    """One connection that a script plays with."""

    head: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: int = 0
    """Bytes of the body that were read."""

    @property
    def length(self) -> int:
        """What the request says its body has."""
        return int(self.head.lower().partition("content-length: ")[2].partition("\r\n")[0] or 0)

    async def take(self, size: int) -> bytes:
        """Read so much of the body, or less where it ends."""
        body = b""
        while len(body) < size and (piece := await self.reader.read(min(SMALL, size - len(body)))):
            body += piece
            self.received += len(piece)
        return body

    async def say(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.writer.transport.abort()


Play = Callable[[Visit], Awaitable[None]]


@dataclass
class Front:
    target: int
    port: int = 0
    script: dict[str, deque[Play]] = field(default_factory=dict)
    """What is played for requests that begin like this, in turn: `PUT /upload/`."""
    visits: list[Visit] = field(default_factory=list)

    def on(self, beginning: str, *plays: Play) -> None:
        self.script.setdefault(beginning, deque()).extend(plays)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._met(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side went
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        play = self._play(head.decode("latin-1"))
        if play is None:
            await self._through(head, reader, writer)
        else:
            visit = Visit(head.decode("latin-1"), reader, writer)
            self.visits.append(visit)
            await play(visit)

    def _play(self, head: str) -> Play | None:
        return next((plays.popleft() for start, plays in self.script.items() if head.startswith(start) and plays), None)

    async def _through(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        back.write(head)
        ways = {asyncio.create_task(_pass(reader, back)), asyncio.create_task(_pass(there, writer))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(SMALL):
        target.write(piece)
        await target.drain()


@asynccontextmanager
async def fronting(url: str) -> AsyncIterator[Front]:
    """A front of this URL for as long as the block lasts."""
    front = Front(int(url.rpartition(":")[2]))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    listener.bind(("127.0.0.1", 0))
    tasks: set[asyncio.Task[None]] = set()

    def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(front.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(met, sock=listener)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed is gone only in the loop's next turn
