"""Arguments that are nearly right, for every tool: what comes back says what is wrong with them, in our words (X-45)."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from mcp import Client
from mcp_types import CallToolResult

from inferencesh_mcp import errors
from inferencesh_mcp.errors import InferenceError
from tests.conftest import Connect, Upstream, Way
from tests.results import payload, text_of
from tests.system.faults.hosts import over
from tests.system.faults.rows import many
from tests.system.threats.fuzzing import mutated, odd

pytestmark = pytest.mark.anyio
SEED = 20261125
EACH = {"memory": many(60, 20), "http": many(60, 5)}  # calls of each tool
CODES = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, InferenceError)}
OF_TASKS = {"task_failed", "task_cancelled", "task_rejected", "agent_failed"}
GOOD: dict[str, dict[str, Any]] = {
    "app_list": {"query": "draw", "limit": 3},
    "app_get": {"app": "sandbox/draw"},
    "app_run": {"app": "sandbox/draw", "input": {"prompt": "x", "width": 16, "height": 16, "seed": 1}, "dry_run": True},
    "app_run_many": {"app": "sandbox/draw", "inputs": [{"prompt": "x", "width": 16, "height": 16}], "max_concurrency": 2},
    "task_get": {"task_id": "abc", "wait_seconds": 0, "part": 1},
    "task_list": {"status": "completed", "app": "sandbox/draw", "limit": 3},
    "task_logs": {"task_id": "abc", "log_type": "run", "tail": 5},
    "task_cancel": {"task_id": "abc"},
    "file_upload": {"source": "data:,x", "filename": "a.txt", "content_type": "text/plain", "public": False},
    "file_list": {"limit": 3},
    "file_save": {"uris": ["inf://x/y.png"], "to": "out"},
    "file_delete": {"file": "abc"},
    "session_list": {},
    "session_get": {"session_id": "abc"},
    "session_keepalive": {"session_id": "abc"},
    "session_end": {"session_id": "abc"},
    "agent_list": {"query": "x", "limit": 3},
    "agent_chat": {
        "message": "Hi.",
        "config": {
            "core_app": "sandbox/llm",
            "system_prompt": "x",
            "tools": [{"type": "client", "name": "look", "client": {"input_schema": {"type": "object", "properties": {}}}}],
        },
        "context": {"name": "x"},
        "output_schema": {"type": "object", "properties": {"a": {"type": "string"}}},
    },
    "chat_get": {"chat_id": "abc", "wait_seconds": 0},
    "chat_list": {"limit": 3},
    "chat_respond": {"chat_id": "abc", "invocation_id": "def", "result": "x"},
    "chat_stop": {"chat_id": "abc"},
    "account": {"days": 7},
    "pinned": {"prompt": "x", "width": 16, "height": 16, "seed": 1},
}  # fmt: skip
"""A call of each tool that is right in itself."""


@pytest.fixture
async def upstream(turned_upstream: Upstream) -> Upstream:
    """What takes an app a moment takes none."""
    return turned_upstream


def written_for(random: Random, schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments that the schema allows, as far as types, choices and bounds say; strange in all else."""
    names = schema.get("properties", {})
    required = set(schema.get("required", []))
    return {name: _value(random, part) for name, part in names.items() if name in required or random.random() < 0.5}


def _value(random: Random, part: dict[str, Any]) -> Any:
    part = random.choice(part.get("anyOf", [part]))
    if "enum" in part:
        return random.choice(part["enum"])
    match part.get("type"):
        case "integer" | "number":
            low, high = part.get("minimum", -5), part.get("maximum", 5)
            return random.choice((low, high, (low + high) // 2))
        case "boolean":
            return random.random() < 0.5
        case "array":
            return [_value(random, part.get("items", {}))] * random.randrange(3)
        case "object":
            return random.choice(({}, {"prompt": "x"}, {"a": odd(random)}))
        case _:
            return random.choice(
                ("", "x", "sandbox/echo", "abc", "data:,x", "../..", "a" * 200, "\u202e", "\0", "new", "🜁")
            )


def sendable(value: Any) -> Any:
    """Without halves of surrogate pairs: they are no UTF-8, and cannot leave the client."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


async def judged(client: Client, name: str, arguments: dict[str, Any]) -> CallToolResult:
    result = await client.call_tool(name, arguments)
    assert result.structured_content is not None, (name, arguments, text_of(result)[:300])
    if result.is_error:
        failure = payload(result).get("error") or {"code": "task_failed", "message": ""}
        assert failure["code"] in CODES | OF_TASKS, (name, arguments, failure)
        assert len(failure["message"]) < 3_000
        assert "Traceback" not in text_of(result)
        assert "nternal error" not in text_of(result)
    return result


@pytest.mark.fault("X-45")
@over(Way("memory", "2026"), Way("http", "2026"))
async def test_nearly_right_arguments_are_answered(connect: Connect, upstream: Upstream, way: Way) -> None:
    """Valid ones and spoilt ones, for every tool: an answer or a typed error; no run is sent that the app would refuse."""
    random, ledger = Random(SEED), upstream.sandbox.ledger
    settings = {"WAIT_SECONDS": "1", "PIN": "pinned=sandbox/draw", "APPROVALS": "host"}
    for name in GOOD:
        async with connect(**{f"INFERENCE_{setting}": value for setting, value in settings.items()}) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert GOOD.keys() - {"file_save"} == tools.keys() - {"file_save"}
            if name not in tools:
                continue  # over HTTP there is no file_save
            tool = tools[name]
            await judged(client, tool.name, GOOD[tool.name])
            for number in range(EACH[way.transport]):
                good = GOOD[tool.name] if number % 3 else written_for(random, tool.input_schema)
                arguments = sendable(mutated(random, good) if number % 3 else good)
                if isinstance(arguments, dict):
                    await judged(client, tool.name, arguments)

    refused = [request for request in ledger.requests("POST") if request.status in {400, 422}]
    assert [] == [result for result in refused if result.path in {"/apps/run", "/files"}]
    assert [] == [request for request in ledger.requests() if request.status >= 500]
