"""Uploads that go wrong, and transfers that are left: rows X-23 to X-27."""

from __future__ import annotations

import functools
import os
import sys
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from inferencesh_mcp.api import http_client, transport
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_sandbox.apps import png
from inferencesh_sandbox.tenants import Tenant
from tests.conftest import MODES, Connect, Upstream, Way, in_memory, until
from tests.results import error, payload, text_of
from tests.support.faults import Intake, Status
from tests.system.faults.front import Front, Visit
from tests.system.faults.hosts import DISKS, MEMORY, NEAR, STDIO, Hosted, judge, over
from tests.system.faults.process_usage import linux, open_files, server_of_mine

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
SIZE = 12 * MIB
"""More than the system takes on before anybody reads, so that what is half read is half sent."""
SMALL = png.encode(png.Raster(2, 2, (b"\x00\x00\x00\xff\xff\xff",) * 2))


@pytest.fixture
def picture(folder: Path) -> Path:
    """A picture with much behind it: a valid input of an app, and large."""
    path = folder / "picture.png"
    path.write_bytes(SMALL.ljust(SIZE, b"."))
    return path


@pytest.fixture
def source(way: Way, upstream: Upstream, picture: Path) -> Callable[[str], str]:
    """What is to be sent, where the platform is at this URL: a path, or over HTTP the address of the same bytes."""

    def source_at(platform: str) -> str:
        if way.transport != "http":
            return str(picture)
        file = upstream.sandbox.store.make(Tenant("inf_somebody"), filename=picture.name, content_type="image/png")
        file.write(picture.read_bytes())
        file.finish()
        return file.uri_at(platform)

    return source_at


@pytest.fixture
def image(way: Way, picture: Path) -> str:
    """What an app is given: a path, or over HTTP the bytes themselves."""
    return str(picture) if way.transport != "http" else f"data:image/png;base64,{b64encode(SMALL).decode()}"


def records(upstream: Upstream) -> int:
    return len(upstream.sandbox.ledger.requests("POST", "/files"))


def puts(upstream: Upstream) -> int:
    return len(upstream.sandbox.ledger.requests("PUT"))


def attempts(front: Front) -> int:
    return len([visit for visit in front.visits if visit.head.startswith("PUT")])


def stored(upstream: Upstream, uri: str) -> bytes:
    file = upstream.sandbox.store.by_uri(uri)
    assert file is not None
    return b"".join(file.pieces())


@pytest.mark.fault("X-23")
async def test_an_expired_upload_url_is_requested_once_more(host: Hosted, upstream: Upstream, image: str) -> None:
    """One fresh record, and the bytes from the first: then the run goes on as if nothing had been."""
    upstream.sandbox.faults.add(Status(code=403, body="<Error><Code>AccessDenied</Code></Error>"), method="PUT")
    async with host() as my:
        result = await my.run("picture-info", {"image": image})

    assert payload(result)["output"]["bytes"] in (SIZE, len(SMALL))
    assert (2, 2) == (records(upstream), puts(upstream))
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-23")
async def test_an_upload_url_that_is_always_refused_is_an_error(host: Hosted, upstream: Upstream, image: str) -> None:
    """After exactly two records; nothing is run, and what the storage said stays where it is."""
    page = "<Error><Code>AccessDenied</Code><RequestId>4442587FB7D0A2F9</RequestId></Error>"
    upstream.sandbox.faults.add(Status(code=403, body=page), method="PUT", times=-1)
    async with host() as my:
        result = await my.run("picture-info", {"image": image})
        alone = await my.call("file_upload", source=image)

    assert ("forbidden", "not_started", True) == tuple(
        error(result)[name] for name in ("code", "outcome", "retry_safe")
    )
    assert "forbidden" == error(alone)["code"]
    assert "4442587FB7D0A2F9" not in text_of(result) + text_of(alone)
    assert (4, 4) == (records(upstream), puts(upstream))
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-24")
async def test_a_slow_upload_reports_progress(host: Hosted, front: Front, source: Callable[[str], str]) -> None:
    """A kilobyte at a time is taken; meanwhile the host hears how much of the file has gone."""
    reported = anyio.Event()

    async def slowly(visit: Visit) -> None:
        while not reported.is_set():
            await visit.take(1024)
            await anyio.sleep(0.01)
        await visit.take(visit.length - visit.received)
        await visit.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    front.on("PUT /upload/", slowly)
    async with host(INFERENCE_BASE_URL=front.url) as my, anyio.create_task_group() as group:

        async def upload() -> None:
            await my.call("file_upload", source=source(front.url))

        group.start_soon(upload)
        await my.until_progress("of 12.6 MB")
        reported.set()

    messages = [frame.params["message"] for frame in my.frames if frame.method == "notifications/progress"]
    assert any(message.endswith("of 12.6 MB") for message in messages)
    assert [SIZE] == [visit.received for visit in front.visits if visit.head.startswith("PUT")]


