"""Files in and out, as a host sees it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from inferencesh_mcp.sandbox.faults import Drip
from tests.calls import run, text_of, told
from tests.conftest import LOCAL, Connect, Upstream

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_bytes_are_the_progress_of_a_file(connect: Connect, upstream: Upstream) -> None:
    """Of as many as the file has, where that is known."""
    heard: list[tuple[float, float | None, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message or ""))

    async with connect() as client:
        file = told(await client.call_tool("file_upload", {"base64": base64.b64encode(bytes(40_000)).decode()}))
        upstream.sandbox.faults.add(Drip(size=2_000, every=0.1), method="GET", path="/app/files/**")
        result = await client.call_tool("file_save", {"uri": file["uri"]}, progress_callback=hear)

    numbers = [progress for progress, _, _ in heard]
    assert 40_000 == told(result)["files"][0]["bytes"]
    assert sorted(set(numbers)) == numbers
    assert 40_000 == heard[-1][1] >= heard[-1][0] > 2_000
    assert "saving" in heard[-1][2]


async def test_bytes_come_in_as_base64(connect: Connect) -> None:
    """Their type is told, or read off their first bytes."""
    async with connect() as client:
        told_type = told(await client.call_tool("file_upload", {"base64": "aGVsbG8=", "content_type": "text/plain"}))
        png = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
        read_type = told(await client.call_tool("file_upload", {"base64": png, "filename": "a.png"}))
        broken = await client.call_tool("file_upload", {"base64": "%%%"})
        both = await client.call_tool("file_upload", {"base64": "aGVsbG8=", "source": "data:,x"})

    assert ("text/plain", 5) == (told_type["content_type"], told_type["bytes"])
    assert ("image/png", "a.png") == (read_type["content_type"], read_type["filename"])
    assert "base64 is broken" in text_of(broken)
    assert "not both" in text_of(both)


async def test_a_public_file_is_recorded_as_one(connect: Connect) -> None:
    async with connect() as client:
        file = await client.call_tool("file_upload", {"source": "data:text/plain,hello", "public": True})
        listed = told(await client.call_tool("file_list", {}))["files"]

    assert told(file)["uri"] in [one["uri"] for one in listed]


async def test_a_file_is_deleted_by_its_uri_or_its_id(connect: Connect) -> None:
    async with connect() as client:
        first = told(await client.call_tool("file_upload", {"source": "data:text/plain,a"}))
        second = told(await client.call_tool("file_upload", {"source": "data:text/plain,b"}))
        await client.call_tool("file_delete", {"file": first["uri"]})
        await client.call_tool("file_delete", {"file": second["file_id"]})
        gone = await client.call_tool("file_delete", {"file": "https://elsewhere.example/x.png"})
        listed = told(await client.call_tool("file_list", {}))

    assert [] == listed["files"]
    assert "not_found" == told(gone)["error"]["code"]


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_everything_a_task_made_is_saved_and_nothing_overwritten(connect: Connect, folder: Path) -> None:
    async with connect() as client:
        made = told(await run(client, "sandbox/outputs", {"which": "nested"}))
        first = told(await client.call_tool("file_save", {"task_id": made["task_id"]}))["files"]
        second = told(await client.call_tool("file_save", {"task_id": made["task_id"]}))["files"]
        numbers = told(await run(client, "sandbox/outputs", {"which": "numbers"}))
        text = told(await client.call_tool("file_save", {"task_id": numbers["task_id"]}))["files"]

    assert len(made["files"]) == len([file for file in first if file["url"]])
    assert all(Path(file["path"]).read_bytes() for file in first)
    assert not {file["path"] for file in first} & {file["path"] for file in second}
    assert [folder / f"{numbers['task_id']}-output.json"] == [Path(file["path"]) for file in text]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "no half-written file is left"
