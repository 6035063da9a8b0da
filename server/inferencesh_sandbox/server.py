"""The sandbox on a port, inside the running event loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from inferencesh_sandbox.app import Sandbox

_GRACE = 2
"""Seconds that uvicorn may take to stop; everyone has been let go by then."""


@asynccontextmanager
async def serving(sandbox: Sandbox, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
    """Serve a sandbox over HTTP for as long as the block lasts; yields its URL once it accepts."""
    listening = _listening(host, port)
    server = EmbeddedServer(_config(sandbox))
    with _ungrouped():
        async with anyio.create_task_group() as group:
            group.start_soon(_served, server, listening)
            await server.accepts.wait()
            try:
                yield _url(host, listening)
            finally:
                with anyio.CancelScope(shield=True):
                    _cut(server)
                    await anyio.lowlevel.checkpoint()
                    sandbox.app.close()
                    server.leave()


async def _served(server: EmbeddedServer, listening: socket.socket) -> None:
    """Serve until the guest is told to leave: who is cancelled with the block leaves uvicorn's own task to die with a traceback."""
    with anyio.CancelScope(shield=True):
        await server.serve([listening])


@contextmanager
def _ungrouped() -> Generator[None]:
    """Let an error of the block that we serve come out as it is, not in the group that our task makes of it."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__


class EmbeddedServer(uvicorn.Server):
    """uvicorn as a guest: it leaves the host's signals alone, and goes when told, not when its clock next ticks."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepts = anyio.Event()
        self._outcome = anyio.Event()

    def leave(self) -> None:
        """Go, once what is under way has ended or the configured grace is over."""
        self.should_exit = True
        self._outcome.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepts.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # the date in each answer is of this second
            with anyio.move_on_after(1):
                await self._outcome.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, but wait for what is under way alone: its own sleeps take a fifth of a second."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if under_way := set(self.server_state.tasks):
            _, late = await asyncio.wait(under_way, timeout=self.config.timeout_graceful_shutdown)
            for task in late:
                task.cancel()
        await self.lifespan.shutdown()


def _cut(server: EmbeddedServer) -> None:
    """Accept no more connections, and cut those that are open."""
    for listener in server.servers:
        listener.close()
    for connection in list(server.server_state.connections):
        if connection.transport:
            connection.transport.abort()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only for sockets that name TCP; without that, each first line comes 40 ms late.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening


def _url(host: str, listening: socket.socket) -> str:
    named = f"[{host}]" if ":" in host else host
    return f"http://{named}:{listening.getsockname()[1]}"


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
