"""What an answer says beside the matter never keeps it waiting, and what is large takes no time of others."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from inferencesh_mcp.flows import concurrency
from inferencesh_mcp.schema.describe import LONGEST_NAME
from inferencesh_mcp.tools import preview, truncate
from inferencesh_mcp.tools.truncate import PART_TOKENS, show
from tests.conftest import Connect, Upstream, Way
from tests.results import error, payload, run, text_of
from tests.support.faults import Stall
from tests.system.faults.hosts import over

pytestmark = pytest.mark.anyio
NEAR = over(Way("memory", "2025"), Way("memory", "2026"))


@NEAR
@pytest.mark.finding("B5")
async def test_no_secondary_call_delays_an_answer(
    connect: Connect, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A price, a session and a picture that never come are left out. Each would be waited for a minute otherwise."""
    monkeypatch.setattr(concurrency, "PATIENCE", 0.2)
    for path in ("/store/apps/*/estimate", "/sessions/*", "/app/files/u/*/*"):
        upstream.sandbox.faults.add(Stall(), path=path, times=-1)
    async with connect() as client:
        read = await client.call_tool("app_get", {"app": "sandbox/draw"})
        rehearsed = await run(client, "sandbox/draw", {"prompt": "x"}, dry_run=True)
        counted = await run(client, "sandbox/count", {"step": 1}, session="new")
        drawn = await run(client, "sandbox/draw", {"prompt": "x", "width": 40, "height": 30})

    assert "no estimate for this input." == payload(read)["price"] == payload(rehearsed)["output"]["price"]
    assert payload(read)["input_schema"]["properties"]
    assert ["completed"] * 2 == [payload(result)["status"] for result in (counted, drawn)]
    assert payload(counted)["session_id"]
    assert upstream.sandbox.ledger.requests("POST", "/store/apps/*/estimate")


@NEAR
@pytest.mark.finding("S14")
async def test_a_preview_is_fetched_once_per_task(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        drawn = await run(client, "sandbox/draw", {"prompt": "x", "width": 40, "height": 30})
        looked = [await client.call_tool("task_get", {"task_id": payload(drawn)["task_id"]}) for _ in range(3)]
        other = await run(client, "sandbox/draw", {"prompt": "y", "width": 40, "height": 30})

    pictures = [[part.data for part in one.content if part.type == "image"] for one in (drawn, *looked)]
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
    written = io.BytesIO()
    Image.effect_noise((900, 700), 90).convert("RGB").save(written, "PNG")
    async with connect() as client:
        file = await client.call_tool("file_upload", {"base64": base64.b64encode(written.getvalue()).decode()})
        result = await run(client, "sandbox/echo", {"image": payload(file)["uri"]})

    assert ["text", "resource_link"] == [part.type for part in result.content]


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "1", "LA", "I;16"])
def test_a_picture_of_any_kind_is_scaled_down(mode: str) -> None:
    written = io.BytesIO()
    red = Image.new("RGB", (900, 700), "red")
    (Image.new("I;16", (900, 700), 700) if mode == "I;16" else red.convert(mode)).save(written, "PNG")

    small = preview._scale(written.getvalue())

    assert small is not None
    assert (768, 597) == Image.open(io.BytesIO(small)).size


@NEAR
@pytest.mark.finding("S3")
async def test_a_misspelt_argument_is_suggested_and_a_long_one_is_not(connect: Connect) -> None:
    async with connect() as client:
        near = await client.call_tool("app_list", {"querry": "x"})
        long = await client.call_tool("app_list", {"q" * 1_000_000: "x"})

    assert "Did you mean 'query'?" in text_of(near)
    assert "It takes query, category, limit, cursor." in text_of(long)
    assert LONGEST_NAME < 1_000_000
    assert ["invalid_input"] * 2 == [error(result)["code"] for result in (near, long)]


def _wide(depth: int, width: int) -> Any:
    return 7 if not depth else [_wide(depth - 1, width)] * width


@pytest.mark.finding("S4")
@pytest.mark.parametrize(
    "value",
    [_wide(4, 20), [[number] for number in range(150_000)], {str(number): {} for number in range(150_000)}, ["x" * 10**6] * 16],
    ids=["a tree", "lists", "objects", "texts"],
)  # fmt: skip
def test_a_large_output_is_read_once_and_then_in_part(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written out once to tell its length; after that only what could be shown is looked at."""
    written: list[int] = []
    cleaned: list[int] = []
    as_json, visible = truncate.as_json, truncate.visible

    def noted(found: Any) -> str:
        text = as_json(found)
        written.append(len(text))
        return text

    def seen(text: str) -> str:
        cleaned.append(len(text))
        return visible(text)

    monkeypatch.setattr(truncate, "as_json", noted)
    monkeypatch.setattr(truncate, "visible", seen)

    show(value)

    assert sum(written) < 6 * len(as_json(value)) + 12 * 16 * PART_TOKENS, "once, and in parts"
    assert sum(cleaned) < 12 * 16 * PART_TOKENS
