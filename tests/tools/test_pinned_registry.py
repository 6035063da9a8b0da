"""How pinned apps come to be known: from disk, from the API, by whose key, and what a change of one does."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import ToolListChangedNotification

from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_mcp.tools import pinned_registry
from tests.conftest import KEY, WAYS, Connect, Upstream, Way, connected, in_memory, until
from tests.results import payload, run, text_of
from tests.support.faults import Drop, Status
from tests.tools.pinned import CHANGED, HTTP, MEMORY, PRIVATE, answering, hero_takes, names

pytestmark = pytest.mark.anyio

LOCAL = [*MEMORY, next(way for way in WAYS if way.transport == "stdio")]


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return environ | {"INFERENCE_PIN": "hero=sandbox/echo"}


@pytest.fixture
def cache(environ: dict[str, str]) -> Path:
    return Path(environ["INFERENCE_CACHE_DIR"])


def age(cache: Path, seconds: float = 2 * pinned_registry.REFRESH) -> None:
    for path in cache.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


@asynccontextmanager
async def listening(way: Way, environ: dict[str, str]) -> AsyncIterator[tuple[Client, anyio.Event]]:
    """A client, and an event that is set when it is told that the tools changed, as its era tells it."""
    changed = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            changed.set()

    async def listen(client: Client, ready: anyio.Event) -> None:
        async with client.listen(tools_list_changed=True) as events:
            ready.set()
            async for _ in events:
                changed.set()

    async with connected(way, environ, message_handler=hear) as client, anyio.create_task_group() as group:
        if way.era == "2026":
            ready = anyio.Event()
            group.start_soon(listen, client, ready)
            await ready.wait()
        yield client, changed
        group.cancel_scope.cancel()


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_a_second_start_sends_no_request(connect: Connect, upstream: Upstream, cache: Path) -> None:
    """What was told the first time is on disk, for this person alone, and without the key."""
    async with connect() as client:
        first = (await client.list_tools()).tools
        await until(lambda: cache.is_dir() and list(cache.glob("*.json")))
    before = len(upstream.sandbox.ledger.requests())
    async with connect() as client:
        second = (await client.list_tools()).tools

    assert first == second
    assert before == len(upstream.sandbox.ledger.requests())
    (file,) = cache.iterdir()
    assert KEY not in file.read_text(encoding="utf-8") + str(file)
    modes = (0o700, 0o600) if sys.platform != "win32" else (0o777, 0o666)  # there the profile is a person's own
    assert modes == (cache.stat().st_mode & 0o777, file.stat().st_mode & 0o777)


@pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)
async def test_a_start_needs_no_network_once_an_app_is_known(
    connect: Connect, upstream: Upstream, cache: Path, log: Any
) -> None:
    """However long ago that was."""
    async with connect() as client:
        assert ["hero"] == await names(client)
    age(cache, 10**7)
    upstream.sandbox.faults.add(Drop(), times=-1)
    async with connect() as client:
        assert ["hero"] == await names(client)

    assert [] == log()


@pytest.mark.parametrize("way", MEMORY[:1], indirect=True, ids=str)
@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00{", b"[" * 10_000, b'{"app_ref": "sandbox/echo", "app": 7}', b"x" * 5_000_000]
)
async def test_a_damaged_cache_file_is_ignored(connect: Connect, cache: Path, content: bytes) -> None:
    async with connect() as client:
        assert ["hero"] == await names(client)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    async with connect() as client:
        assert ["hero"] == await names(client)

    assert "sandbox/echo" == json.loads(file.read_bytes())["app_ref"], "and it is written anew"


@pytest.mark.parametrize("way", MEMORY[:1], indirect=True, ids=str)
async def test_an_unwritable_cache_is_not_an_error(connect: Connect, cache: Path, log: Any) -> None:
    cache.write_text("a file where the folder should be", encoding="utf-8")
    async with connect() as client:
        assert ["hero"] == await names(client)

    assert [] == log()


@pytest.mark.parametrize("way", MEMORY[:1], indirect=True, ids=str)
async def test_the_cache_folder_stays_small(connect: Connect, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes, and what a process left that ended in the middle of writing."""
    monkeypatch.setattr("inferencesh_mcp.flows.app_cache.MAX_DISK_FILES", 3)
    cache.mkdir()
    for name in ("left.new", "one.json", "two.json", "three.json", "not-ours.txt"):
        (cache / name).write_bytes(b"{}")
    age(cache)
    async with connect() as client:
        assert ["hero"] == await names(client)

    assert 3 == len(list(cache.glob("*.json"))) + len(list(cache.glob("*.new")))
    assert (cache / "not-ours.txt").is_file()


