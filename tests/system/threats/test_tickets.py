"""The upload ticket: a host with a shell sends the bytes itself, and the model never sees them."""

from __future__ import annotations

import re
import shlex
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx2
import pytest

from inferencesh_mcp.flows.upload import expiry
from inferencesh_sandbox.apps import png
from tests.conftest import KEY, Connect, Upstream
from tests.results import error, payload, text_of
from tests.support.faults import Status

pytestmark = pytest.mark.anyio
PICTURE = png.encode(png.Raster(3, 2, (b"\x00\x80\xff" * 3,) * 2))


async def upload(curl: str, path: Path) -> int:
    """Run the line as a person would, or do what it says where there is no curl; return 0 when it went well."""
    words = [str(path) if word == "FILE" else word for word in shlex.split(curl)]
    if shutil.which("curl"):
        return (await anyio.run_process(words, check=False)).returncode
    kind = words[words.index("-H") + 1].partition(": ")[2]
    async with httpx2.AsyncClient() as http:
        answer = await http.put(words[-1], content=path.read_bytes(), headers={"content-type": kind})
    return 0 if answer.is_success else 22


async def test_a_tickets_curl_command_uploads_the_file(connect: Connect, upstream: Upstream, tmp_path: Path) -> None:
    """Over HTTP too, where the server can see no disk: what it could not read comes in through the ticket."""
    path = tmp_path / "it's a picture.png"
    path.write_bytes(PICTURE)
    async with connect() as client:
        result = await client.call_tool("file_upload", {"filename": "picture.png"})
        ticket = payload(result)
        assert 0 == await upload(ticket["curl"], path)
        described = await client.call_tool(
            "app_run", {"app": "sandbox/picture-info", "input": {"image": ticket["uri"]}}
        )

    assert ("PUT", {"Content-Type": "image/png"}) == (ticket["method"], ticket["headers"])
    assert ticket["curl"] in text_of(result)
    assert ticket["curl_windows"] in text_of(result)
    assert ticket["uri"] in text_of(result)
    assert (3, 2, len(PICTURE)) == tuple(payload(described)["output"][name] for name in ("width", "height", "bytes"))
    assert {""} == {request.caller for request in upstream.sandbox.ledger.requests("PUT")}
    assert KEY not in result.model_dump_json()


async def test_a_tickets_command_for_windows_has_the_same_words(connect: Connect) -> None:
    """As programs of Windows split them: only double quotes quote. In them cmd and PowerShell leave the address alone."""
    async with connect() as client:
        ticket = payload(await client.call_tool("file_upload", {"filename": "picture.png"}))

    words = re.findall(r'"([^"]*)"|(\S+)', ticket["curl_windows"])
    assert ["curl.exe", *shlex.split(ticket["curl"])[1:]] == [quoted or bare for quoted, bare in words]
    assert not set("`$\"'") & set(ticket["upload_url"])


async def test_a_ticket_says_when_it_expires(connect: Connect) -> None:
    async with connect() as client:
        result = await client.call_tool("file_upload", {"filename": "a.txt"})

    until = datetime.fromisoformat(payload(result)["expires_at"])
    assert timedelta(minutes=10) < until - datetime.now(UTC) <= timedelta(minutes=15)
    assert f"The address expires {until:%Y-%m-%d %H:%M:%S} UTC; keep it to yourself." in text_of(result)


async def test_the_record_says_who_may_read_the_file(connect: Connect, upstream: Upstream) -> None:
    """By ticket, by source and by bytes."""
    async with connect() as client:
        file_ids = [
            payload(await client.call_tool("file_upload", {"public": public, **more}))["file_id"]
            for public in (True, False)
            for more in ({"filename": "a.txt"}, {"source": "data:,x"}, {"base64": "AAAA"})
        ]

    files = [upstream.sandbox.store.any(file_id) for file_id in file_ids]
    assert [True] * 3 + [False] * 3 == [file.public for file in files if file]


async def test_an_unused_ticket_is_not_a_file(connect: Connect) -> None:
    """Its uri leads nowhere, which a run with it says."""
    async with connect() as client:
        ticket = payload(await client.call_tool("file_upload", {"filename": "a.png"}))
        ran = await client.call_tool("app_run", {"app": "sandbox/picture-info", "input": {"image": ticket["uri"]}})

    assert "task_failed" == error(ran)["code"]


async def test_without_a_file_record_there_is_no_ticket(connect: Connect, upstream: Upstream) -> None:
    upstream.sandbox.faults.add(Status(code=402, error="limit_exceeded"), path="/files")
    async with connect() as client:
        result = await client.call_tool("file_upload", {"filename": "a.png"})

    assert "payment_required" == error(result)["code"]


ENDS = {
    "https://s3.example/x?X-Amz-Date=20260102T030405Z&X-Amz-Expires=900": datetime(2026, 1, 2, 3, 19, 5, tzinfo=UTC),
    "https://gcs.example/x?Expires=1767323045&Signature=a": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "https://s3.example/x?X-Amz-Date=yesterday&X-Amz-Expires=900": None,
    "https://s3.example/x?X-Amz-Date=20260102T030405Z": None,
    "https://s3.example/x?X-Amz-Date=20260102T030405Z&X-Amz-Expires=" + "9" * 30: None,
    "https://x/?expires=" + "9" * 5000: None,
    "https://x/?expires=" + "9" * 30: None,
    "https://x/?expires=soon": None,
    "https://x/": None,
    "https://[": None,
}


@pytest.mark.parametrize(("url", "end"), ENDS.items(), ids=range(len(ENDS)))
def test_the_expiry_is_read_from_the_upload_url(url: str, end: datetime | None) -> None:
    """S3's way and the others'; what cannot be read is not known."""
    assert end == expiry(url)
