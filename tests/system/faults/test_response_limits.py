"""Answers that are too much, too slow or packed: rows X-18, X-19 and X-20."""

from __future__ import annotations

import zlib
from itertools import product
from pathlib import Path
from typing import Any

import anyio
import pytest

from inferencesh_mcp.api import responses, retry
from tests.conftest import Upstream, Way, until
from tests.results import error, payload
from tests.support.faults import Stall, Status
from tests.system.faults.front import Front, Visit
from tests.system.faults.hosts import HTTP, NEAR, PIPE, STDIO, Host, Hosted, over
from tests.system.faults.process_usage import growth, linux, server_of_mine
from tests.system.faults.rows import many

pytestmark = pytest.mark.anyio
CHUNKED = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
MIB = 1024 * 1024


def endless(code: int, piece: bytes, every: float = 0.0) -> Any:
    """An answer whose body does not end."""

    async def play(visit: Visit) -> None:
        await visit.say(CHUNKED % code)
        while True:
            await visit.say(b"%x\r\n%s\r\n" % (len(piece), piece))
            await anyio.sleep(every)

    return play


async def fetched(my: Host, way: Way, platform: str) -> Any:
    """Have a file read: to be kept, or by a server that listens, which has no disk, to be sent on."""
    address = f"{platform}/app/files/u/a/b.txt"
    return await (my.call("file_upload", source=address) if way == HTTP else my.call("file_save", uris=[address]))