def hurried(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Shorten what a write may take, and the answer: where the system takes on much, it is that which is waited for."""
    monkeypatch.setattr(http_client, "WRITE_SECONDS", seconds)
    monkeypatch.setattr(http_client, "READ_SECONDS", seconds)


@pytest.mark.fault("X-24")
@over(*NEAR)
async def test_a_stalled_upload_is_retried(
    host: Hosted, upstream: Upstream, source: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it is taken and then nothing more: after the limit of a write it goes again, from the first byte."""
    hurried(monkeypatch, 0.3)
    upstream.sandbox.faults.add(Intake(bytes=SIZE // 2, then="stall"), method="PUT")
    async with host() as my:
        result = await my.call("file_upload", source=source(upstream.url))

    assert SIZE == len(stored(upstream, payload(result)["uri"]))
    assert (1, 2) == (records(upstream), puts(upstream))


@pytest.mark.fault("X-24")
@over(*NEAR)
async def test_an_upload_that_always_stalls_times_out(
    host: Hosted, upstream: Upstream, source: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(monkeypatch, 0.2)
    upstream.sandbox.faults.add(Intake(bytes=SIZE // 2, then="stall"), method="PUT", times=-1)
    async with host() as my:
        result = await my.call("file_upload", source=source(upstream.url))

    assert "timed_out" == error(result)["code"]
    assert 3 == puts(upstream)


@pytest.mark.fault("X-24")
async def test_a_broken_upload_is_retried(
    host: Hosted, upstream: Upstream, picture: Path, source: Callable[[str], str]
) -> None:
    """RST when half of it was taken; what arrives in the end is the whole file, once."""
    upstream.sandbox.faults.add(Intake(bytes=SIZE // 2, then="reset"), method="PUT")
    async with host() as my:
        result = await my.call("file_upload", source=source(upstream.url))

    assert picture.read_bytes() == stored(upstream, payload(result)["uri"])
    assert (1, 2) == (records(upstream), puts(upstream))


@pytest.mark.fault("X-24")
@over(*MEMORY)
async def test_a_long_upload_that_breaks_is_retried_too(
    upstream: Upstream, front: Front, folder: Path, environ: dict[str, str], way: Way, picture: Path
) -> None:
    """However long the first attempt took: a large file needs its minutes, and the limit of a call is not for it."""
    now = 0.0

    async def long_and_broken(visit: Visit) -> None:
        nonlocal now
        await visit.take(SIZE // 2)
        now += 600
        visit.reset()

    front.on("PUT /upload/", long_and_broken)
    async with host_with(way, environ | {"INFERENCE_BASE_URL": front.url}, clock=lambda: now) as client:
        result = await client.call_tool("file_upload", {"source": str(picture)})

    assert picture.read_bytes() == stored(upstream, payload(result)["uri"])


def host_with(way: Way, environ: dict[str, str], **time: Any) -> Any:
    """A client of a server in memory whose time is the test's."""
    server = build(Settings.from_environ(environ), network=functools.partial(transport.Transport, **time))
    return Client(in_memory(server), mode=MODES[way.era])


async def answer_at_once(visit: Visit) -> None:
    await visit.take(1024)
    await visit.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@pytest.mark.fault("X-25")
async def test_a_success_before_the_whole_body_was_sent_is_not_trusted(
    host: Hosted, upstream: Upstream, front: Front, picture: Path, source: Callable[[str], str]
) -> None:
    """200 after the first kilobyte, and the connection closed: half a file is no file, so it goes again."""
    front.on("PUT /upload/", answer_at_once, answer_at_once)
    async with host(INFERENCE_BASE_URL=front.url) as my:
        result = await my.call("file_upload", source=source(front.url))

    assert picture.read_bytes() == stored(upstream, payload(result)["uri"])
    assert (2, 1) == (attempts(front), puts(upstream))


@pytest.mark.fault("X-25")
async def test_an_upload_that_always_succeeds_too_early_is_an_error(
    host: Hosted, front: Front, source: Callable[[str], str]
) -> None:
    front.on("PUT /upload/", *[answer_at_once] * 3)
    async with host(INFERENCE_BASE_URL=front.url) as my:
        result = await my.call("file_upload", source=source(front.url))

    assert "unavailable" == error(result)["code"]
    assert 3 == attempts(front)


def truncated(path: Path) -> None:
    os.truncate(path, SIZE - 1)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(SIZE - 5)
        file.write(b"other")


def rewritten_in_secret(path: Path) -> None:
    before = path.stat()
    rewritten(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    other = path.with_name("other.png")
    other.write_bytes(b"x" * SIZE)
    other.rename(path)


def deleted(path: Path) -> None:
    path.unlink()


CHANGES = (truncated, emptied, grown, rewritten)
if sys.platform != "win32":  # there an open file cannot be replaced or deleted, and no time tells of a change in secret
    CHANGES += (rewritten_in_secret, replaced, deleted)


@pytest.mark.fault("X-26")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize(("way", "tool"), [(MEMORY[1], "file_upload"), (STDIO[0], "app_run")], ids=str)
async def test_a_file_that_changes_during_its_upload_is_not_used(
    host: Hosted, upstream: Upstream, front: Front, picture: Path, change: Callable[[Path], None], tool: str
) -> None:
    """Whoever changes it, and however: the announced length is never filled with something else, and nothing runs."""

    async def changing(visit: Visit) -> None:
        await visit.take(SIZE // 4)
        change(picture)
        await visit.take(visit.length - visit.received)  # ends early: the connection is cut
        with suppress(OSError):
            await visit.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    front.on("PUT /upload/", changing)
    async with host(INFERENCE_BASE_URL=front.url) as my:
        if tool == "app_run":
            result = await my.run("picture-info", {"image": str(picture)})
        else:
            result = await my.call("file_upload", source=str(picture))
        await until(front.visits[0].writer.is_closing)

    assert ("file_refused", True) == (error(result)["code"], "changed while it was being sent" in text_of(result))
    assert [SIZE] == [visit.length for visit in front.visits]
    assert front.visits[0].received < SIZE
    assert 0 == puts(upstream), "it is not tried again with what it has become"
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-27")
@linux
@pytest.mark.usefixtures("fresh")
@over(*DISKS)
@pytest.mark.parametrize("tool", ["file_upload", "app_run"])
async def test_a_cancelled_upload_stops_at_once(
    host: Hosted, upstream: Upstream, front: Front, picture: Path, way: Way, tool: str
) -> None:
    """The connection is cut, the file is closed, and no run is started."""
    half, cancelled, closed = anyio.Event(), anyio.Event(), anyio.Event()

    async def watching(visit: Visit) -> None:
        await visit.take(SIZE // 4)  # what the system takes on besides is less than what is left
        half.set()
        await cancelled.wait()
        with suppress(OSError):
            await visit.take(SIZE)
        closed.set()

    front.on("PUT /upload/", watching)
    async with host(INFERENCE_BASE_URL=front.url) as my:
        server = server_of_mine() if way.transport == "stdio" else None
        arguments = {"source": str(picture)}
        if tool == "app_run":
            arguments = {"app": "sandbox/picture-info", "input": {"image": str(picture)}}
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(my.call, tool, **arguments))
            await half.wait()
            assert str(picture) in open_files(server)
            group.cancel_scope.cancel()
        await until(lambda: str(picture) not in open_files(server))
        cancelled.set()
        await closed.wait()
        assert not (await my.run("echo", {})).is_error

    assert front.visits[0].received < SIZE
    judge(my, upstream.sandbox, starts=1)  # the echo, which shows that the server is well


async def saying_head(visit: Visit) -> None:
    """A first look at what an address holds."""
    await visit.say(f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {SIZE}\r\n\r\n".encode())
    await visit.reader.read()


@pytest.mark.fault("X-27")
@over(Way("memory", "2026"), Way("http", "2026"))
async def test_a_cancelled_transfer_closes_both_connections(connect: Connect, upstream: Upstream, front: Front) -> None:
    """What is fetched from an address in order to be sent on is let go of at both ends."""
    half, cancelled = anyio.Event(), anyio.Event()
    closed = {"GET": anyio.Event(), "PUT": anyio.Event()}

    async def giving(visit: Visit) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {SIZE}\r\n\r\n"
        await visit.say(head.encode())
        try:
            while True:
                await visit.say(b"x" * 1024)
                await anyio.sleep(0.001)
        finally:
            closed["GET"].set()

    async def taking(visit: Visit) -> None:
        await visit.take(10 * 1024)
        half.set()
        await cancelled.wait()
        with suppress(OSError):
            await visit.take(SIZE)
        closed["PUT"].set()

    front.on("GET /app/files/", saying_head, giving)
    front.on("PUT /upload/", taking)
    async with connect(INFERENCE_BASE_URL=front.url) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "file_upload", {"source": f"{front.url}/app/files/u/a/b.png"})
            await half.wait()
            group.cancel_scope.cancel()
        cancelled.set()
        await closed["GET"].wait()
        await closed["PUT"].wait()

    assert 0 == puts(upstream)
