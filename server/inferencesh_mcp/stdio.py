"""The stdio runner: what the SDK's own leaves open. A signal cleans up and ends, lines have a limit, ids are unique.

Facts F-6 and F-7 of the SDK's runner: SIGTERM kills without clean-up, SIGINT hangs on the reading thread, a line may
be of any length, and two requests with one id both run.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import anyio
from anyio import to_thread
from mcp.server.lowlevel import NotificationOptions
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from inferencesh_mcp.api.strictjson import MOST_IN_A_MESSAGE, too_many_values
from inferencesh_mcp.ending import exit_within
from inferencesh_mcp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup
    from mcp.server import MCPServer

    from inferencesh_mcp.caller import Shared

logger = logging.getLogger(__name__)

LONGEST_LINE = 8 * 1024 * 1024  # bytes of one message (limit of reliability 4.6)
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a UTF-16 pair; its other half may follow
DRAIN = 9.0  # seconds from the end of input, or a signal, to the end of the process: I-23 allows ten


def serve(server: MCPServer[Shared], *, at_end: Callable[[], None] = lambda: None) -> None:
    """Speak MCP on stdin and stdout until either ends or a signal comes; then cancel what runs, do the last, and exit.

    Does not return: the thread that reads stdin cannot be interrupted, so the process is ended under it.

    Raises:
        SettingsError: there is no stdin, or no stdout.
    """
    if None in {sys.stdin, sys.stdout}:
        raise SettingsError(message="MCP over stdio needs stdin and stdout, and one of them is closed.")
    anyio.run(_serve, server)
    at_end()
    sys.stderr.flush()
    os._exit(0)


async def _serve(server: MCPServer[Shared]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_end_on_signal, group.cancel_scope)
        lines, wire = cast("anyio.AsyncFile[str]", _Lines(sys.stdin.buffer)), _Wire(group)
        async with stdio_server(stdin=lines) as (incoming, outgoing):
            live: set[RequestId] = set()
            said = _Said(outgoing, live, wire)
            await speak(server, _Heard(incoming, live, said), said)
        group.cancel_scope.cancel()


async def speak(server: MCPServer[Shared], incoming: Any, outgoing: Any) -> None:
    """Answer one host on its pipe until it closes."""
    low = server._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  - there is no public way in
    # The older era is told here what the newer one sees for itself: pinned apps' tools may change.
    changing = NotificationOptions(tools_changed=True)
    await low.run(incoming, outgoing, low.create_initialization_options(changing))


async def _end_on_signal(scope: anyio.CancelScope) -> None:
    if sys.platform == "win32":
        return  # no signal to wait for: the host closes stdin
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            exit_within(DRAIN)
            scope.cancel()
            return


class _Lines:
    """stdin a line at a time, none longer than the limit; the reading thread is left behind when the server ends."""

    def __init__(self, stdin: BinaryIO) -> None:
        self._stdin = stdin

    async def __aiter__(self) -> AsyncIterator[str]:
        while line := await to_thread.run_sync(self._read, abandon_on_cancel=True):
            yield line
        exit_within(DRAIN)

    def _read(self) -> str:
        line = self._stdin.readline(LONGEST_LINE + 1)
        if len(line) <= LONGEST_LINE:
            return "too many values\n" if too_many_values(line, MOST_IN_A_MESSAGE) else _mended(line)
        while line and not line.endswith(b"\n"):
            line = self._stdin.readline(LONGEST_LINE)
        return "too long\n"  # not JSON: the SDK answers or skips it as it does any other such line


def _mended(line: bytes) -> str:
    """A line with half a character in it, made whole: JavaScript writes such a half as it is, where a text was cut.

    The SDK would drop the line without a word, and the host wait for its answer for ever.
    """
    if _HALF.search(line):
        with suppress(ValueError, RecursionError):  # what is no JSON is for the SDK to say
            return json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace").decode() + "\n"
    return line.decode(errors="replace")


class _Wire:
    """stdout for messages alone: the SDK leads what is printed elsewhere.

    It would give each line to a thread, twice, which was half of what a live run cost. Most can be written at once.
    """

    def __init__(self, group: TaskGroup) -> None:
        self._group, self._fd = group, _above_standard(1)
        self._busy: anyio.Event | None = None
        """Set when the thread has written what it was given."""
        self._poll = None
        if sys.platform != "win32":  # where nothing tells whether a pipe has room
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)

    async def say(self, line: bytes) -> None:
        """Write a line, or have it written: a host that reads slowly is waited for before the next, and can be left then."""
        await self.free()
        if not self._written(line):
            self._busy = anyio.Event()
            self._group.start_soon(self._write_in_thread, line, self._busy)

    async def free(self) -> None:
        """Wait until all is written."""
        while self._busy and not self._busy.is_set():
            await self._busy.wait()

    def _written(self, line: bytes) -> bool:
        """Write it, unless that could block (see `select.PIPE_BUF`) or the host is gone."""
        if self._poll is None or len(line) > select.PIPE_BUF or self._poll.poll(0) != [(self._fd, select.POLLOUT)]:
            return False
        with suppress(OSError):
            self._write(line)
            return True
        return False

    async def _write_in_thread(self, line: bytes, written: anyio.Event) -> None:
        try:
            await to_thread.run_sync(self._write, line)
        except OSError as exc:
            logger.info("stdout cannot be written to any more: %s", exc.strerror)
            exit_within(DRAIN)
            self._group.cancel_scope.cancel()
        finally:
            written.set()

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._fd, line) :]


def _above_standard(fd: int) -> int:
    """A copy that is none of the standard three, where others would write to it."""
    if sys.platform == "win32":
        return os.dup(fd)
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


class _End:
    """One end of the pipe, as the SDK uses it, and the ids of the requests that are being worked on."""

    def __init__(self, stream: Any, live: set[RequestId]) -> None:
        self._stream, self._live = stream, live

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Heard(_End):
    """What a host sends, but for a request whose id is still being worked on: run twice, it would be paid twice.

    It is refused before the SDK hears of it, which would put it in the first one's place: that one could not be cancelled
    any more.
    """

    def __init__(self, stream: Any, live: set[RequestId], said: _Said) -> None:
        super().__init__(stream, live)
        self._said = said

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        while True:
            item: SessionMessage | Exception = await anext(self._stream)
            match getattr(item, "message", None):
                case JSONRPCRequest(id=number) if coerce_request_id(number) in self._live:
                    error = ErrorData(code=INVALID_REQUEST, message=f"Request id {number!r} is in use.")
                    await self._said.say(SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=error)))
                    continue
                case JSONRPCRequest(id=number):
                    self._live.add(coerce_request_id(number))
                case JSONRPCNotification(
                    method="notifications/cancelled", params={"requestId": str() | int() as number}
                ):
                    self._live.discard(coerce_request_id(number))  # it is not answered any more
                case _:
                    pass
            return item


class _Said(_End):
    """What is answered: with its answer, an id is free again."""

    def __init__(self, stream: Any, live: set[RequestId], wire: _Wire) -> None:
        super().__init__(stream, live)
        self._wire = wire

    async def send(self, item: SessionMessage) -> None:
        match item.message:
            case JSONRPCResponse(id=number) | JSONRPCError(id=str() | int() as number):
                self._live.discard(coerce_request_id(number))
            case _:
                pass
        await self.say(item)

    async def say(self, item: SessionMessage) -> None:
        """Write it, whatever it means."""
        await self._wire.say(f"{item.message.model_dump_json(by_alias=True, exclude_unset=True)}\n".encode())

    async def aclose(self) -> None:
        await self._wire.free()
        await super().aclose()
