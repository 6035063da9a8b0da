"""A file's bytes on their way in: the same however they arrive, all of them or none, and not for ever."""

import anyio
import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api import http_client
from inferencesh_mcp.api.models import File
from inferencesh_mcp.api.transport import Transport
from tests.api.conftest import BROKEN, fin, refused, rst, status

pytestmark = pytest.mark.anyio

BYTES = bytes(range(256)) * 4096  # a mebibyte: more than one read
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BYTES)
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def sent(*pieces, end=None):
    """Pieces that arrive one by one, then the connection's end."""

    async def play(stream):
        for piece in pieces:
            await stream.send(piece)
            await anyio.wait_all_tasks_blocked()  # whoever reads has read it
        return await end(stream) if end else False

    return play


@pytest.mark.parametrize(
    "play",
    [
        sent(HEAD + BYTES),
        sent(HEAD, BYTES),
        sent(HEAD + BYTES[:1], BYTES[1:2], BYTES[2:300_000], BYTES[300_000:]),
        sent(HEAD[:20], HEAD[20:] + BYTES[:-1], BYTES[-1:]),
        sent(HEAD + BYTES[:5], BYTES[5:] + b"surplus"),
        sent(HEAD + BYTES + b"surplus", end=rst()),
        sent(CHUNKED + b"%x\r\n" % len(BYTES) + BYTES[:7], BYTES[7:] + b"\r\n0\r\n\r\n"),
        sent(b"HTTP/1.1 200 OK\r\n\r\n" + BYTES[:9], BYTES[9:]),
    ],
    ids=["at once", "head first", "pieces", "split head", "surplus", "reset", "chunked", "till the end"],
)
async def test_a_file_is_the_same_however_it_arrives(api, upstream, script, play):
    """Byte by byte; what comes after its length is not of it."""
    script.on("GET", "/f", play)

    async with api.download(f"{upstream}/f") as download:
        assert BYTES == b"".join([chunk async for chunk in download.chunks])


async def test_an_empty_file_is_a_file(api, upstream, script):
    """Of no bytes."""
    script.on("GET", "/f", sent(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))

    async with api.download(f"{upstream}/f") as download:
        assert [] == [chunk async for chunk in download.chunks]


@pytest.mark.parametrize("end", [None, rst()], ids=["fin", "rst"])
@pytest.mark.parametrize("pieces", [[HEAD + BYTES[:9]], [HEAD + BYTES[:9], BYTES[9:-1]]], ids=["early", "late"])
async def test_a_download_that_breaks_off_is_an_error(api, upstream, script, pieces, end):
    """In its first bytes and in its last."""
    script.on("GET", "/f", sent(*pieces, end=end))

    with pytest.raises(errors.Unavailable):
        async with api.download(f"{upstream}/f") as download:
            [chunk async for chunk in download.chunks]


async def test_a_download_that_stalls_times_out(api, upstream, script, monkeypatch):
    """X-18: a connection that says nothing, after the first bytes came."""
    monkeypatch.setattr(http_client, "READ_SECONDS", 0.1)
    script.on("GET", "/f", sent(HEAD + BYTES[:9], end=lambda _: anyio.sleep(5)))

    with pytest.raises(errors.TimedOut):
        async with api.download(f"{upstream}/f") as download:
            [chunk async for chunk in download.chunks]


async def test_a_download_that_drips_times_out_after_an_hour(api, upstream, script, time):
    """T-16: every byte comes in time, and the file never."""

    async def drip(stream):
        await stream.send(HEAD)
        while True:
            await stream.send(b"x")
            await anyio.sleep(0.01)

    script.on("GET", "/f", drip)
    async with api.download(f"{upstream}/f") as download:
        await anext(download.chunks)
        time.now += 3599
        await anext(download.chunks)
        time.now += 2

        with pytest.raises(errors.TimedOut, match="60 minutes"):
            await anext(download.chunks)


@pytest.mark.finding("B14")
async def test_a_declared_size_over_the_limit_is_refused_before_the_first_byte(api, upstream, script):
    """Not after half a gigabyte of it."""
    script.on("GET", "/f", sent(b"HTTP/1.1 200 OK\r\ncontent-length: 536870913\r\n\r\n"))

    with pytest.raises(errors.FileRefused, match="larger than 512 MiB"):
        async with api.download(f"{upstream}/f"):
            pytest.fail("the file was begun")


@pytest.mark.finding("B14")
async def test_the_next_address_is_tried_if_one_cannot_be_reached(api, upstream, script, monkeypatch):
    """A name with an IPv6 address where nobody listens, and an IPv4 address where somebody does: down, and up."""
    port = int(upstream.rpartition(":")[2])

    async def resolve(host, _port):
        assert "localhost" == host
        return [(10, 1, 6, "", ("::1", port, 0, 0)), (2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    script.on("GET", "/f", sent(HEAD + BYTES))
    script.on("PUT", "/f", status(200))
    there = f"http://localhost:{port}/f"

    async with api.download(there) as download:
        assert BYTES == b"".join([chunk async for chunk in download.chunks])
    await api.put_file(File(uri="x", upload_url=there), once_of(BYTES), len(BYTES))

    assert [("GET", b""), ("PUT", BYTES)] == [(request.method, request.body) for request in script.requests]


def once_of(content):
    async def chunks():
        yield content

    return chunks


async def test_an_upload_ends_at_its_deadline_too(upstream, time):
    """However slowly its bytes are taken."""

    async def drip():
        while True:
            yield b"x"
            await anyio.sleep(0.01)

    ticks = iter([0.0, 3599.9])
    transport = Transport(upstream, sleep=time.sleep, clock=lambda: next(ticks, 3600.0))

    with anyio.fail_after(10):
        sending = transport.files.put(f"{upstream}/up", drip, size=10**6, content_type="text/plain", account="")
        await refused(sending, errors.TimedOut)
    await transport.aclose()


@pytest.mark.parametrize("end", [fin(BROKEN), rst(b"HTTP/1.1 200 OK\r\n\r\n{}")], ids=["a broken chunk", "a reset"])
async def test_a_file_that_ends_in_an_error_is_an_error(transport, upstream, script, end):
    """Whether or not its length was told (X-28)."""
    script.on("GET", "/file", end)

    with anyio.fail_after(5), pytest.raises(errors.Unavailable):
        async with transport.files.download(f"{upstream}/file", "") as download:
            _ = [chunk async for chunk in download.chunks]
