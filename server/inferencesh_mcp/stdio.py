"""MCP on stdin and stdout: the session, and how the process ends with it.

In the SDK's runner SIGTERM kills without clean-up, and SIGINT hangs on the thread that reads stdin. What else it
lacks is in `stdio_messages`.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from mcp.server.stdio import stdio_server

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.sdk import serve_streams
from inferencesh_mcp.shutdown import Shutdown, exit_now
from inferencesh_mcp.stdio_messages import LAST_ANSWER_SECONDS, Answers, Requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server import MCPServer

    from inferencesh_mcp.context import Shared

SHUTDOWN_SECONDS = 9.0  # from the end of input, or a signal, to the end of the process: I-23 allows ten

logger = logging.getLogger(__name__)


def serve(server: MCPServer[Shared], *, at_end: Callable[[], None] = lambda: None) -> NoReturn:
    """Serve MCP on stdin and stdout until either closes or a signal comes. Then cancel runs, call `at_end` and exit.

    Does not return: the thread that reads stdin cannot be interrupted, so the process is ended under it.

    Raises:
        SettingsError: there is no stdin, or no stdout.
    """
    if None in {sys.stdin, sys.stdout}:
        raise SettingsError(message="MCP over stdio needs stdin and stdout, but one is closed.")
    try:
        anyio.run(_serve, server, at_end)
    except Exception:
        logger.exception("MCP over stdio failed")
    exit_now(1)  # the interpreter would wait for the thread that reads stdin


async def _serve(server: MCPServer[Shared], at_end: Callable[[], None]) -> None:
    shutdown = Shutdown(SHUTDOWN_SECONDS)
    shutdown.watch_signals()
    session = _Session(server, shutdown)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        group.start_soon(_cancel_when, shutdown.requested, session.scope)
        await session.runs_settled.wait()
        with anyio.move_on_after(LAST_ANSWER_SECONDS):
            await session.closed.wait()
        at_end()
        exit_now(shutdown.exit_code)


async def _cancel_when(requested: Callable[[], Any], scope: anyio.CancelScope) -> None:
    await requested()
    scope.cancel()


class _Session:
    """The session on stdin and stdout, until either closes or the scope is cancelled."""

    def __init__(self, server: MCPServer[Shared], shutdown: Shutdown) -> None:
        self._server, self._shutdown = server, shutdown
        self.scope = anyio.CancelScope()
        self.runs_settled = anyio.Event()
        """Set when every run has ended, was cancelled, or was named in the log."""
        self.closed = anyio.Event()
        """Set when the last answer is written; never, where the host does not read it."""

    async def run(self) -> None:
        try:
            with self.scope:
                no_input = anyio.wrap_file(io.StringIO())  # the SDK would read lines of any length
                # The SDK writes each line by way of two threads. At 32 live runs (53 messages a second) that takes 10 % of a
                # core instead of 6 %, and a ping 13 ms instead of 12: not enough for a writer of our own.
                async with stdio_server(stdin=no_input) as (_, outgoing):
                    await self._serve_host(outgoing)
        except* OSError:
            logger.info("stdout is closed")
        finally:
            self.closed.set()

    async def _serve_host(self, outgoing: Any) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_begin_when_cancelled, self._shutdown)
                answers = Answers(outgoing, group)
                requests = Requests(sys.stdin.buffer, answers, at_end=self._shutdown.begin)
                await serve_streams(self._server, requests, answers)
                group.cancel_scope.cancel()
        finally:
            self.runs_settled.set()


async def _begin_when_cancelled(shutdown: Shutdown) -> None:
    """If stdout is closed, the SDK cancels everything."""
    try:
        await anyio.sleep_forever()
    finally:
        shutdown.begin()
