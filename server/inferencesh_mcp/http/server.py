"""Runs the HTTP server: refuses unsafe settings, drains on a signal and loses no run."""

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
from inferencesh_mcp.loopback import is_loopback_host
from inferencesh_mcp.shutdown import Shutdown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp.server import MCPServer
    from starlette.types import ASGIApp

    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.flows.run_limits import Drain
    from inferencesh_mcp.settings import Settings

STARTING_TIMEOUT = 1.0  # seconds for calls that are about to start a run
CLOSING_TIMEOUT = 1.2  # seconds of the drain that are kept for closing connections
KEEP_ALIVE = 75  # seconds: longer than reverse proxies keep one, or they would send into a closed connection
BACKLOG = 2048


def serve(
    server: MCPServer[Shared], settings: Settings, drain: Drain, *, host: str, port: int, ready: Callable[[str], None]
) -> int:
    """Serve until a signal comes, then let open calls end for at most `drain_seconds`.

    Returns the exit code.

    Raises:
        SettingsError: others can reach the address, but the settings do not protect it.
    """
    _refuse_unprotected(settings, host)
    app = create_app(server, settings, drain)
    with _listening_socket(host, port) as listener:
        return anyio.run(_serve, _Server(uvicorn_config(app, settings)), listener, drain, settings.drain_seconds, ready)


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Uvicorn's settings. All are given, because it would read its own variables otherwise."""
    return uvicorn.Config(
        app,
        http=cast("Any", partial(LimitedH11Protocol, ConnectionLimits(settings))),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=1,
        backlog=BACKLOG,
        workers=1,
    )


async def _serve(
    server: _Server, listener: socket.socket, drain: Drain, drain_seconds: float, ready: Callable[[str], None]
) -> int:
    shutdown = Shutdown(drain_seconds)
    shutdown.watch_signals()
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listener])
        await server.accepts.wait()
        ready(_url(listener))
        await shutdown.requested()
        await _drain(server, drain, drain_seconds)
        server.should_exit = True
    return shutdown.exit_code


async def _drain(server: _Server, drain: Drain, seconds: float) -> None:
    """Let every open call end, with its task id if the run continues. New calls are refused."""
    deadline = anyio.current_time() + seconds - CLOSING_TIMEOUT
    drain.refuses_calls = True
    with anyio.move_on_after(min(STARTING_TIMEOUT, seconds / 5)):
        await server.open_calls_ended()
    drain.start()
    with anyio.CancelScope(deadline=deadline):
        await server.open_calls_ended()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which end calls before they return their task ids."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepts = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepts.set()

    async def open_calls_ended(self) -> None:
        """Wait for the requests that are open now. Later ones are refused, and may never stop."""
        if open_calls := set(self.server_state.tasks):
            await asyncio.wait(open_calls)


def _refuse_unprotected(settings: Settings, host: str) -> None:
    if is_loopback_host(host):
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
def _listening_socket(host: str, port: int) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's delay only on sockets that name TCP. The delay costs 40 ms per answer in two parts.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        if sys.platform == "win32":  # there SO_REUSEADDR shares the port; without this, another program may take it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as exc:
            raise cannot_listen(host, port, exc) from exc
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
