"""What the tests stand on: the sandbox on a loopback port as upstream, and a real MCP client in front of the server.

`connect` runs a test over each way in: in memory, on stdio and over HTTP, in both eras of the protocol.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.shared.memory import create_client_server_memory_streams

from inferencesh_mcp.http.app import create_app
from inferencesh_mcp.sdk import serve_streams
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_sandbox import Facts, serving
from inferencesh_sandbox.server import EmbeddedServer
from tests import stdio_fork
from tests.support.clock import TurnedClock
from tests.support.sandbox import Sandbox
from tests.system.faults.rows import rows_of

KEY = "inf_test_CANARY_7c1f"
CANARY = re.compile(r"inf_\w*CANARY\w*")
"""Every key of the tests."""
Connect = Callable[..., AbstractAsyncContextManager[Client]]


QUICK_WAYS = ("stdio-2025", "http-2026", "memory-2026", "memory-2025")
"""`make test` runs a test that is multiplied over more than two ways in over the first two of these that it has: each transport
and each protocol version. The other combinations run in `make check`."""
THOROUGH = ("histories", "sandbox", "evaluation")
"""Folders whose tests run in `make check` alone: random histories, the tests of our own imitation of the platform, and jobs."""


def pytest_itemcollected(item: pytest.Item) -> None:
    if rows := rows_of(item):
        item.add_marker("fault")
        item.user_properties.append(("faults", rows))  # part of the report, which `make faults` reads


COLLECTED: list[str] = []
"""The ids of all tests, also of those that this run leaves out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` leaves to `make check`."""
    COLLECTED[:] = [item.nodeid for item in items]
    ways = defaultdict[str, set[str]](set)
    for item in items:
        ways[_function(item)].add(_way(item))
    for item in items:
        several = ways[_function(item)]
        quick = [way for way in QUICK_WAYS if way in several][:2]
        multiplied = len(several) > 2 and _way(item) not in quick
        if multiplied or item.path.parent.name in THOROUGH:
            item.add_marker("thorough")


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _way(item: pytest.Item) -> str:
    return (
        str(item.callspec.params.get("way", ""))
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else ""
    )


def pytest_configure(config: pytest.Config) -> None:
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as nohup leaves it: the servers of the tests would inherit that
    logging.getLogger("inferencesh_mcp").setLevel("DEBUG")
    config.add_cleanup(stdio_fork.ended.close)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A key is in nothing that a test's processes write (I-11): neither in their output nor in our log, at any level."""
    report = yield
    leaking = [title for title, text in report.sections if CANARY.search(text)]
    if report.passed and leaking:
        report.outcome, report.longrepr = "failed", f"A key is in what is {', '.join(leaking)}"
    elif report.passed:
        report.sections = []  # what nobody will read is not sent from worker to worker
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Upstream:
    """An inference.sh that can be looked into and told to misbehave."""

    sandbox: Sandbox
    url: str


@pytest.fixture
def facts() -> Facts:
    """The newest platform; a test that is about an older one is parametrized with its own."""
    return Facts()


@pytest.fixture
async def upstream(facts: Facts) -> AsyncIterator[Upstream]:
    sandbox = Sandbox(facts=facts)
    async with serving(sandbox) as url:
        yield Upstream(sandbox, url)


@pytest.fixture
async def turned_upstream() -> AsyncIterator[Upstream]:
    """The same, with a clock that only a test turns; what takes an app a moment takes none."""
    clock = TurnedClock()
    sandbox = Sandbox(clock)
    async with serving(sandbox) as url, anyio.create_task_group() as group:
        group.start_soon(clock.hurry)
        yield Upstream(sandbox, url)
        group.cancel_scope.cancel()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test starts on stdio is started as a host starts it (see `forking`)."""
    monkeypatch.setenv("TEST_STDIO_START", "fresh")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the server may read and write."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    return allowed


@pytest.fixture
def environ(upstream: Upstream, folder: Path) -> dict[str, str]:
    """What the server is started with."""
    return {
        "INFERENCE_API_KEY": KEY,
        "INFERENCE_BASE_URL": upstream.url,
        "INFERENCE_SAVE_DIR": str(folder),
        "INFERENCE_CACHE_DIR": str(folder.parent / "cache"),
        "INFERENCE_LOG_LEVEL": "DEBUG",
    }


@dataclass(frozen=True)
class Way:
    transport: str
    era: str

    def __str__(self) -> str:
        return f"{self.transport}-{self.era}"


MODES: dict[str, Any] = {"2026": "auto", "2025": "legacy"}
WAYS = [Way(transport, era) for transport in ("memory", "stdio", "http") for era in MODES]
LOCAL = [way for way in WAYS if way.transport != "http"]


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@asynccontextmanager
async def in_memory(server: MCPServer[Any]) -> AsyncIterator[Any]:
    """The two ends of a wire without a process: the same messages as on stdio, progress tokens included."""
    async with (
        create_client_server_memory_streams() as (client, (incoming, outgoing)),
        anyio.create_task_group() as group,
    ):
        group.start_soon(serve_streams, server, incoming, outgoing)
        yield client
        group.cancel_scope.cancel()


@asynccontextmanager
async def over_http(environ: dict[str, str], mode: str = "", **built: Any) -> AsyncIterator[Any]:
    """The server, `built` so, on a loopback port, and the client's end of a connection by somebody whom it lets in."""
    from tests.http_auth_modes import CHOSEN, let_in

    async with let_in(mode or CHOSEN, environ) as (started_with, headers):
        settings = Settings.from_environ(started_with)
        async with (
            listening(create_app(build(settings, remote=True, **built), settings)) as url,
            httpx2.AsyncClient(headers=headers, timeout=60, verify=False) as http,
        ):
            yield streamable_http_client(f"{url}/mcp", http_client=http)


@asynccontextmanager
async def callers(environ: dict[str, str], *keys: str, **client: Any) -> AsyncIterator[list[Client]]:
    """Clients of one server over HTTP, each with a key of its own."""
    settings = Settings.from_environ({name: value for name, value in environ.items() if name != "INFERENCE_API_KEY"})
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(50))
        url = await stack.enter_async_context(listening(create_app(build(settings, remote=True), settings)))
        clients: list[Client] = []
        for key in keys:
            headers = {"Authorization": f"Bearer {key}"}
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=60))
            way_in = streamable_http_client(f"{url}/mcp", http_client=http)
            clients.append(await stack.enter_async_context(Client(way_in, **client)))
        yield clients


async def until(condition: Callable[[], Any], *, within: float = 30.0) -> None:
    """Wait for a state of the world, at most so many seconds."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.005)


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """An ASGI application behind a real socket, for as long as the block."""
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", timeout_graceful_shutdown=1)
    async with guest(EmbeddedServer(config)) as url:
        yield url


@asynccontextmanager
async def guest(server: EmbeddedServer) -> AsyncIterator[str]:
    """A server of uvicorn's on a loopback port, for as long as the block; its URL."""
    # asyncio turns Nagle's delay off only for sockets that name TCP; with it, an answer in two pieces comes 40 ms late.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        serving_it = asyncio.create_task(server.serve([listener]))
        await server.accepts.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.leave()
            with anyio.CancelScope(shield=True):
                await serving_it


def on_stdio(environ: dict[str, str]) -> StdioServerParameters:
    """How the SDK's client starts a server."""
    command, *arguments = stdio_fork.command()
    passed_on = ("PATH", "HOME", "SYSTEMROOT")  # Windows has no sockets without the last
    inherited = {name: os.environ[name] for name in passed_on if name in os.environ}
    return StdioServerParameters(command=command, args=arguments, env={"HOME": "/"} | inherited | environ)


@asynccontextmanager
async def connected(way: Way, environ: dict[str, str], **client: Any) -> AsyncIterator[Client]:
    """A client of a server of its own; the server ends with the block."""
    with anyio.fail_after(50):
        if way.transport == "http":
            async with over_http(environ) as server, Client(server, mode=MODES[way.era], **client) as connection:
                yield connection
            return
        if way.transport == "memory":
            server: Any = in_memory(build(Settings.from_environ(environ)))
        else:
            server = on_stdio(environ)
        async with Client(server, mode=MODES[way.era], **client) as connection:
            yield connection


@pytest.fixture
def connect(way: Way, environ: dict[str, str]) -> Connect:
    """Connect to a server with these settings: `async with connect(INFERENCE_WAIT_SECONDS="1") as client`."""

    def with_settings(**changed: str | None) -> AbstractAsyncContextManager[Client]:
        settings = {name: value for name, value in (environ | changed).items() if value is not None}
        return connected(way, settings)

    return with_settings
