"""The stdio runner: what the SDK's own leaves open. A signal cleans up and ends, lines have a limit, ids are unique.

Facts F-6 and F-7 of the SDK's runner: SIGTERM kills without clean-up, SIGINT hangs on the reading thread, a line may
be of any length, and two requests with one id both run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import anyio
from anyio import to_thread
from mcp import MCPError
from mcp.server.lowlevel import NotificationOptions
from mcp.server.stdio import stdio_server
from mcp_types import INVALID_REQUEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from inferencesh_mcp.caller import Shared

LONGEST_LINE = 8 * 1024 * 1024  # bytes of one message (limit of reliability 4.6)
DRAIN = 9.0  # seconds from the end of input, or a signal, to the end of the process: I-23 allows ten


def serve(server: MCPServer[Shared], *, at_end: Callable[[], None] = lambda: None) -> None:
    """Speak MCP on stdin and stdout until either ends or a signal comes; then cancel what runs, do the last, and exit.

    Does not return: the thread that reads stdin cannot be interrupted, so the process is ended under it.
    """
    anyio.run(_serve, server)
    at_end()
    sys.stderr.flush()
    os._exit(0)


async def _serve(server: MCPServer[Shared]) -> None:
    server.middleware.append(_OnceOnly())
    async with anyio.create_task_group() as group:
        group.start_soon(_end_on_signal, group.cancel_scope)
        lines = cast("anyio.AsyncFile[str]", _Lines(sys.stdin.buffer))
        async with stdio_server(stdin=lines) as (incoming, outgoing):
            await speak(server, incoming, outgoing)
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
            _limit_what_is_left()
            scope.cancel()
            return


def _limit_what_is_left() -> None:
    """End the process in time even if stdout is blocked or the platform is silent."""
    timer = threading.Timer(DRAIN, os._exit, (1,))
    timer.daemon = True
    timer.start()


class _Lines:
    """stdin a line at a time, none longer than the limit; the reading thread is left behind when the server ends."""

    def __init__(self, stdin: BinaryIO) -> None:
        self._stdin = stdin

    async def __aiter__(self) -> AsyncIterator[str]:
        while line := await to_thread.run_sync(self._read, abandon_on_cancel=True):
            yield line
        _limit_what_is_left()

    def _read(self) -> str:
        line = self._stdin.readline(LONGEST_LINE + 1)
        if len(line) <= LONGEST_LINE:
            return line.decode(errors="replace")
        while line and not line.endswith(b"\n"):
            line = self._stdin.readline(LONGEST_LINE)
        return "too long\n"  # not JSON: the SDK answers or skips it as it does any other such line


class _OnceOnly:
    """Refuses a request whose id is still being worked on: run twice, it would be paid twice."""

    def __init__(self) -> None:
        self._live: set[Any] = set()

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:
            return await call_next(ctx)
        if ctx.request_id in self._live:
            raise MCPError(code=INVALID_REQUEST, message=f"Request id {ctx.request_id!r} is in use.")
        self._live.add(ctx.request_id)
        try:
            return await call_next(ctx)
        finally:
            self._live.discard(ctx.request_id)
