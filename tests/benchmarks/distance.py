"""A run with the API far away, over TLS: through the bridge, and by the official SDK.

Round trips are counted where the delay is: opening a connection is one, and each answer to what was sent since is one more.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from anyio.abc import ByteStream, SocketAttribute
from inferencesh import inference
from mcp import Client, StdioServerParameters

from inferencesh_sandbox import Sandbox, serving
from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, environ
from tests.tls import BROKEN, Authority, in_front_of

ONE_WAY_SECONDS = 0.04
PAUSE_SECONDS = 60
PAUSES = 2
ROUNDS = 12
WARM = 2  # runs that do not count: the first also asks what the app takes
ECHO = {"app": "sandbox/echo", "input": {"n": 1}}
DRAW = {"app": "sandbox/draw", "input": {"prompt": "a lake", "width": 64, "height": 64}}
HOST = "localhost"


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    ms: float
    round_trips: int
    connections: int
    requests: int

    def __str__(self) -> str:
        return f"{self.connections} connections, {self.requests} requests"


class Line:
    """A line to a local port: every byte takes its time, either way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connections = self.round_trips = 0

    async def serve(self, near: ByteStream) -> None:
        async with near, await anyio.connect_tcp("127.0.0.1", self._port) as far:
            # Whoever connects has not waited for it: what they send first comes later instead.
            await anyio.sleep(2 * ONE_WAY_SECONDS)
            self.connections += 1
            self.round_trips += 1
            is_waiting = False

            def sent() -> None:
                nonlocal is_waiting
                is_waiting = True

            def answered() -> None:
                nonlocal is_waiting
                self.round_trips += is_waiting
                is_waiting = False

            async with anyio.create_task_group() as group:
                group.start_soon(_carry, near, far, sent, group.cancel_scope)
                group.start_soon(_carry, far, near, answered, group.cancel_scope)


async def _carry(source: ByteStream, to: ByteStream, passed: Callable[[], None], scope: anyio.CancelScope) -> None:
    """Pass on each piece, and then the end, when its time has come."""
    put, pieces = anyio.create_memory_object_stream[tuple[float, bytes]](math.inf)

    async def receive() -> None:
        with suppress(*BROKEN):
            async for piece in source:
                put.send_nowait((anyio.current_time() + ONE_WAY_SECONDS, piece))
        put.send_nowait((anyio.current_time() + ONE_WAY_SECONDS, b""))

    with put, pieces:
        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            async for at, piece in pieces:
                await anyio.sleep_until(at)
                if not piece:
                    break
                passed()
                with suppress(*BROKEN):
                    await to.send(piece)
    scope.cancel()


@dataclass(frozen=True)
class Place:
    """An API that is far away."""

    url: str
    line: Line
    sandbox: Sandbox

    async def cost(self, way: Callable[[], Awaitable[None]]) -> Cost:
        before = self.line.round_trips, self.line.connections, len(self.sandbox.ledger.requests())
        began = time.perf_counter()
        await way()
        took = time.perf_counter() - began
        after = self.line.round_trips, self.line.connections, len(self.sandbox.ledger.requests())
        return Cost(took * 1000, *(late - early for early, late in zip(before, after, strict=True)))


class _Https:
    """The addresses of its files are https too: TLS ends in front of it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.close = app.close

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope | {"scheme": "https"}, receive, send)


@asynccontextmanager
async def _far_away(authority: Authority) -> AsyncIterator[Place]:
    sandbox = Sandbox()
    sandbox.app = _Https(sandbox.app)
    async with AsyncExitStack() as stack:
        plain = urlsplit(await stack.enter_async_context(serving(sandbox))).port or 0
        line = Line(await stack.enter_async_context(in_front_of(plain, authority.context(HOST))))
        listener = await stack.enter_async_context(await anyio.create_tcp_listener(local_host="127.0.0.1"))
        group = await stack.enter_async_context(anyio.create_task_group())
        group.start_soon(listener.serve, line.serve)
        yield Place(f"https://{HOST}:{listener.extra(SocketAttribute.local_port)}", line, sandbox)
        group.cancel_scope.cancel()


async def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        async with _far_away(authority) as place:
            settings = environ(INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=place.url, SSL_CERT_FILE=str(authority.file))
            server = StdioServerParameters(command=sys.executable, args=["-m", "inferencesh_mcp"], env=settings)
            with _trusted_by_requests(authority):
                async with Client(server, mode="legacy") as client:
                    return await _measured(client, place)


async def _measured(client: Client, place: Place) -> list[Figure]:
    official = inference(api_key=KEY, base_url=place.url)

    async def pair(run: dict[str, Any]) -> tuple[Cost, Cost]:
        async def through_the_bridge() -> None:
            result = await client.call_tool("app_run", run)
            assert not result.is_error, result

        async def by_the_official_sdk() -> None:
            await to_thread.run_sync(official.run, run)

        return await place.cost(through_the_bridge), await place.cost(by_the_official_sdk)

    async def warm(run: dict[str, Any]) -> list[tuple[Cost, Cost]]:
        return [await pair(run) for _ in range(WARM + ROUNDS)][WARM:]

    async def after_a_pause(run: dict[str, Any]) -> tuple[Cost, Cost]:
        await anyio.sleep(PAUSE_SECONDS)
        return await pair(run)

    return [
        _told("app_run, 80 ms away", await warm(ECHO), aim=0.7),
        _told(f"the same after {PAUSE_SECONDS} s", [await after_a_pause(ECHO) for _ in range(PAUSES)], aim=0.8),
        _told("a picture, 80 ms away", await warm(DRAW)),
    ]


def _told(name: str, costs: list[tuple[Cost, Cost]], aim: float | None = None) -> Figure:
    ours, official = zip(*costs, strict=True)
    return Figure(
        name=f"{name}: {ours[-1].round_trips} round trips", value=median(cost.ms for cost in ours), unit="ms",
        base=median(cost.ms for cost in official), base_name=f"official SDK: {official[-1].round_trips} round trips",
        aim=aim, by_ratio=True, note=f"{ours[-1]}; the official SDK {official[-1]}",
    )  # fmt: skip


@contextmanager
def _trusted_by_requests(authority: Authority) -> Iterator[None]:
    """The official SDK's `requests` reads this variable."""
    os.environ["REQUESTS_CA_BUNDLE"] = str(authority.file)
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]
