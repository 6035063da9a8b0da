"""Pinned apps over HTTP: read with the key of whoever asks, listed the same for everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from inferencesh_mcp.tools import pinned_registry
from tests.conftest import KEY, Connect, Upstream, callers
from tests.results import payload, run
from tests.support.faults import Status
from tests.tools.pinned import CHANGED, HTTP, PRIVATE, answering, names

pytestmark = pytest.mark.anyio


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return environ | {"INFERENCE_PIN": "hero=sandbox/echo"}


@pytest.fixture
def cache(environ: dict[str, str]) -> Path:
    return Path(environ["INFERENCE_CACHE_DIR"])


def of_apps(upstream: Upstream) -> list[str]:
    return [entry.path for entry in upstream.sandbox.ledger.requests(path="/apps/**")]


@pytest.mark.parametrize("way", HTTP, indirect=True, ids=str)
async def test_only_public_apps_have_tools(connect: Connect, upstream: Upstream, cache: Path, log: Any) -> None:
    """Not even for the one whose app it is: the list is everybody's. And nothing is written to the server's disk."""
    answering(upstream, "sandbox/echo", app=PRIVATE)
    async with connect(INFERENCE_PIN="hero=sandbox/echo, sandbox/draw") as client:
        assert ["draw"] == await names(client)
        assert {"n": 1} == payload(await run(client, "sandbox/echo", {"n": 1}))["output"]
        assert ["draw"] == await names(client)
        assert (await client.call_tool("hero", {})).is_error

    assert ["No tool hero: sandbox/echo cannot be read (it is not public). app_run reaches it."] == log()
    assert not cache.exists()


@pytest.mark.parametrize("way", HTTP, indirect=True, ids=str)
async def test_the_apps_are_read_once_for_all_callers(connect: Connect, upstream: Upstream) -> None:
    async with connect(INFERENCE_PIN="hero=sandbox/echo, sandbox/draw, other=sandbox/echo:run") as client:
        lists = [await client.list_tools() for _ in range(3)]

    assert lists[0].tools == lists[1].tools == lists[2].tools
    assert ["/apps/sandbox/draw", "/apps/sandbox/echo"] == sorted(of_apps(upstream))


async def test_a_refused_key_does_not_remove_the_tools(environ: dict[str, str], upstream: Upstream, log: Any) -> None:
    """Whoever asks first: the next caller is not kept waiting for what the first could not read."""
    async with callers(environ, "refused_CANARY", KEY) as (refused, caller):
        assert [] == await names(refused)
        assert ["hero"] == await names(caller) == await names(refused)

    assert [] == log()


async def test_the_list_is_the_same_for_every_caller(environ: dict[str, str], upstream: Upstream) -> None:
    """One may see the app and the other may not: neither has a tool of it, and its schema is told to nobody else (T-3)."""
    answering(upstream, "sandbox/echo", app=PRIVATE, input_schema=CHANGED)
    async with callers(environ | {"INFERENCE_PIN": "hero=sandbox/echo, sandbox/draw"}, KEY, "inf_stranger") as clients:
        owner, stranger = clients
        lists = [(await client.list_tools()).tools for client in (owner, stranger, owner)]
        await run(owner, "sandbox/echo", {"text": "x"})
        upstream.sandbox.faults.clear()
        upstream.sandbox.faults.add(Status(code=404), path="/apps/sandbox/echo", times=-1)
        theirs = await run(stranger, "sandbox/echo", {"text": "x"})
        lists += [(await client.list_tools()).tools for client in (owner, stranger)]

    assert "not_found" == payload(theirs)["error"]["code"]
    assert all(lists[0] == other for other in lists)
    assert "draw" in [tool.name for tool in lists[0]]
    assert "hero" not in [tool.name for tool in lists[0]]


async def test_the_list_does_not_wait_long_for_a_slow_app(
    environ: dict[str, str], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not there in time is read for whoever asks next."""
    monkeypatch.setattr(pinned_registry, "PATIENCE", 0.3)
    gate = upstream.sandbox.faults.hold("GET", "/apps/sandbox/echo")
    pins = environ | {"INFERENCE_PIN": "hero=sandbox/echo, sandbox/draw"}
    async with callers(pins, KEY) as (client,):
        assert ["draw"] == await names(client)
        gate.release()
        while ["draw"] == await names(client):
            await anyio.sleep(0.05)
        assert ["hero", "draw"] == await names(client)
