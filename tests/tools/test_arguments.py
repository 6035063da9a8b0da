"""Arguments as hosts really send them: taken where they have one meaning, else refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferencesh_mcp.schema.describe import MAX_NAME_LENGTH
from tests.conftest import Connect, Upstream, Way
from tests.results import error, payload, run, text_of
from tests.support.faults import Status
from tests.system.threats.test_arguments import GOOD
from tests.tools.pinned import answering

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", [Way("memory", "2026")], indirect=True, ids=str)]

N8N = {"toolCallId": "call_1", "sessionId": "s", "action": "sendMessage", "chatInput": "Draw!", "tool": "app_list"}
PINNED = {"INFERENCE_PIN": "pinned=sandbox/draw"}
NULLABLE = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "default": "x"},
        "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "box": {"type": "object", "properties": {"width": {"type": "integer", "default": 3}}},
        "action": {"type": "string"},
    },
}


@pytest.mark.finding("F6")
async def test_null_for_an_optional_argument_is_the_same_as_leaving_it_out(connect: Connect) -> None:
    """For every tool: the same outcome either way."""
    async with connect(**PINNED) as client:
        for tool in (await client.list_tools()).tools:
            schema = tool.input_schema
            required = {name: GOOD[tool.name][name] for name in schema.get("required", [])}
            if tool.name == "agent_chat":
                required |= {"config": GOOD[tool.name]["config"]}
            nulls = dict.fromkeys(name for name in schema["properties"] if name not in required)
            if tool.name == "app_run":
                required |= {"dry_run": True}
            without = await client.call_tool(tool.name, required)
            with_nulls = await client.call_tool(tool.name, nulls | required)

            assert without.is_error == with_nulls.is_error, (tool.name, text_of(with_nulls))
            assert set(payload(without)) == set(payload(with_nulls)), tool.name


@pytest.mark.finding("F6")
async def test_null_for_a_required_argument_is_refused(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        result = await client.call_tool("app_run", {"app": None, "input": {}})

    assert "'app'" in error(result)["message"]
    assert () == upstream.sandbox.ledger.starts


@pytest.mark.finding("F6", "F8", "F3")
async def test_an_empty_field_of_an_app_is_left_out(connect: Connect, upstream: Upstream) -> None:
    """A null that the app itself takes reaches it by `app_run`, whose caller read the app's own schema."""
    answering(upstream, "sandbox/echo", input_schema=NULLABLE)
    input_ = {"text": None, "seed": None, "box": {"width": None}}
    async with connect(INFERENCE_PIN="hero=sandbox/echo") as client:
        await client.list_tools()
        by_name = payload(await client.call_tool("hero", input_))
        by_run = payload(await run(client, "sandbox/echo", input_ | {"box": {"width": ""}}))

    assert ({"box": {}}, {"box": {}, "seed": None}) == (by_name["output"], by_run["output"])


@pytest.mark.finding("F7")
async def test_fields_that_hosts_inject_are_dropped(connect: Connect, upstream: Upstream) -> None:
    """n8n, CrewAI and Cursor add them to every call; where a tool has an argument of that name, it is the tool's."""
    answering(upstream, "sandbox/echo", input_schema=NULLABLE)
    async with connect(INFERENCE_PIN="hero=sandbox/echo") as client:
        await client.list_tools()
        listed = await client.call_tool("app_list", {"query": "draw", **N8N})
        crew = await client.call_tool("session_list", {"security_context": {"agent_fingerprint": {}}})
        cursor = await client.call_tool("session_list", {"random_string": "x"})
        pinned = await client.call_tool("hero", {"text": "a", **N8N})
        own = await client.call_tool("chat_respond", {"chat_id": "abc", "invocation_id": "def", "action": "go"})

    assert [False] * 4 == [result.is_error for result in (listed, crew, cursor, pinned)]
    assert {"text": "a", "action": "sendMessage"} == payload(pinned)["output"]
    assert "not_found" == error(own)["code"]


