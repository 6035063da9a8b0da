"""A server behind a fault, and a host in front of it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import stdio_client

from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_mcp.tools import progress
from tests.conftest import MODES, Upstream, Way, in_memory, on_stdio, over_http
from tests.system.faults.front import Front, fronting
from tests.system.faults.hosts import LIMIT, NEAR, STDIO, Frame, Host, Hosted, recorded
from tests.system.faults.proxy import Proxy, proxying

HURRY = 50
"""How many times faster the pauses of a server that is near pass."""


@pytest.fixture(params=(*NEAR, STDIO[1]), ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture
def host(
    way: Way,
    environ: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Hosted:
    """`async with host(INFERENCE_ON_CANCEL="keep") as my:`; `sleep` replaces the pauses of a server that is near."""
    caplog.set_level("DEBUG", logger="inferencesh_mcp")
    if way.transport != "stdio":
        monkeypatch.setattr(progress, "WINDOW_SECONDS", progress.WINDOW_SECONDS / HURRY)

    @asynccontextmanager
    async def connected(sleep: Any = None, **changed: str | None) -> AsyncIterator[Host]:
        settings = {name: value for name, value in (environ | changed).items() if value is not None}
        frames: list[Frame] = []
        slept: list[float] = []

        async def hurry(seconds: float) -> None:
            slept.append(seconds)
            await anyio.sleep(seconds / HURRY)

        async with AsyncExitStack() as stack:
            stack.enter_context(anyio.fail_after(LIMIT))
            log = stack.enter_context((tmp_path / "stderr").open("a+", encoding="utf-8"))
            network = functools.partial(Transport, sleep=sleep or hurry)
            if way.transport == "http":
                server: Any = await stack.enter_async_context(over_http(settings, network=network))
            elif way.transport == "memory":
                server = in_memory(build(Settings.from_environ(settings), network=network))
            else:
                server = stdio_client(on_stdio(settings), errlog=log)
            async with Client(recorded(server, frames), mode=MODES[way.era]) as client:
                yield Host(
                    client,
                    way.transport != "stdio",
                    frames,
                    slept,
                    lambda: caplog.text + (tmp_path / "stderr").read_text("utf-8"),
                )

    return connected


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Proxy]:
    async with proxying(upstream.url) as proxy:
        yield proxy


@pytest.fixture
def behind(proxy: Proxy) -> dict[str, str]:
    """The setting that sends a server through the proxy."""
    return {"INFERENCE_BASE_URL": f"http://127.0.0.1:{proxy.port}"}


@pytest.fixture
async def front(upstream: Upstream) -> AsyncIterator[Front]:
    """A server before the sandbox that can be told to answer in its place."""
    async with fronting(upstream.url) as front:
        yield front
