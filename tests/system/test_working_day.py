"""An agent's working day, from the first upload to the last clean-up, over every way in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp_types import CallToolResult

from tests.conftest import KEY, WAYS, Connect, Upstream, Way
from tests.results import payload, run
from tests.support.pictures import picture

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fresh")]
PINNED = [Way("memory", "2026"), Way("stdio", "2025"), Way("http", "2026")]
"""Enough to meet each transport and each era; every test of pinned apps adds to it."""


@pytest.fixture
def upstream(turned_upstream: Upstream) -> Upstream:
    """An inference.sh whose idle time passes only when a test says so."""
    return turned_upstream


async def uploaded(client: Client, way: Way, path: Path) -> str:
    """By path where the server shares the disk; else by a ticket, so that the bytes pass neither model nor server."""
    if way.transport != "http":
        return str(payload(await client.call_tool("file_upload", {"source": str(path)}))["uri"])
    ticket = payload(await client.call_tool("file_upload", {"filename": path.name, "content_type": "image/png"}))
    async with httpx2.AsyncClient() as shell:
        response = await shell.put(ticket["upload_url"], content=path.read_bytes(), headers=ticket["headers"])
    assert response.is_success
    assert ticket["expires_at"]
    assert re.fullmatch(r"curl -sS --fail -X PUT -H '[^']*' --upload-file FILE '[^']*'", ticket["curl"])
    return str(ticket["uri"])


async def ran(client: Client, pinned: bool, app: str, input_: dict[str, Any]) -> CallToolResult:
    """Run an app by its own tool, or by `app_run`."""
    return await (client.call_tool(app, input_) if pinned else run(client, f"sandbox/{app}", input_))


@pytest.mark.parametrize(
    ("way", "pinned"),
    [*((way, False) for way in WAYS), *((way, True) for way in PINNED)],
    ids=str,
    indirect=["way"],
)
async def test_a_working_day(connect: Connect, upstream: Upstream, way: Way, folder: Path, pinned: bool) -> None:
    """Upload, look at it, count in a session, let it expire, run a batch with failures, save everything, tidy up.

    An app's own tool knows no sessions: those steps go through `app_run` on either way.
    """
    path = folder / "holiday.png"
    path.write_bytes(picture(120, 80))
    clock: Any = upstream.sandbox.clock
    async with connect(INFERENCE_PIN="sandbox/picture-info, sandbox/count, sandbox/fail") as client:
        uri = await uploaded(client, way, path)
        described = payload(await ran(client, pinned, "picture-info", {"image": uri}))
        assert (120, 80, "png") == tuple(described["output"][name] for name in ("width", "height", "format"))

        assert 7 == payload(await ran(client, pinned, "count", {"step": 7}))["output"]["value"]
        broken = payload(await ran(client, pinned, "fail", {"message": "no colours left"}))
        assert ("task_failed", "started") == tuple(broken["error"][name] for name in ("code", "outcome"))
        counted = [payload(await run(client, "sandbox/count", {"step": 1}, session="new", session_timeout=60))]
        session_id = counted[0]["session_id"]
        counted += [payload(await run(client, "sandbox/count", {"step": 1}, session=session_id)) for _ in range(2)]
        assert [1, 2, 3] == [outcome["output"]["value"] for outcome in counted]
        clock.advance(50)
        extended = payload(await client.call_tool("session_keepalive", {"session_id": session_id}))
        assert extended["session_expires_at"] > counted[-1]["session_expires_at"]
        clock.advance(61)
        late = await run(client, "sandbox/count", {"step": 1}, session=session_id)
        assert ("session_expired", "not_started") == tuple(payload(late)["error"][name] for name in ("code", "outcome"))

        inputs = [{"seconds": 0.01, "steps": 2, **({"fail_at": 2} if n in {3, 17} else {})} for n in range(20)]
        batch = payload(await client.call_tool("app_run_many", {"app": "sandbox/slow", "inputs": inputs}))
        assert {"completed": 18, "failed": 2} == batch["counts"]
        assert [4, 18] == [row["number"] for row in batch["results"] if "error" in row]

        if way.transport != "http":
            saved = payload(await client.call_tool("file_save", {"task_ids": [described["task_id"]], "to": "day"}))
            assert [folder / "day"] == [Path(file["path"]).parent for file in saved["files"]]
        else:
            assert "file_save" not in [tool.name for tool in (await client.list_tools()).tools]

        files = payload(await client.call_tool("file_list", {}))["files"]
        assert uri in [file["uri"] for file in files]
        for file in files:
            assert not (await client.call_tool("file_delete", {"file": file["file_id"]})).is_error
        assert [] == payload(await client.call_tool("file_list", {}))["files"]

    starts = upstream.sandbox.ledger.starts
    assert 3 + 3 + 20 == len(starts) == len({start.task_id for start in starts})
    assert not [entry for entry in upstream.sandbox.ledger.requests() if KEY in entry.path]
