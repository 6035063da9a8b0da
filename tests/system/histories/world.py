"""What a history happens in: a sandbox behind bad weather, the servers in front of it, and the way to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client

from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.flows.run_limits import Drain
from inferencesh_mcp.http.app import PATH, create_app
from inferencesh_mcp.http.server import uvicorn_config
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_sandbox import Clock, serving
from inferencesh_sandbox.server import EmbeddedServer
from tests.conftest import guest, in_memory
from tests.support.sandbox import Sandbox
from tests.system.histories.random_faults import Weather, blowing

ANY_NUMBER = httpx2.Limits(max_connections=None)
LONGEST = 900.0
"""Seconds by the history's clock within which every call is answered, whatever hangs."""


@dataclass
class World:
    sandbox: Sandbox
    weather: Weather
    url: str
    """The API, as the servers see it."""
    folder: Path
    """Where the servers may write."""
    log: list[logging.LogRecord]
    """What the servers logged, down to the smallest."""
    ways_out: list[Transport] = field(default_factory=list)
    """A server that has ended may use its own for what it does last: with a process, that ends too."""
    rolled_over: int = 0
    """Servers that have begun to end while others go on."""

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "INFERENCE_BASE_URL": self.url,
            "INFERENCE_WAIT_SECONDS": "20",
            "INFERENCE_SAVE_DIR": str(self.folder),
            "INFERENCE_CACHE_DIR": str(self.folder / "cache"),
            "INFERENCE_MAX_CONCURRENT_RUNS": "1000",
            "INFERENCE_MAX_STREAMS": "1000",
            "INFERENCE_MAX_CONNECTIONS": "1000",
            "INFERENCE_STATE_KEYS": "known to every replica and to nobody else",
            **more,
        }

    def network(self) -> Callable[..., Transport]:
        """The servers' way out: their clock and their chance are the history's."""

        def transport(*given: Any, **named: Any) -> Transport:
            clock = asyncio.get_running_loop().time
            self.ways_out.append(Transport(*given, **named, random=self.weather.chance.random, clock=clock))
            return self.ways_out[-1]

        return transport


@asynccontextmanager
async def world(weather: Weather, folder: Path, clock: Clock | None = None) -> AsyncIterator[World]:
    sandbox = Sandbox(clock, weather)
    with _heard("inferencesh_mcp") as log:
        async with serving(sandbox) as url, blowing(weather, url) as proxy:
            made = World(sandbox, weather, f"http://127.0.0.1:{proxy.port}", folder, log)
            yield made
            for way_out in made.ways_out:
                await way_out.aclose()


class Way(Protocol):
    """How hosts get to a server."""

    local: bool
    """Whether it may write to their disk."""

    def server(self, key: str) -> Any:
        """The transport of one host, with this key; a context manager."""
        ...

    async def restart(self) -> None: ...


class InMemory:
    """A server of its own for each host, as on stdio. It ends with its host, and with it what it runs."""

    local = True

    def __init__(self, world: World) -> None:
        self._world = world

    @asynccontextmanager
    async def server(self, key: str) -> AsyncIterator[Any]:
        settings = Settings.from_environ(self._world.environ(INFERENCE_API_KEY=key))
        async with in_memory(build(settings, network=self._world.network())) as wire:
            yield wire

    async def restart(self) -> None:
        """Every host starts its own."""


class Replicas:
    """Two servers over HTTP; a host is with either. One that is rolled over ends as at SIGTERM."""

    local = False

    def __init__(self, world: World, chance: Random) -> None:
        self._world, self._chance = world, chance
        self._live: list[_Replica] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as self._stack:
            for _ in range(2):
                await self._start()
            yield

    @asynccontextmanager
    async def server(self, key: str) -> AsyncIterator[Any]:
        url = self._chance.choice(self._live).url + PATH
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=LONGEST, limits=ANY_NUMBER, verify=False) as http,
            streamable_http_client(url, http_client=http) as wire,
        ):
            yield wire

    async def restart(self) -> None:
        """The next one is there before it goes. Whoever is with it may find themselves cut off by their own doing."""
        with anyio.CancelScope(shield=True):
            await self._start()
            self._world.rolled_over += 1
            await self._live.pop(0).end()

    async def _start(self) -> None:
        settings, drain = Settings.from_environ(self._world.environ()), Drain()
        app = create_app(build(settings, remote=True, network=self._world.network(), drain=drain), settings, drain)
        server = EmbeddedServer(uvicorn_config(app, settings))
        url = await self._stack.enter_async_context(guest(server))
        self._live.append(_Replica(url, server, drain))


@dataclass
class _Replica:
    url: str
    server: EmbeddedServer
    drain: Drain

    async def end(self) -> None:
        """As `web.serving` does it: nobody is let in, waits end, and who is still there is answered."""
        self.drain.refuses_calls = True
        await anyio.sleep(1)
        self.drain.start()
        with anyio.move_on_after(8):
            while self.server.server_state.tasks:
                await anyio.sleep(0.1)
        self.server.leave()


@contextmanager
def _heard(name: str) -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, ear = logging.getLogger(name), Ear()
    before = logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel("DEBUG")
    logger.propagate = False
    try:
        yield records
    finally:
        logger.removeHandler(ear)
        logger.setLevel(before[0])
        logger.propagate = before[1]
