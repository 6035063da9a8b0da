"""Pictures in an answer: small ones are shown, large ones scaled, and none is decoded at any cost."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import pytest
from PIL import Image

from inferencesh_mcp.tools import preview
from tests.conftest import Connect, Upstream
from tests.results import payload, run
from tests.system.faults.hosts import HTTP, MEMORY, over

pytestmark = pytest.mark.anyio
NEAR = over(*MEMORY)


@over(*MEMORY, HTTP)
async def test_a_small_picture_is_shown_unless_inline_media_is_never(connect: Connect) -> None:
    async with connect() as client:
        drawn = await run(client, "sandbox/draw", {"prompt": "x", "width": 40, "height": 30})
    async with connect(INFERENCE_INLINE_MEDIA="never") as client:
        hidden = await run(client, "sandbox/draw", {"prompt": "x", "width": 40, "height": 30})

    assert ["text", "resource_link", "image"] == [part.type for part in drawn.content]
    assert ["text", "resource_link"] == [part.type for part in hidden.content]


@NEAR
async def test_a_large_picture_is_scaled(connect: Connect) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((900, 700), 90).convert("RGB").save(buffer, "PNG")
    async with connect() as client:
        file = await client.call_tool("file_upload", {"base64": base64.b64encode(buffer.getvalue()).decode()})
        result = await run(client, "sandbox/echo", {"image": payload(file)["uri"]})

    (shown,) = [part for part in result.content if part.type == "image"]
    assert len(buffer.getvalue()) > 100_000 >= len(shown.data) * 3 / 4
    assert max(Image.open(io.BytesIO(base64.b64decode(shown.data))).size) <= 768


@NEAR
async def test_a_decompression_bomb_is_not_decoded(connect: Connect) -> None:
    """Pillow's own refusal of it is none of the errors that unreadable pictures make."""
    head, pixels = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b"IDAT" + bytes(200_000)
    chunks = [struct.pack(">I", len(item) - 4) + item + struct.pack(">I", zlib.crc32(item)) for item in (head, pixels)]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    async with connect() as client:
        file = await client.call_tool(
            "file_upload", {"base64": base64.b64encode(bomb).decode(), "filename": "bomb.png"}
        )
        result = await run(client, "sandbox/echo", {"image": payload(file)["uri"]})

    assert ["text", "resource_link"] == [part.type for part in result.content]
    assert "completed" == payload(result)["status"]


@NEAR
@pytest.mark.finding("S14")
async def test_a_preview_is_fetched_once_per_task(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        drawn = await run(client, "sandbox/draw", {"prompt": "x", "width": 40, "height": 30})
        reread = [await client.call_tool("task_get", {"task_id": payload(drawn)["task_id"]}) for _ in range(3)]
        other = await run(client, "sandbox/draw", {"prompt": "y", "width": 40, "height": 30})

    pictures = [[part.data for part in item.content if part.type == "image"] for item in (drawn, *reread)]
    assert 1 == len(pictures[0])
    assert [pictures[0]] * 4 == pictures
    assert 2 == len(upstream.sandbox.ledger.requests("GET", "/app/files/u/*/*")), "one for each picture"
    assert [part for part in other.content if part.type == "image"]


@NEAR
@pytest.mark.finding("S14")
async def test_a_picture_of_many_pixels_is_linked_and_not_decoded(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "MAX_PIXELS", 899 * 700)
    buffer = io.BytesIO()
    Image.effect_noise((900, 700), 90).convert("RGB").save(buffer, "PNG")
    async with connect() as client:
        file = await client.call_tool("file_upload", {"base64": base64.b64encode(buffer.getvalue()).decode()})
        result = await run(client, "sandbox/echo", {"image": payload(file)["uri"]})

    assert ["text", "resource_link"] == [part.type for part in result.content]


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "1", "LA", "I;16"])
def test_a_picture_of_any_kind_is_scaled_down(mode: str) -> None:
    buffer = io.BytesIO()
    red = Image.new("RGB", (900, 700), "red")
    (Image.new("I;16", (900, 700), 700) if mode == "I;16" else red.convert(mode)).save(buffer, "PNG")

    small = preview._scale(buffer.getvalue())

    assert small is not None
    assert (768, 597) == Image.open(io.BytesIO(small)).size
