"""What app_list and app_get say: enough to choose an app and to call it, in one answer."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Connect, Upstream
from tests.results import error, payload, run, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import MEMORY

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)]


async def test_app_get_shows_the_fields_of_every_function(connect: Connect) -> None:
    """M4: an empty heading and four bare names took two to four more calls."""
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": "sandbox/memory"})

    text = text_of(about)
    assert '- set_value: "Remember a value."' in text
    assert 'value*: any JSON. "What to remember; any JSON"' in text
    assert "- get_all (default)" in text
    assert "Input: no fields." in text
    schemas = {function["name"]: function["input_schema"]["properties"] for function in payload(about)["functions"]}
    assert {"key", "value"} == set(schemas["set_value"])


async def test_app_get_says_that_free_input_is_free(connect: Connect) -> None:
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": "sandbox/echo"})

    assert "Input (* is required):" not in text_of(about)
    assert "Input: any JSON fields; the app names none." in text_of(about)


async def test_app_get_says_for_which_input_its_price_holds(connect: Connect) -> None:
    """M2: the price of the defaults was taken for the price of any input."""
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": "sandbox/draw"})

    assert "Price for width=256, height=256: $0.00131072" in text_of(about)
    assert {"width": 256, "height": 256} == payload(about)["price_for"]


async def test_app_list_finds_apps_by_meaning(connect: Connect) -> None:
    async with connect() as client:
        apps = await client.call_tool("app_list", {"query": "a photo of a landscape"})

    assert "sandbox/draw" == payload(apps)["apps"][0]["app"]


@pytest.mark.parametrize("answer", [Status(code=404), Status(code=200, body='{"results": []}')])
async def test_app_list_searches_by_words_where_nothing_is_suggested(
    connect: Connect, upstream: Upstream, answer: Status
) -> None:
    upstream.sandbox.faults.add(answer, path="/suggest", times=-1)
    async with connect() as client:
        apps = await client.call_tool("app_list", {"query": "draw"})

    assert ["sandbox/draw"] == [app["app"] for app in payload(apps)["apps"]]


@pytest.mark.parametrize("tool", ["app_get", "app_run"])
async def test_an_agent_that_is_taken_for_an_app_is_named(connect: Connect, upstream: Upstream, tool: str) -> None:
    """M11: it was not found, and apps of similar names were offered."""
    arguments = {"app": "sandbox/approver"} | ({"input": {}} if tool == "app_run" else {})
    async with connect() as client:
        refused = await client.call_tool(tool, arguments)

    assert 'It is an agent: talk to it with agent_chat(agent="sandbox/approver", message=…).' == error(refused)["next"]
    assert not upstream.sandbox.ledger.starts


async def test_an_app_that_is_taken_for_an_agent_is_named(connect: Connect) -> None:
    async with connect() as client:
        refused = await client.call_tool("agent_chat", {"agent": "sandbox/draw", "message": "a lake"})

    assert 'It is an app: run it with app_run(app="sandbox/draw", input=…).' == error(refused)["next"]


async def test_an_id_of_another_kind_is_named(connect: Connect) -> None:
    async with connect() as client:
        task_id = payload(await run(client, "sandbox/echo", {}))["task_id"]
        refused = await client.call_tool("chat_get", {"chat_id": task_id})

    assert f'It is a task: read it with task_get(task_id="{task_id}").' == error(refused)["next"]


async def test_a_run_can_be_scheduled(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        result = await run(client, "sandbox/echo", {}, run_at="2h")
        refused = await run(client, "sandbox/echo", {}, run_at="2020-01-01")

    assert "queued" == payload(result)["status"]
    assert "starts in 2 h" in text_of(result)
    assert "'run_at' is in the past" in error(refused)["message"]
    assert 1 == len(upstream.sandbox.ledger.starts)


async def test_a_pinned_apps_own_fields_are_not_looked_up(connect: Connect, upstream: Upstream) -> None:
    """A field may be called `app` or `file`: it is the app's business, and no name of ours."""
    upstream.sandbox.faults.add(Status(code=404), path="/apps/run", times=-1)
    async with connect(INFERENCE_PIN="sandbox/echo") as client:
        refused = await client.call_tool("echo", {"app": "no name at all!", "file": "secret", "task_id": "abc"})

    assert ("not_found", "not_started") == (error(refused)["code"], error(refused)["outcome"])
    assert not upstream.sandbox.ledger.requests(path="/agents/list")
    assert not upstream.sandbox.ledger.requests(path="/chats/*")


async def test_an_app_with_very_many_functions_is_shown_in_part(connect: Connect, upstream: Upstream) -> None:
    functions = {f"f{number}": {"name": f"f{number}", "input_schema": {}} for number in range(200)}
    app = {"id": "x", "namespace": "x", "name": "many", "version": {"id": "v", "functions": functions}}
    upstream.sandbox.faults.add(
        Status(code=200, headers={"content-type": "application/json"}, body=json.dumps(app)),
        path="/apps/x/many",
        times=-1,
    )
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": "x/many:f7"})

    assert 30 == len(payload(about)["functions"])
    assert 170 == payload(about)["more_functions"]
    assert "170 more functions are not shown." in text_of(about)
