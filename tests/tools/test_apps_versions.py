"""Apps pinned to an older version, against each form in which the platform has answered with a version."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inferencesh_mcp.api.retry import Operation
from inferencesh_mcp.api.transport import Key, Transport
from inferencesh_sandbox import Facts, serving
from tests.conftest import KEY, Connect, Upstream
from tests.results import error, payload, run, text_of
from tests.support.faults import Status
from tests.support.sandbox import Sandbox
from tests.system.faults.hosts import MEMORY

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.finding("D1"),
    pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str),
]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGP4z8DAwMAAAAkCAQEhBfBZAAAAAElFTkSuQmCC"
)
"""Two pixels."""
FORMS = {
    "newest": Facts(),
    "the version itself": Facts(app_version_as_app=False),
    "bare, whole run answers": Facts(versioned_answers=True, slim_run_answers=False),
}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    sandbox = Sandbox(facts=request.param)
    async with serving(sandbox) as url:
        yield Upstream(sandbox, url)


async def older(upstream: Upstream, app: str) -> str:
    """The app, pinned to a version before the current one."""
    transport, key = Transport(upstream.url), Key(KEY)
    record = await transport.call(Operation.READ, "GET", f"/apps/{app}", key)
    page = await transport.call(Operation.READ, "POST", f"/apps/{record['id']}/versions/list", key, {"limit": 5})
    await transport.aclose()
    return f"{app}@{page['items'][1]['short_id']}"


async def test_an_older_version_keeps_its_fields_and_functions(connect: Connect, upstream: Upstream) -> None:
    pinned = await older(upstream, "sandbox/count")
    async with connect() as client:
        current = payload(await client.call_tool("app_get", {"app": "sandbox/count"}))
        about = payload(await client.call_tool("app_get", {"app": pinned}))
        function = await client.call_tool("app_get", {"app": f"{pinned}:run"})
        misfit = await run(client, pinned, {"step": "many"}, dry_run=True)
        result = await run(client, pinned, {"step": 2})

    assert about["input_schema"]["properties"] == current["input_schema"]["properties"] != {}
    assert about.get("functions") == current.get("functions")
    assert not function.is_error
    assert error(misfit)["code"] == "invalid_input"
    assert payload(result)["status"] == "completed"


async def test_a_file_in_the_input_of_an_older_version_is_uploaded(
    connect: Connect, upstream: Upstream, folder: Path
) -> None:
    pinned = await older(upstream, "sandbox/picture-info")
    (folder / "dot.png").write_bytes(PNG)
    async with connect() as client:
        result = await run(client, pinned, {"image": str(folder / "dot.png")})

    assert payload(result)["status"] == "completed", text_of(result)
    assert (payload(result)["output"]["width"], payload(result)["output"]["format"]) == (2, "png")


async def test_a_tool_pinned_to_an_older_version_has_its_fields(connect: Connect, upstream: Upstream) -> None:
    pinned = await older(upstream, "sandbox/count")
    async with connect(INFERENCE_PIN=f"hits={pinned}") as client:
        (tool,) = [tool for tool in (await client.list_tools()).tools if tool.name == "hits"]
        result = await client.call_tool("hits", {"step": 2})

    assert "step" in tool.input_schema["properties"]
    assert payload(result)["status"] == "completed"


async def test_an_app_answered_without_its_version_is_completed_from_the_list(
    connect: Connect, upstream: Upstream
) -> None:
    """An app's card alone is no version: read as one it would lose every field without a word."""
    pinned = await older(upstream, "sandbox/count")
    card = {"id": "x", "namespace": "sandbox", "name": "count", "version_id": "y"}
    upstream.sandbox.faults.add(
        Status(code=200, headers={"content-type": "application/json"}, body=json.dumps({"data": card})),
        method="GET",
        path="/apps/*/versions/*",
    )
    async with connect() as client:
        about = payload(await client.call_tool("app_get", {"app": pinned}))

    assert "step" in about["input_schema"]["properties"]
