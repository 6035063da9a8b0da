"""The sandbox on a port, inside the running event loop."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from inferencesh_sandbox.app import Sandbox

_GRACE = 2
"""Seconds that uvicorn may take to stop. All requests have been cancelled before."""


@asynccontextmanager
async def serving(sandbox: Sandbox, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
    """Serve a sandbox over HTTP for as long as the block lasts; yields its URL once it accepts."""
    listening = _bind(host, port)
    server = EmbeddedServer(_config(sandbox))
    with _unwrap_single_error():
        async with anyio.create_task_group() as group:
            group.start_soon(_serve, server, listening)
            await server.accepts.wait()
            try:
                yield _url(host, listening)
            finally:
                with anyio.CancelScope(shield=True):
                    _cut(server)
                    await anyio.lowlevel.checkpoint()
                    sandbox.app.close()
                    server.leave()


async def _serve(server: EmbeddedServer, listening: socket.socket) -> None:
    """Serve until `leave` is called. If this task were cancelled, uvicorn's own task would end with a traceback."""
    with anyio.CancelScope(shield=True):
        await server.serve([listening])


@contextmanager
def _unwrap_single_error() -> Generator[None]:
    """Raise an error of the `with` block as it is, without the exception group of our task."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__


class EmbeddedServer(uvicorn.Server):
    """uvicorn inside another program: it handles no signals, and it stops as soon as `leave` is called."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepts = anyio.Event()
        self._stop_requested = anyio.Event()

    def leave(self) -> None:
        """Stop when the open requests have ended, or after the configured grace."""
        self.should_exit = True
        self._stop_requested.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepts.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # the date in each answer is of this second
            with anyio.move_on_after(1):
                await self._stop_requested.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as uvicorn does, without its sleeps: they take a fifth of a second."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if open_requests := set(self.server_state.tasks):
            _, late = await asyncio.wait(open_requests, timeout=self.config.timeout_graceful_shutdown)
            for task in late:
                task.cancel()
        await self.lifespan.shutdown()


def _cut(server: EmbeddedServer) -> None:
    """Close the listeners and abort the open connections."""
    for listener in server.servers:
        listener.close()
    for connection in list(server.server_state.connections):
        if connection.transport:
            connection.transport.abort()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only for sockets that name TCP; without that, each first line comes 40 ms late.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform == "win32":  # there SO_REUSEADDR shares the port; without this, another program may take it
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening


def _url(host: str, listening: socket.socket) -> str:
    url_host = f"[{host}]" if ":" in host else host
    return f"http://{url_host}:{listening.getsockname()[1]}"


def _config(sandbox: Sandbox) -> uvicorn.Config:
    return uvicorn.Config(
        sandbox.app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE,
    )