@pytest.mark.parametrize("way", MEMORY[:1], indirect=True, ids=str)
async def test_a_private_app_is_cached_for_its_key_only(connect: Connect, upstream: Upstream, cache: Path) -> None:
    """A private app is kept for the key that showed it (T-3); a public one is anybody's."""
    answering(upstream, "sandbox/echo", app=PRIVATE)
    async with connect() as client:
        assert ["hero"] == await names(client)
    upstream.sandbox.faults.clear()
    upstream.sandbox.faults.add(Status(code=404), path="/apps/**", times=-1)
    async with connect(INFERENCE_API_KEY="inf_somebody_else") as client:
        assert [] == await names(client)
    async with connect() as client:
        assert ["hero"] == await names(client)

    assert KEY not in str(list(cache.iterdir()))


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_a_late_app_is_announced_as_a_change_of_the_list(
    way: Way, environ: dict[str, str], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way.transport == "memory":
        monkeypatch.setattr(pinned_registry, "PATIENCE", 0.2)
    gate = upstream.sandbox.faults.hold("GET", "/apps/sandbox/echo")
    async with listening(way, environ) as (client, changed):
        assert [] == await names(client)
        gate.release()
        await changed.wait()
        assert ["hero"] == await names(client)


@pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)
async def test_a_change_since_the_last_start_is_logged_and_announced(
    way: Way, environ: dict[str, str], upstream: Upstream, cache: Path, log: Any
) -> None:
    """The list is there at once, as it was; what the app has become replaces it (T-18: a change is seen)."""
    async with connected(way, environ) as client:
        assert set() == await hero_takes(client)
    age(cache)
    gate = upstream.sandbox.faults.hold("GET", "/apps/sandbox/echo")
    answering(upstream, "sandbox/echo", input_schema=CHANGED)
    async with listening(way, environ) as (client, changed):
        assert set() == await hero_takes(client)
        gate.release()
        await changed.wait()
        assert {"text"} == await hero_takes(client)

    (line,) = log()
    assert line.startswith("The tool hero changed with sandbox/echo: ")