@pytest.mark.fault("X-18")
@over(*NEAR)
async def test_a_response_that_drips_ends_at_the_time_limit(
    host: Hosted, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, the whole never does: one limit holds for the call, its repetitions included."""
    monkeypatch.setattr(retry, "CALL_SECONDS", 0.5)
    front.on("GET /tasks/", *[endless(200, b" ", 0.01)] * 3)
    async with host(INFERENCE_BASE_URL=front.url) as my:
        result = await my.call("task_get", task_id="abc")

    assert "timed_out" == error(result)["code"]


@pytest.mark.fault("X-18")
async def test_an_endless_error_body_is_still_an_error(host: Hosted, front: Front) -> None:
    """Its status is answer enough: no more of its body is read than 64 KiB."""
    front.on("GET /tasks/", endless(404, b"x" * 8000))
    front.on("DELETE /sessions/", endless(409, b"x" * 8000))
    async with host(INFERENCE_BASE_URL=front.url) as my:
        codes = [error(await my.call("session_end", session_id="abc"))["code"],
                 error(await my.call("task_get", task_id="abc"))["code"]]  # fmt: skip

    assert ["conflict", "not_found"] == codes


@pytest.mark.fault("X-18")
@over(*NEAR)
async def test_an_error_body_that_drips_is_still_an_error(
    host: Hosted, front: Front, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not listened to for longer than five seconds; of a file's address no more than of a call."""
    monkeypatch.setattr(responses, "ERROR_BODY_SECONDS", 0.2)
    front.on("GET /tasks/", endless(404, b"x", 0.01))
    front.on("GET /app/files/", endless(404, b"x", 0.01))
    front.on("PUT /upload/", endless(404, b"x", 0.01))
    async with host(INFERENCE_BASE_URL=front.url) as my:
        results = [
            await my.call("task_get", task_id="abc"),
            await fetched(my, way, front.url),
            await my.call("file_upload", source="data:,x"),
        ]

    assert ["not_found", "file_refused" if way == HTTP else "not_found", "not_found"] == [
        error(result)["code"] for result in results
    ]


@pytest.mark.fault("X-40")
@over(*NEAR)
async def test_every_call_gives_up_on_a_platform_that_never_answers(
    host: Hosted, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of calls at once: each ends in time, and what they held is let go of."""
    calls = many(500, 100)
    monkeypatch.setattr(retry, "CALL_SECONDS", 1.0)
    async with host(INFERENCE_MAX_STREAMS=str(calls + 1)) as my:
        upstream.sandbox.faults.add(Stall(), path="/tasks/*", times=-1)
        results: list[Any] = []

        async def ask() -> None:
            results.append(await my.call("task_get", task_id="abc"))

        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(ask)
        upstream.sandbox.faults.clear()
        await _works(my)

    assert [calls, {"timed_out"}] == [len(results), {error(result)["code"] for result in results}]


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Some ninety kilobytes that hold 96 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(96)) + packer.flush()


def packed(bomb: bytes, **more: str) -> Status:
    return Status(code=200, body=bomb, headers={"content-encoding": "gzip", "content-type": "application/json"} | more)


@pytest.mark.fault("X-19")
@linux
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("way", "encoding"),
    [*product((PIPE, STDIO[0]), ("gzip", "identity, gzip")), (HTTP, "GZip"), (HTTP, "br")],
    ids=str,
)
async def test_a_compressed_response_is_refused(
    host: Hosted, upstream: Upstream, folder: Path, bomb: bytes, way: Way, encoding: str
) -> None:
    """On a call, on a stream and on a download; a few kilobytes never become a hundred megabytes here (T-15)."""
    faults = upstream.sandbox.faults
    async with host() as my:
        await my.run("echo", {"n": 0})
        with growth(server_of_mine() if way.transport == "stdio" else None) as grown:
            faults.add(packed(bomb, **{"content-encoding": encoding}), path="/tasks/abc")
            call = await my.call("task_get", task_id="abc")
            faults.add(packed(bomb, **{"content-encoding": encoding}), path="/tasks/*/stream")
            ran = await my.run("echo", {"n": 1})
            faults.add(packed(bomb, **{"content-encoding": encoding}), path="/app/files/**")
            saved = await fetched(my, way, upstream.url)
            faults.add(packed(bomb, **{"content-encoding": encoding}), path="/app/files/**", times=-1)
            uploaded = await my.call("file_upload", source=f"{upstream.url}/app/files/u/a/b.txt")

    assert "upstream_error" == error(call)["code"]
    assert {"n": 1} == payload(ran)["output"], "the stream fails, and the task is read instead"
    assert ["file_refused" if way == HTTP else "upstream_error", "file_refused"] == [
        error(saved)["code"],
        error(uploaded)["code"],
    ]
    assert [] == list(folder.iterdir())
    assert not upstream.sandbox.ledger.requests("PUT")
    assert grown.bytes < 32 * MIB


HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(2000)) + b"\r\n{}"
ONE_LINE = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2 * MIB + b"\r\n\r\n{}"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1000


@pytest.mark.fault("X-20")
@linux
@pytest.mark.usefixtures("fresh")
@over(*NEAR, STDIO[1])
@pytest.mark.parametrize("raw", [HEADERS, ONE_LINE, INTERIM], ids=["2000 headers", "2 MB header", "1000 interim"])
async def test_endless_response_headers_are_cut_off(
    host: Hosted, front: Front, way: Way, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is dropped, not only left; nothing of it is shown, and the next call works."""
    if raw is INTERIM:
        if way.transport == "stdio":
            pytest.skip("the limit of 60 seconds is shortened here")
        monkeypatch.setattr(retry, "CALL_SECONDS", 0.5)
    closed: list[Visit] = []

    async def play(visit: Visit) -> None:
        try:
            await visit.say(raw)
            await visit.reader.read()
        finally:
            closed.append(visit)

    front.on("GET /tasks/", *[play] * 3)
    front.on("GET /app/files/", *[play] * 3)
    async with host(INFERENCE_BASE_URL=front.url) as my:
        with growth(server_of_mine() if way.transport == "stdio" else None) as grown:
            result = await my.call("task_get", task_id="abc")
            if raw is not INTERIM:
                saved = await fetched(my, way, front.url)
                assert ("file_refused" if way == HTTP else "unavailable") == error(saved)["code"]
        await until(lambda: len(closed) == len(front.visits))
        front.script.clear()
        await _works(my)

    assert error(result)["code"] == ("timed_out" if raw is INTERIM else "unavailable")
    assert "yyy" not in result.model_dump_json()
    assert grown.bytes < 16 * MIB


async def _works(my: Host) -> None:
    assert {"n": 1} == payload(await my.run("echo", {"n": 1}))["output"]