@pytest.mark.finding("F7")
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [({"quary": "x"}, "'query'"), ({"toolcallid": "x"}, "It takes"), ({"session_id": "x"}, "It takes")],
)
async def test_any_other_unknown_argument_is_refused(connect: Connect, arguments: dict[str, Any], hint: str) -> None:
    async with connect() as client:
        result = await client.call_tool("app_list", arguments)

    assert "has no argument" in error(result)["message"]
    assert hint in text_of(result)


@pytest.mark.finding("F8", "F1")
@pytest.mark.parametrize("empty", ["", " ", "null"])
async def test_an_empty_text_for_another_type_is_left_out(connect: Connect, empty: str) -> None:
    draw = GOOD["app_run"] | {"setup": empty, "session_timeout": empty, "infra": empty, "stream": empty}
    async with connect() as client:
        ran = await client.call_tool("app_run", draw)
        listed = await client.call_tool("app_list", {"category": empty, "limit": empty})
        chatted = await client.call_tool(
            "agent_chat", {"message": "Hi.", "agent": "sandbox/assistant", "config": empty, "context": empty, "files": empty}
        )  # fmt: skip

    assert ["", "", ""] == [text_of(result) if result.is_error else "" for result in (ran, listed, chatted)]


@pytest.mark.finding("F8")
async def test_a_list_of_json_texts_is_parsed_as_objects(connect: Connect, upstream: Upstream) -> None:
    texts = ['{"prompt": "a", "width": "16", "height": 16}', {"prompt": "b", "width": 16, "height": 16}]
    async with connect() as client:
        result = await client.call_tool("app_run_many", {"app": "sandbox/draw", "inputs": texts})
        wrong = await client.call_tool("app_run_many", {"app": "sandbox/draw", "inputs": ["no object", "[1]"]})

    assert not result.is_error
    assert 2 == len(upstream.sandbox.ledger.starts)
    assert "'inputs.0'" in error(wrong)["message"]


@pytest.mark.finding("F1")
async def test_any_filters_nothing(connect: Connect) -> None:
    async with connect() as client:
        apps = [
            payload(await client.call_tool("app_list", arguments))["apps"] for arguments in ({}, {"category": "any"})
        ]
        tasks = [
            payload(await client.call_tool("task_list", arguments))["tasks"] for arguments in ({}, {"status": "any"})
        ]

    assert apps[0] == apps[1] != []
    assert tasks[0] == tasks[1]


@pytest.mark.finding("F5")
async def test_the_list_can_be_limited_to_active_sessions(connect: Connect, upstream: Upstream) -> None:
    """A tool that takes nothing cannot be made strict by openai-agents; what would say so breaks google-genai."""
    sessions = [{"id": "a", "status": "active"}, {"id": "b", "status": "ended"}, {"id": "c", "status": "expired"}]
    answer = Status(code=200, headers={"content-type": "application/json"}, body=json.dumps(sessions))
    upstream.sandbox.faults.add(answer, method="GET", path="/sessions", times=-1)
    async with connect() as client:
        listed = [
            payload(await client.call_tool("session_list", {"active": only}))["sessions"] for only in (False, True)
        ]

    assert [["a", "b", "c"], ["a"]] == [[session["session_id"] for session in part] for part in listed]


@pytest.mark.finding("S3")
async def test_a_misspelt_argument_is_suggested_and_a_long_one_is_not(connect: Connect) -> None:
    async with connect() as client:
        near = await client.call_tool("app_list", {"querry": "x"})
        long = await client.call_tool("app_list", {"q" * 1_000_000: "x"})

    assert "Did you mean 'query'?" in text_of(near)
    assert "It takes query, category, limit, cursor." in text_of(long)
    assert MAX_NAME_LENGTH < 1_000_000
    assert ["invalid_input"] * 2 == [error(result)["code"] for result in (near, long)]