@pytest.mark.parametrize("way", [*MEMORY, HTTP[0]], indirect=True, ids=str)
async def test_a_change_found_by_a_run_is_announced(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """The input no longer fits what the app has become: nothing is started, and the host learns the new fields."""
    answering(upstream, "sandbox/echo", input_schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    async with listening(way, environ) as (client, changed):
        assert {"n"} == await hero_takes(client)
        upstream.sandbox.faults.clear()
        answering(upstream, "sandbox/echo", input_schema=CHANGED)
        result = await client.call_tool("hero", {"n": "three"})
        await changed.wait()
        assert {"text"} == await hero_takes(client)

    assert "'text' is missing" in text_of(result)
    assert () == upstream.sandbox.ledger.starts


@pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)
async def test_a_deleted_app_loses_its_tool(
    way: Way, environ: dict[str, str], upstream: Upstream, cache: Path, log: Any
) -> None:
    async with connected(way, environ) as client:
        assert ["hero"] == await names(client)
    age(cache)
    gate = upstream.sandbox.faults.hold("GET", "/apps/sandbox/echo")
    upstream.sandbox.faults.add(Status(code=404), path="/apps/sandbox/echo", times=-1)
    async with listening(way, environ) as (client, changed):
        assert ["hero"] == await names(client)
        gate.release()
        await changed.wait()
        assert [] == await names(client)
        called = await client.call_tool("hero", {})

    assert ("unavailable", "not_started") == tuple(payload(called)["error"][name] for name in ("code", "outcome"))
    assert 'app_run(app="sandbox/echo")' in text_of(called)
    assert 1 == len(log())
    assert [] == list(cache.iterdir())


@pytest.mark.parametrize("way", [*MEMORY, *HTTP], indirect=True, ids=str)
async def test_an_unreadable_app_is_left_out_and_the_others_are_listed(connect: Connect, log: Any) -> None:
    pins = "sandbox/gone, hero=sandbox/echo, sandbox/memory:no_such, sandbox/draw@nosuch"
    async with connect(INFERENCE_PIN=pins) as client:
        assert ["hero"] == await names(client)
        assert ["hero"] == await names(client)
        assert (
            "completed"
            == payload(await run(client, "sandbox/draw", {"prompt": "x", "width": 16, "height": 16}))["status"]
        )

    assert 3 == len(log())
    assert all(line.endswith("app_run reaches it.") for line in log())
    assert 1 == len([line for line in log() if line.startswith("No tool gone: sandbox/gone cannot be read (")])


@pytest.mark.parametrize("way", MEMORY[:1], indirect=True, ids=str)
async def test_without_a_key_only_cached_apps_are_listed(connect: Connect, cache: Path, log: Any) -> None:
    async with connect() as client:
        assert ["hero"] == await names(client)
    age(cache)
    async with connect(INFERENCE_API_KEY=None, INFERENCE_PIN="hero=sandbox/echo, sandbox/draw") as client:
        assert ["hero"] == await names(client)
        result = await client.call_tool("hero", {})

    assert "key_missing" == payload(result)["error"]["code"]
    assert 1 == len(log())


async def test_apps_are_reread_while_the_server_runs(environ: dict[str, str], upstream: Upstream) -> None:
    """Soon where one could not be read, every hour where all are known."""
    slept: list[float] = []
    send, turned = anyio.create_memory_object_stream[None](10)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await turned.receive()

    upstream.sandbox.faults.add(Status(code=404), path="/apps/sandbox/echo", times=1)
    server = in_memory(build(Settings.from_environ(environ), network=partial(Transport, sleep=sleep)))
    with anyio.fail_after(20), send, turned:
        async with Client(server, mode="auto") as client, client.listen(tools_list_changed=True) as changes:
            assert [] == await names(client)
            send.send_nowait(None)
            await anext(changes)
            assert set() == await hero_takes(client)
            answering(upstream, "sandbox/echo", input_schema=CHANGED)
            send.send_nowait(None)
            await anext(changes)
            assert {"text"} == await hero_takes(client)

    assert [pinned_registry.RETRY, pinned_registry.REFRESH] == slept[:2]


@pytest.mark.parametrize("way", MEMORY[:1], indirect=True, ids=str)
async def test_a_hostile_app_does_not_affect_the_others(connect: Connect, upstream: Upstream) -> None:
    """Its schema refers to itself, to elsewhere, and repeats a pattern for ever; it is listed, and called, all the same (T-18)."""
    fields = {
        "self": {"$ref": "#/properties/self"},
        "elsewhere": {"$ref": f"{upstream.url}/elsewhere"},
        "slow": {"type": "string", "pattern": "(a+)+$"},
        "many": {"anyOf": [{"type": "integer", "minimum": at} for at in range(1_500)]},
    }
    answering(upstream, "sandbox/echo", input_schema={"type": "object", "properties": fields})
    async with connect(INFERENCE_PIN="hero=sandbox/echo, sandbox/draw") as client:
        with anyio.fail_after(10):
            assert ["hero", "draw"] == await names(client)
            result = await client.call_tool("hero", {"slow": "a" * 60 + "!", "elsewhere": 1, "many": 3})

    assert "completed" == payload(result)["status"]
    assert () == upstream.sandbox.ledger.requests(path="/elsewhere")
