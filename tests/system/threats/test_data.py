"""Bytes inside a message: threat T-20, and the limits of what they may hold (T-15 is row X-19)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from inferencesh_mcp.flows import file_sources
from tests.conftest import Connect, Upstream, Way
from tests.results import error, payload
from tests.system.faults.hosts import over

pytestmark = pytest.mark.anyio
PNG = b"\x89PNG\r\n\x1a\n" + b"." * 20
LARGEST = 64 * 1024


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


TAKEN: dict[str, tuple[bytes, str]] = {
    f"data:image/png;base64,{b64(PNG)}": (PNG, "image/png"),
    f"DATA:image/png;base64,{b64(PNG)}": (PNG, "image/png"),
    f"data:;base64,{b64(PNG)}": (PNG, "image/png"),
    f"data:image/png;base64,{b64(PNG).replace('=', '%3D')}": (PNG, "image/png"),
    "data:text/plain;charset=utf-8;base64,aGk=": (b"hi", "text/plain"),
    "data:,hello%20world": (b"hello world", "text/plain"),
    "data:text/plain,%": (b"%", "text/plain"),
    "data:text/plain,%zz%C3%BC": ("%zzü".encode(), "text/plain"),
    "data:text/plain,ü": ("ü".encode(), "text/plain"),
    "data:image/png,data:image/png;base64,AAAA": (b"data:image/png;base64,AAAA", "image/png"),
    "data:,/etc/passwd": (b"/etc/passwd", "text/plain"),
    "data:,": (b"", "text/plain"),
    "data:image/png;base64,": (b"", "image/png"),
    "data:image/png;base64,AAA": (bytes(2), "image/png"),
    "data:image/png;base64,AA AA": (bytes(3), "image/png"),
    "data:image/png;base64,AA\nAA": (bytes(3), "image/png"),
    "data:image/png;base64,AA%0D%0AAA": (bytes(3), "image/png"),
    "data:image/png;base64,AA-_": (b"\x00\x0f\xbf", "image/png"),
}

REFUSED = [
    "data:", "data:image/png;base64", "data:image/png;base64;AAAA", "data:image", "data:image/png;base64,AAB", "data:image/png;base64,A===",
    "data:image/png;base64,AAAA=AAA",
    "data:image/png;base64,ÄÄÄÄ", "data:image/png;base64,data:image/png;base64,AAAA", "data:image/png;base64,<html>", "data:image/pn g;base64,AAAA",
    "data:image/png\r\nx-y: z;base64,AAAA", "data:ímage/png;base64,AAAA", 'data:image/png;charset="a,b";base64,AAAA', "data:text/html/x,y",
    "data:" + ";a=b" * 500 + ",x", "data:" + "a" * 2000 + "/b,x", "data:image/png;base64;base64,AAAA", "data:/,x", "data:image/,x",
    "data:message/rfc822,From:%20a", "data:multipart/form-data;boundary=x;base64,AAAA", "data:Multipart/Mixed,x", "data:x-any/thing,x",
]  # fmt: skip


async def test_the_bytes_of_a_data_uri_are_uploaded_unchanged(connect: Connect, upstream: Upstream) -> None:
    """Base64 and percent-encoding are undone once and never again: a data URI inside one is just text."""
    async with connect() as client:
        uploaded = {uri: payload(await client.call_tool("file_upload", {"source": uri})) for uri in TAKEN}

    for uri, (content, kind) in TAKEN.items():
        file = upstream.sandbox.store.by_uri(uploaded[uri]["uri"])
        assert file is not None
        assert (content, kind, len(content)) == (b"".join(file.pieces()), file.content_type, uploaded[uri]["bytes"]), (
            uri
        )


async def test_an_invalid_data_uri_is_refused(connect: Connect, upstream: Upstream) -> None:
    """As a source and as an app's input: a typed answer, and nothing is sent."""
    async with connect() as client:
        for uri in REFUSED:
            alone = await client.call_tool("file_upload", {"source": uri})
            arguments = {"app": "sandbox/picture-info", "input": {"image": uri}}
            ran = await client.call_tool("app_run", arguments)
            assert ["invalid_input"] * 2 == [error(alone)["code"], error(ran)["code"]], uri
            assert "not_started" == error(ran)["outcome"]

    assert not upstream.sandbox.ledger.requests("POST", "/files")
    assert () == upstream.sandbox.ledger.starts


@over(Way("memory", "2025"), Way("memory", "2026"))
@pytest.mark.parametrize("beyond", [0, 1], ids=["the most", "one more"])
async def test_more_than_eight_mebibytes_in_a_message_are_refused(
    connect: Connect, upstream: Upstream, beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted before anything is decoded where base64 tells it, and after where only decoding does."""
    assert 8 * 1024 * 1024 == file_sources.MAX_DATA_BYTES
    monkeypatch.setattr(file_sources, "MAX_DATA_BYTES", LARGEST)  # the same edge, with less to carry
    size = LARGEST + beyond
    arguments: list[dict[str, Any]] = [
        {"base64": b64(bytes(size))},
        {"source": f"data:application/octet-stream;base64,{b64(bytes(size))}"},
        {"source": "data:," + "x" * size},
        {"source": "data:," + "%78" * size},
    ]
    async with connect() as client:
        results = [await client.call_tool("file_upload", argument) for argument in arguments]

    if beyond:
        assert ["file_refused"] * 4 == [error(result)["code"] for result in results]
        assert () == upstream.sandbox.ledger.requests()
    else:
        assert [size] * 4 == [payload(result)["bytes"] for result in results]


async def test_an_invalid_content_type_is_refused(connect: Connect, upstream: Upstream) -> None:
    """It becomes a header, and part of a command line: line breaks, quotes and other alphabets have no place in it."""
    wrong = [
        "image",
        "/",
        "image/",
        "a/b/c",
        "image/png\r\nx: y",
        "image/png'",
        "ímage/png",
        "image/png; a",
        " image/png",
        "x" * 200 + "/y",
    ]
    async with connect() as client:
        for kind in wrong:
            for arguments in ({"base64": "AAAA"}, {"source": "data:,x"}, {}):
                result = await client.call_tool("file_upload", {"content_type": kind, **arguments})
                assert "invalid_input" == error(result)["code"], (kind, arguments)
        fine = await client.call_tool("file_upload", {"content_type": "text/plain; charset=utf-8", "source": "data:,x"})

    assert "text/plain; charset=utf-8" == payload(fine)["content_type"]
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/files"))


async def test_source_and_base64_together_are_refused(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        both = await client.call_tool("file_upload", {"source": "data:,x", "base64": "AAAA"})

    assert ("invalid_input", "not_started") == (error(both)["code"], error(both)["outcome"])
    assert () == upstream.sandbox.ledger.requests()
