"""A platform that answers with what it never should: rows X-46, X-47 and X-50. Each call ends in an answer of ours."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from mcp import MCPError

from tests.conftest import Upstream
from tests.results import error, payload, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import HTTP, NEAR, PIPE, Host, Hosted, over
from tests.system.faults.rows import many

pytestmark = pytest.mark.anyio

READS: dict[str, dict[str, Any]] = {
    "app_list": {}, "app_get": {"app": "sandbox/draw"}, "task_get": {"task_id": "t1"}, "task_list": {}, "task_logs": {"task_id": "t1"},
    "task_cancel": {"task_id": "t1"}, "file_list": {}, "file_delete": {"file": "f1"}, "file_upload": {"filename": "a.txt"},
    "session_list": {}, "session_get": {"session_id": "s1"}, "session_keepalive": {"session_id": "s1"}, "session_end": {"session_id": "s1"},
    "agent_list": {}, "chat_get": {"chat_id": "c1"}, "chat_stop": {"chat_id": "c1"},
    "app_run": {"app": "sandbox/draw", "input": {"prompt": "x"}}, "agent_chat": {"agent": "sandbox/assistant", "message": "Hi."},
}  # fmt: skip
RESOURCES = ("apps/sandbox/draw", "tasks/t1", "tasks/t1/logs", "files/f1", "sessions/s1", "chats/c1")

STRANGE: dict[str, str] = {
    "nothing": "",
    "null": "null",
    "a number": "17",
    "a text": '"completed"',
    "a list of nothing": "[]",
    "a list of anything": '[null, 1, "x", [], {"id": 5}]',
    "an object of nothing": "{}",
    "null in every place": '{"id": null, "status": null, "items": null, "output": null, "input": null, "app": null, "messages": null, "logs": null}',
    "lists in every place": '{"id": [], "status": [], "items": {}, "output": [], "name": [], "namespace": [], "messages": {}, "logs": {}, "uri": []}',
    "objects in every place": '{"id": {}, "status": {}, "items": {"a": {}}, "name": {}, "namespace": {}, "version": {}, "logs": {}, "uri": {}, "upload_url": {}}',
    "numbers in every place": '{"id": 1, "status": 1e3, "items": 1, "name": 1, "namespace": 1, "messages": 1, "created_at": 1e300, "upload_url": 1, "size": -1}',
    "NaN": '{"id": "t1", "status": 10, "output": NaN}',
    "Infinity": '{"id": "t1", "status": 10, "output": [-Infinity, 1e999]}',
    "huge numbers": '{"id": "t1", "status": %s, "output": %s, "size": %s}' % (("9" * 4000,) * 3),
    "numbers that are none": '{"id": "t1", "status": %s}' % ("9" * 5000),
    "deep": '{"id": "t1", "status": 10, "output": ' + "[" * 5000 + "]" * 5000 + "}",
    "deep enough": '{"id": "t1", "status": 10, "output": ' + "[" * 60 + "]" * 60 + "}",
    "lone surrogates": '{"id": "t1", "status": 10, "output": "\\ud800", "name": "\\udfff", "items": [{"id": "\\ud800", "name": "\\ud800"}]}',
    "another status": '{"id": "t1", "status": "Completed\\u0000\\u202e", "output": {"a": 1}}',
    "the older envelope": '{"success": true, "data": {"id": "t1", "status": 10, "output": {"a": 1}, "items": []}}',
    "the older envelope of nothing": '{"success": true, "data": null}',
    "a failure that is a success": '{"success": false, "error": {"code": "x", "message": "it did not"}}',
    "a failure of nothing": '{"success": false, "data": null}',
    "a page": "<html><body>Sign in</body></html>",
    "the same page for ever": '{"items": [{"id": "a"}], "has_next": true, "next_cursor": "again", "total": 1000000}',
    "odd schemas": '{"id": "a1", "namespace": "sandbox", "name": "draw", "version": {"id": "v1", "input_schema": {"properties": {"a": true, "prompt": null, "b": []}, '
                   '"required": "prompt", "$defs": 7, "anyOf": 5}, "output_schema": [], "functions": {"run": {"input_schema": 5}}}}',
    "odder schemas": '{"id": "a1", "namespace": "sandbox", "name": "draw", "version": {"id": "v1", "input_schema": {"type": "object", "properties": {"prompt": true, "a": false, '
                     '"b": {"$ref": "#/$defs/x"}, "c": {"anyOf": [true, false]}, "d": {"enum": "x"}, "e": {"type": ["string", "null"]}}}}}',
}  # fmt: skip


TRIED = [*product((PIPE,), STRANGE), *product((HTTP,), list(STRANGE)[:: many(1, 9)])]


def _is_clean(text: str) -> None:
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "\\u0000" not in text
    assert not {"\ud800", "\u202e", "\0"} & set(text)
    assert len(text) < 700_000


async def answered(my: Host, tool: str, arguments: dict[str, Any]) -> Any:
    result = await my.client.call_tool(tool, arguments)
    assert result.structured_content, (tool, text_of(result)[:500])
    _is_clean(result.model_dump_json())
    if result.is_error:
        assert "error" in payload(result), tool
        assert len(payload(result)["error"].get("message", "")) < 3_000
    return result


@pytest.mark.fault("X-46")
@pytest.mark.parametrize(("way", "name"), TRIED, ids=str)
async def test_strange_json_from_the_platform_gives_a_clean_answer(host: Hosted, upstream: Upstream, name: str) -> None:
    """To every tool and of every resource: a value that can be used, or an error that says whose fault it is."""
    answer = Status(code=200, body=STRANGE[name], headers={"content-type": "application/json"})
    async with host(INFERENCE_WAIT_SECONDS="1", INFERENCE_PIN="hero=sandbox/draw") as my:
        upstream.sandbox.faults.add(answer, path="/**", times=-1)
        for tool, arguments in READS.items():
            await answered(my, tool, arguments)
        for resource in RESOURCES:
            try:
                _is_clean((await my.client.read_resource(f"inference://{resource}")).model_dump_json())
            except MCPError as exc:
                assert exc.error.data["error"]["code"], (resource, exc.error)  # noqa: PT017 - ours, not the SDK's
        await my.client.list_resources()
        await my.client.list_tools()

    assert () == upstream.sandbox.ledger.starts
    assert 2 >= len(upstream.sandbox.ledger.requests("POST", "/apps/run")), "a run's, and no other"
    assert 1 >= len(upstream.sandbox.ledger.requests("POST", "/agents/run"))


@pytest.mark.fault("X-46")
@pytest.mark.parametrize(("way", "name"), TRIED, ids=str)
async def test_a_started_run_is_reported_whatever_its_record_says(host: Hosted, upstream: Upstream, name: str) -> None:
    """The start is answered as it should be, and all that is asked of the task is strange: its id is in the answer."""
    answer = Status(code=200, body=STRANGE[name], headers={"content-type": "application/json"})
    async with host(INFERENCE_WAIT_SECONDS="1") as my:
        await my.client.call_tool("app_get", {"app": "sandbox/slow"})
        upstream.sandbox.faults.add(answer, path="/tasks/**", times=-1)
        result = await answered(my, "app_run", {"app": "sandbox/slow", "input": {"seconds": 60, "steps": 1}})

    (start,) = upstream.sandbox.ledger.starts
    assert start.task_id in result.model_dump_json()


ENVELOPES: dict[str, tuple[str, str]] = {
    "flat": ('{"id": "t1", "status": 10, "output": {"a": 1}}', "completed"),
    "v1": ('{"success": true, "data": {"id": "t1", "status": 10, "output": {"a": 1}}}', "completed"),
    "v1 and its status": ('{"success": true, "status": 200, "data": {"id": "t1", "status": "completed", "output": {"a": 1}}}', "completed"),
    "v1 that failed": ('{"success": false, "status": 404, "error": {"code": "not_found", "message": "no such task"}}', "not_found"),
    "v1 that failed without a status": ('{"success": false, "error": {"message": "broken"}}', "unavailable"),
    "data beside more": ('{"id": "t1", "status": 10, "data": {"id": "t2"}, "output": {"a": 1}}', "completed"),
    "half": ('{"success": true}', "upstream_error"),
    "of a list": ('{"success": true, "data": []}', "upstream_error"),
}  # fmt: skip


@pytest.mark.fault("X-47")
@over(*NEAR)
@pytest.mark.parametrize("name", ENVELOPES)
async def test_an_envelope_is_unwrapped_or_is_an_error(host: Hosted, upstream: Upstream, name: str) -> None:
    """Never half of a task: what is told has the id that was asked for, or a code."""
    body, expected = ENVELOPES[name]
    upstream.sandbox.faults.add(Status(code=200, body=body), path="/tasks/t1", times=-1)
    async with host() as my:
        result = await answered(my, "task_get", {"task_id": "t1"})

    if expected == "completed":
        assert ("t1", "completed", {"a": 1}) == tuple(payload(result)[item] for item in ("task_id", "status", "output"))
    else:
        assert expected == error(result)["code"]


MANY = 10_000
PAGES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "app_list": ("/apps/list", {}, {"namespace": "a", "name": "b", "description": "x" * 200}),
    "task_list": ("/tasks/list", {}, {"id": "t", "status": 10, "app": "a/b"}),
    "file_list": ("/files/list", {}, {"id": "f", "uri": "https://x/y.png", "filename": "y" * 100}),
    "file_delete": ("/files/list", {"file": "inf://x/none.png"}, {"id": "f", "uri": "https://x/y.png"}),
    "session_list": ("/sessions", {}, {"id": "s", "status": "active", "app": "a/b"}),
    "agent_list": ("/agents/list", {}, {"namespace": "a", "name": "b", "id": "g"}),
    "task_logs": ("/tasks/t1/**", {"task_id": "t1"}, {"id": "t1", "status": 10, "log_type": 1, "content": "line " * 100}),
}  # fmt: skip


@pytest.mark.fault("X-50")
@over(*NEAR)
@pytest.mark.parametrize("name", PAGES)
async def test_an_endless_list_is_read_one_page_at_a_time(host: Hosted, upstream: Upstream, name: str) -> None:
    """Ten thousand items, and always more of them: a few requests, and an answer that a host can take."""
    path, arguments, item = PAGES[name]
    items = [{**item, **({"id": f"{item['id']}{at}"} if "id" in item else {})} for at in range(MANY)]
    page: Any = {"items": items, "has_next": True, "next_cursor": "again", "total_items": 10**9}
    body = json.dumps(items if path == "/sessions" else page)
    upstream.sandbox.faults.add(Status(code=200, body=body), path=path, times=-1)
    async with host() as my:
        await answered(my, name, arguments)

    details = ("/cost", "/agents/a/b")  # of each item that is shown, of which there are at most a hundred
    requests = [request for request in upstream.sandbox.ledger.requests() if not request.path.endswith(details)]
    assert len(requests) <= 12
