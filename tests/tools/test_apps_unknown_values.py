"""Words of the platform that are newer than the server: kinds of functions, categories, states."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferencesh_mcp.api.chat_models import Chat
from inferencesh_mcp.api.models import App, Session, Task
from inferencesh_mcp.api.wire import parsed
from tests.conftest import Connect, Upstream
from tests.results import error, payload, run, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import MEMORY

pytestmark = pytest.mark.anyio
LIVE = "sandbox/stream-text:live"
near = pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)


@near
async def test_a_live_function_is_refused_before_the_start(connect: Connect, upstream: Upstream) -> None:
    """Its task would wait, and cost, for a WebSocket that no tool opens."""
    input_ = {"text": "a b"}
    async with connect(INFERENCE_PIN=f"talk={LIVE}, words=sandbox/stream-text") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        about = await client.call_tool("app_get", {"app": "sandbox/stream-text"})
        refused = await run(client, LIVE, input_)
        rehearsed = await run(client, "sandbox/stream-text", input_, function="live", dry_run=True)
        batch = await client.call_tool("app_run_many", {"app": LIVE, "inputs": [input_]})
        usual = await run(client, "sandbox/stream-text", input_)

    assert ("words" in names, "talk" in names) == (True, False)
    assert ["live"] == [function["name"] for function in payload(about)["functions"] if "live" in function]
    assert "- live (a live WebSocket, which no tool can run)" in text_of(about)
    assert ("invalid_input", "not_started") == (error(refused)["code"], error(refused)["outcome"])
    assert "Functions that can be run: run." == error(refused)["next"]
    for item in (refused, rehearsed, batch):
        assert "'live' is a live stream over a WebSocket" in text_of(item)
    assert payload(usual)["status"] == "completed"
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/apps/run"))


@near
@pytest.mark.finding("D10")
async def test_an_app_of_an_unknown_category_is_shown(connect: Connect, upstream: Upstream) -> None:
    item = {"namespace": "a", "name": "b", "category": "hologram", "status": "resting", "description": "x"}
    upstream.sandbox.faults.add(
        Status(code=200, headers={"content-type": "application/json"}, body=json.dumps({"items": [item]})),
        path="/apps/list",
    )
    async with connect() as client:
        listed = await client.call_tool("app_list", {})
        decisions = await client.call_tool("app_list", {"category": "decision"})

    assert [{"app": "a/b", "category": "hologram", "about": "x"}] == payload(listed)["apps"]
    assert 'a/b (hologram): "x"' in text_of(listed)
    assert not decisions.is_error


@pytest.mark.finding("D10")
@pytest.mark.parametrize(
    ("model", "record"),
    [
        (App, {"category": "new", "status": "new", "visibility": "new", "version": {"functions": {"f": {"kind": "new"}}}}),
        (Task, {"id": "t", "status": "new", "infra": "new", "rating": "new", "logs": [{"log_type": "new"}]}),
        (Session, {"status": "new"}),
        (Chat, {"id": "c", "status": "new", "active_run": {"id": "r", "state": "new"}, "pending_interrupts": [
            {"id": "i", "status": "new", "reason": "new", "resource_type": "new"}], "chat_messages": [
            {"id": "m", "role": "new", "status": "new", "content": [{"type": "new"}], "tool_invocations": [
                {"id": "v", "type": "new", "status": "new"}]}]}),
    ],
)  # fmt: skip
def test_an_unknown_enum_value_loses_no_record(model: Any, record: dict[str, Any]) -> None:
    assert parsed(model, record)
