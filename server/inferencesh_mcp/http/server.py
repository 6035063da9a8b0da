"""The HTTP server's life: it starts only where it is not wide open, and ends in time without losing a run (reliability 4.4)."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
import uvicorn

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.http.app import PATH, create_app
from inferencesh_mcp.http.slow_clients import ConnectionLimits, LimitedH11Protocol
from inferencesh_mcp.settings.types import LOOPBACK
from inferencesh_mcp.shutdown import Shutdown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp.server import MCPServer
    from starlette.types import ASGIApp

    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.flows.drain import Stopping
    from inferencesh_mcp.settings import Settings

BRIEFLY = 1.0  # seconds at most for who is about to start a run
LAST_WORDS = 1.2  # seconds of the drain that are kept for closing what is open then
KEEP_ALIVE = 75  # seconds: longer than the proxies before us keep one, or they would send into a closed connection
BACKLOG = 2048


def serve(
    server: MCPServer[Shared], settings: Settings, stopping: Stopping, *, host: str, port: int, ready: Callable[[str], None]
) -> int:  # fmt: skip
    """Serve until a signal comes, and then as long as the calls under way need, but no longer than `drain_seconds`.

    Returns the exit code.

    Raises:
        SettingsError: an address that others can reach, without all that this takes.
    """
    _refuse_wide_open(settings, host)
    app = create_app(server, settings, stopping)
    with _bound(host, port) as listening:
        return anyio.run(_serve, _Server(configured(app, settings)), listening, stopping, settings.drain_seconds, ready)


def configured(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """uvicorn, as this application needs it. Everything is said here: it would read variables of its own otherwise."""
    return uvicorn.Config(
        app, http=cast("Any", partial(LimitedH11Protocol, ConnectionLimits(settings))), ws="none", lifespan="on", interface="asgi3",
        log_config=None, access_log=False, server_header=False,
        proxy_headers=bool(settings.trusted_proxies), forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=1, backlog=BACKLOG, workers=1,
    )  # fmt: skip


async def _serve(
    server: _Server, listening: socket.socket, stopping: Stopping, drain: float, ready: Callable[[str], None]
) -> int:
    shutdown = Shutdown(drain)
    shutdown.watch_signals()
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listening])
        await server.accepts.wait()
        ready(_url(listening))
        await shutdown.requested()
        await _drain(server, stopping, drain)
        server.should_exit = True
    return shutdown.exit_code


async def _drain(server: _Server, stopping: Stopping, seconds: float) -> None:
    """Have every call under way answered, with its task's id where the run goes on. New ones are refused meanwhile."""
    ends = anyio.current_time() + seconds - LAST_WORDS
    stopping.announced = True
    with anyio.move_on_after(min(BRIEFLY, seconds / 5)):
        await server.calls_under_way()
    stopping.begin()
    with anyio.CancelScope(deadline=ends):
        await server.calls_under_way()


class _Server(uvicorn.Server):
    """uvicorn without its way with signals, which ends calls before they could tell their task ids (F-5)."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepts = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepts.set()

    async def calls_under_way(self) -> None:
        """Wait until no request is open that is open now: those that come yet are refused, and may come for ever."""
        if under_way := set(self.server_state.tasks):
            await asyncio.wait(under_way)


def _refuse_wide_open(settings: Settings, host: str) -> None:
    if host in LOOPBACK:
        return
    if not settings.allowed_hosts:
        raise SettingsError(
            message=f"Set INFERENCE_ALLOWED_HOSTS to this server's host names: {host} is not a loopback address."
        )
    if settings.sandbox and settings.http_auth == "caller":
        raise SettingsError(
            message=f"The sandbox admits everybody and {host} is not loopback. Set INFERENCE_HTTP_AUTH to tokens or oauth."
        )


def cannot_listen(host: str, port: int, exc: OSError) -> SettingsError:
    return SettingsError(message=f"Cannot listen on {host}, port {port}: {exc.strerror}.")


@contextmanager
def _bound(host: str, port: int) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only for sockets that name TCP; with it, an answer in two pieces comes 40 ms late.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        if sys.platform != "win32":  # there it would share the port with others
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except OSError as exc:
            raise cannot_listen(host, port, exc) from exc
        yield listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
