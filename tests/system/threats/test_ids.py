"""Ids and references that are no ids: threat T-11."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from inferencesh_mcp.flows import start as flows_start
from tests.conftest import Connect, Upstream, Way
from tests.mcp_tasks.following import following
from tests.results import error, payload
from tests.support.faults import Status
from tests.system.faults.hosts import over

pytestmark = pytest.mark.anyio

HOSTILE = [
    "../me", "..", ".", "../../me", "a/../../me", "./me", "/me", "//evil.example", "a//b", "..\\me", "a\\..\\me", "%2e%2e/me",
    "%2e%2e%2fme", "..%2fme", "%2f", "..%252fme", "%5c..%5cme", "a;b", "a;/../me", "a?x=1", "?", "a#b", "#", "a&b=c", "a@evil.example",
    "@evil.example/", "http://evil.example", "a b", " ", "a\n", "a\r\nx-y: z", "a\0b", "a\tb", "․․/me", "a∕b", "．．／me",
    "a\u202eb", "é", "\ud800", "a" * 129, "a" * 70_000, "*", "-", "a'b", 'a"b', "{}", "$(id)", "a:b", "a,b",
]  # fmt: skip

TOOLS: dict[str, dict[str, Any]] = {
    "task_get": {"task_id": None},
    "task_logs": {"task_id": None},
    "task_cancel": {"task_id": None},
    "session_get": {"session_id": None},
    "session_keepalive": {"session_id": None},
    "session_end": {"session_id": None},
    "app_get": {"app": None},
    "app_run": {"app": None, "input": {}},
    "app_run_many": {"app": None, "inputs": [{}]},
    "file_save": {"task_ids": [None]},
}
"""Tools, and the argument in which an id goes into a path."""

IN_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "app_list": ({"cursor": None}, "/apps/list"),
    "task_list": ({"cursor": None}, "/tasks/list"),
    "file_list": ({"cursor": None}, "/files/list"),
    "file_delete": ({"file": None}, "/files/list"),
    "app_run": ({"app": "sandbox/echo", "input": {}, "session": None}, "/apps/run"),
}
"""Tools, the argument that goes into the body of a request, and where that is sent."""


def sendable(way: Way) -> list[str]:
    """All of them in memory; over a wire, where the same code refuses them, every sixth.

    Half of a surrogate pair is no UTF-8, so it cannot leave the client over a wire.
    """
    return HOSTILE if way.transport == "memory" else [text for text in HOSTILE[::6] if text != "\ud800"]


def filled(arguments: dict[str, Any], hostile: str) -> dict[str, Any]:
    return {
        name: hostile if value is None else [hostile] if value == [None] else value for name, value in arguments.items()
    }


@over(Way("memory", "2025"), Way("stdio", "2026"), Way("http", "2026"))
async def test_an_invalid_id_reaches_no_path(connect: Connect, upstream: Upstream, way: Way) -> None:
    """Every tool that puts an id into a path refuses what is none, before anything is asked."""
    async with connect() as client:
        results = {
            (tool, hostile[:80]): await client.call_tool(tool, filled(arguments, hostile))
            for tool, arguments in TOOLS.items()
            for hostile in sendable(way)
            if way.transport != "http" or tool != "file_save"
        }

    codes = {call: error(result)["code"] for call, result in results.items()}
    assert {call: code for call, code in codes.items() if code != "invalid_input"} == {}
    assert () == upstream.sandbox.ledger.requests()
    assert all(len(error(result)["message"]) < 700 for result in results.values())


@over(Way("memory", "2025"), Way("stdio", "2026"), Way("http", "2026"))
async def test_an_id_in_a_body_stays_in_the_body(connect: Connect, upstream: Upstream, way: Way) -> None:
    """Cursors and sessions are data there: at most one request, to the one path it is for, and no crash."""
    ledger = upstream.sandbox.ledger
    async with connect() as client:
        await client.call_tool("app_get", {"app": "sandbox/echo"})  # from now on it is known
        for tool, (arguments, path) in IN_BODIES.items():
            for hostile in sendable(way):
                before = len(ledger.requests())
                result = await client.call_tool(tool, filled(arguments, hostile))
                paths = [request.path for request in ledger.requests()[before:]]
                assert paths in ([], [path]), (tool, hostile, paths)
                assert result.structured_content, (tool, hostile, result)

    assert () == ledger.starts


@over(Way("memory", "2025"), Way("memory", "2026"), Way("http", "2026"))
async def test_an_app_filter_is_checked_before_it_is_sent(connect: Connect, upstream: Upstream, way: Way) -> None:
    """And so are a function and a file that is named by its address."""
    async with connect() as client:
        for hostile in sendable(way):
            listed = await client.call_tool("task_list", {"app": hostile})
            function = {"app": "sandbox/echo", "input": {}, "function": hostile}
            ran = await client.call_tool("app_run", function)
            assert ["invalid_input"] * 2 == [error(listed)["code"], error(ran)["code"]], hostile

    assert () == upstream.sandbox.ledger.starts
    assert {"/apps/sandbox/echo"} >= {entry.path for entry in upstream.sandbox.ledger.requests()}


@over(Way("memory", "2025"), Way("memory", "2026"))
@pytest.mark.parametrize("hostile", ["../me", "a/b", "", "a?b", "\u202e", "x" * 300])
async def test_a_hostile_id_from_the_platform_is_refused(
    connect: Connect, upstream: Upstream, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A started run whose id cannot be asked about is told as started, with that id, and as not to be run again."""
    # Seconds: the search for the task that had no id takes 15.
    monkeypatch.setattr(flows_start, "SEARCH_DELAYS", (0.01,))
    task = {"id": hostile, "status": 7, "input": {}, "session_id": hostile}
    async with connect() as client:
        await client.call_tool("app_get", {"app": "sandbox/echo"})
        upstream.sandbox.faults.add(Status(code=200, body=json.dumps(task)), path="/apps/run")
        before = len(upstream.sandbox.ledger.requests())
        result = await client.call_tool("app_run", {"app": "sandbox/slow", "input": {"seconds": 1, "steps": 1}})

    paths = {request.path for request in upstream.sandbox.ledger.requests()[before:]}
    assert paths <= {"/apps/run", "/apps/sandbox/slow", "/tasks/list"}
    assert error(result)["outcome"] == ("started" if hostile else "unknown")
    assert error(result)["retry_safe"] is False
    assert "error" in payload(result)


