"""The HTTP server's life: it starts only where it is not wide open, and ends in time without losing a run (reliability 4.4)."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import struct
import sys
from array import array
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
import uvicorn

from inferencesh_mcp.ending import exit_within
from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.settings.kinds import LOOPBACK
from inferencesh_mcp.web import PATH, face
from inferencesh_mcp.web.connections import Guarded, Manners

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp.server import MCPServer
    from starlette.types import ASGIApp

    from inferencesh_mcp.caller import Shared
    from inferencesh_mcp.flows.stopping import Stopping
    from inferencesh_mcp.settings import Settings

AT_THE_DOOR = 3.0  # seconds at most for who has connected and not asked yet
BRIEFLY = 1.0  # seconds at most for who is about to start a run
LAST_WORDS = 1.2  # seconds of the drain that are kept for closing what is open then
KEEP_ALIVE = 75  # seconds: longer than the proxies before us keep one, or they would send into a closed connection
BACKLOG = 2048
_SO_ATTACH_FILTER, _BPF_RET = 26, 6  # <asm-generic/socket.h>, <linux/bpf_common.h>

logger = logging.getLogger(__name__)


def serve(
    server: MCPServer[Shared], settings: Settings, stopping: Stopping, *, host: str, port: int, ready: Callable[[str], None]
) -> None:  # fmt: skip
    """Serve until a signal comes, and then as long as the calls under way need, but no longer than `drain_seconds`.

    Raises:
        SettingsError: an address that others can reach, without all that this takes.
    """
    _refuse_wide_open(settings, host)
    app = face(server, settings, stopping)
    with _bound(host, port) as listening:
        anyio.run(_serve, _Server(configured(app, settings)), listening, stopping, settings.drain_seconds, ready)


def configured(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """uvicorn, as this face needs it. Everything is said here: it would read variables of its own otherwise."""
    return uvicorn.Config(
        app, http=cast("Any", partial(Guarded, Manners(settings))), ws="none", lifespan="on", interface="asgi3",
        log_config=None, access_log=False, server_header=False,
        proxy_headers=bool(settings.trusted_proxies), forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=1, backlog=BACKLOG, workers=1,
    )  # fmt: skip


async def _serve(
    server: _Server, listening: socket.socket, stopping: Stopping, drain: float, ready: Callable[[str], None]
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listening])
        await server.accepts.wait()
        ready(_url(listening))
        await _signal()
        exit_within(drain)
        ends = anyio.current_time() + drain - LAST_WORDS
        with anyio.move_on_after(min(AT_THE_DOOR, (drain - LAST_WORDS) / 2)):
            await server.shut_the_door(listening)
        stopping.announced = True
        with anyio.move_on_after(min(BRIEFLY, drain / 5)):
            await server.done()
        stopping.begin()
        with anyio.CancelScope(deadline=ends):
            await server.done()
        server.should_exit = True


async def _signal() -> None:
    if sys.platform == "win32":
        await anyio.sleep_forever()  # no signal to wait for: Ctrl+C ends the process
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


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

    async def done(self) -> None:
        """Wait until no request is open that is open now: those that come yet are refused, and may come for ever."""
        if under_way := set(self.server_state.tasks):
            await asyncio.wait(under_way)

    async def shut_the_door(self, listening: socket.socket) -> None:
        """Let in who has knocked, then nobody, and hear what those who are in have come for.

        Before anybody is sent away: a proxy gives a call to another server where no connection was made, and loses one that
        is cut, or that comes here again after it was sent away, and finds the door shut by then.
        """
        knocked: list[socket.socket] = []
        let_none_knock(listening)
        with suppress(OSError):  # there is nobody left; or no room for anybody, and the rest are cut
            while True:
                knocked.append(listening.accept()[0])
        for server in self.servers:
            server.close()
        for connection in knocked:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._guarded, connection)
        while any(cast("Any", one).cycle is None for one in self.server_state.connections):  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)  # a request is on its way

    def _guarded(self) -> asyncio.Protocol:
        kind = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def let_none_knock(listening: socket.socket) -> None:
    """Have the kernel drop what comes to this port: a connection that it made between the last accept and the close would be cut.

    Whoever is dropped comes again after a second, is refused by then, and goes to another server. Linux can do that, by a
    filter (socket(7)) of one instruction, "take nothing"; elsewhere the moment in between is left open.
    """
    if sys.platform == "linux":
        take_nothing = array("B", struct.pack("HBBI", _BPF_RET, 0, 0, 0))
        with suppress(OSError):  # what imitates Linux may not have it
            program = struct.pack("@HP", 1, take_nothing.buffer_info()[0])
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _refuse_wide_open(settings: Settings, host: str) -> None:
    if host in LOOPBACK:
        return
    if not settings.allowed_hosts:
        raise SettingsError(
            message=f"INFERENCE_ALLOWED_HOSTS must name the hosts this server is reached by, since {host} is not loopback."
        )
    if settings.sandbox and settings.http_auth == "caller":
        raise SettingsError(
            message=f"The sandbox lets everybody in, and {host} is not loopback: set INFERENCE_HTTP_AUTH to tokens or oauth."
        )


def cannot_listen(host: str, port: int, exc: OSError) -> SettingsError:
    return SettingsError(message=f"Port {port} of {host} cannot be listened on: {exc.strerror}.")


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