@over(Way("memory", "2026"))
async def test_completion_prompts_and_tasks_refuse_invalid_ids(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Completion, prompts and MCP tasks: what is typed there is searched for in a body, or is nothing at all."""
    ledger = upstream.sandbox.ledger
    async with following(way, environ) as follower:
        client = follower.client
        for hostile in HOSTILE:
            if hostile == "\ud800":
                continue  # it is no UTF-8: it cannot leave the client
            for template in (
                "inference://tasks/{id}",
                "inference://apps/{namespace}/{name}",
                f"inference://{hostile[:80]}",
            ):
                for name in ("id", "name"):
                    await client.complete(ResourceTemplateReference(uri=template), {"name": name, "value": hostile})
            await client.complete(PromptReference(name="run_app"), {"name": "app", "value": hostile})
            await client.get_prompt("run_app", {"goal": "x", "app": hostile})
            for method in ("tasks/get", "tasks/cancel"):
                with pytest.raises(MCPError):
                    await follower.ask(method, hostile)

    assert {"/apps/list", "/tasks/list"} == {entry.path for entry in ledger.requests()}
    assert () == ledger.starts == ledger.cancels


@over(Way("memory", "2026"))
async def test_a_pinned_apps_arguments_go_only_into_the_body(connect: Connect, upstream: Upstream) -> None:
    """Whatever it looks like, it goes into the body of the one run, as it is."""
    async with connect(INFERENCE_PIN="draw=sandbox/draw", INFERENCE_INLINE_MEDIA="never") as client:
        for hostile in sendable(Way("http", "2026")):
            result = await client.call_tool("draw", {"prompt": hostile[:4000], "width": 16, "height": 16})
            assert payload(result), hostile

    paths = {entry.path for entry in upstream.sandbox.ledger.requests()}
    tasks = {f"/tasks/{start.task_id}" for start in upstream.sandbox.ledger.starts}
    assert {path for path in paths if not any(path.startswith(task) for task in tasks)} <= {
        "/apps/run", "/apps/sandbox/echo", "/apps/sandbox/draw"
    }  # fmt: skip
