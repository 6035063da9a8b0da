"""An exception that nobody foresaw: told by its number, kept in the log, and what was started is known all the same (B1)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import INTERNAL_ERROR, PromptReference, ResourceTemplateReference

from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from tests.conftest import KEY, MODES, Upstream, Way, in_memory, over_http
from tests.results import error, payload, text_of
from tests.support.faults import Swallow
from tests.system.faults.hosts import over
from tests.system.threats.hostile import as_text

pytestmark = [pytest.mark.anyio, pytest.mark.finding("B1")]

WAYS = [Way(transport, era) for transport in ("memory", "http") for era in MODES]
SECRET = f"internal detail with key {KEY} and path /root/x"


def broken(*, when: Callable[[str], bool]) -> type[Transport]:
    """A way to the outside world that fails as no code of ours does, for some paths."""

    class Broken(Transport):
        async def call(self, operation: Any, method: str, path: str, key: Any, body: Any = None) -> Any:
            if when(path):
                raise RuntimeError(SECRET)
            return await super().call(operation, method, path, key, body)

        def stream(self, path: str, key: Any) -> Any:
            if when(path):
                raise RuntimeError(SECRET)
            return super().stream(path, key)

    return Broken


@asynccontextmanager
async def connected(way: Way, environ: dict[str, str], network: Any) -> AsyncIterator[Client]:
    if way.transport == "http":
        async with over_http(environ, network=network) as server, Client(server, mode=MODES[way.era]) as client:
            yield client
        return
    server = build(Settings.from_environ(environ), network=network)
    async with Client(in_memory(server), mode=MODES[way.era]) as client:
        yield client


@pytest.fixture
def find_in_log(caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    """Assert that the log tells of an error by its number, once, and with its traceback."""
    caplog.set_level(logging.INFO)

    def find(error_id: str) -> None:
        (record,) = [record for record in caplog.records if error_id and error_id in record.getMessage()]
        assert 'File "' in record.getMessage()
        assert "RuntimeError: internal detail with key [key]" in record.getMessage()

    return find


@contextmanager
def refused() -> Iterator[list[MCPError]]:
    errors: list[MCPError] = []
    with pytest.raises(MCPError) as caught:
        yield errors
    errors.append(caught.value)


def nothing_foreign(text: str) -> None:
    assert [] == [part for part in (KEY, "internal detail", "/root/x", "RuntimeError", "TaskGroup") if part in text]


CALLS: list[tuple[str, dict[str, Any], str | None]] = [
    ("app_list", {}, None), ("app_get", {"app": "sandbox/echo"}, None), ("task_list", {}, None), ("file_list", {}, None), ("session_end", {"session_id": "s"}, None),
    ("app_run", {"app": "sandbox/echo", "input": {}}, "unknown"), ("app_run_many", {"app": "sandbox/echo", "inputs": [{}]}, "unknown"),
    ("agent_chat", {"message": "x", "agent": "a/b"}, "unknown"), ("chat_respond", {"chat_id": "c", "invocation_id": "i", "result": "x"}, "unknown"),
    ("app_run", {"app": "sandbox/echo", "input": {}, "dry_run": True}, None),
]  # fmt: skip


@over(*WAYS)
async def test_an_unexpected_exception_is_answered_with_a_code_and_a_number(
    way: Way, environ: dict[str, str], find_in_log: Callable[[str], None]
) -> None:
    async with connected(way, environ, broken(when=lambda _: True)) as client:
        for tool, arguments, outcome in CALLS:
            result = await client.call_tool(tool, arguments)
            failed = error(result)

            assert "internal_error" == failed["code"], tool
            assert outcome == failed.get("outcome"), tool
            assert (False if outcome else None) == failed.get("retry_safe"), tool
            assert failed["next"], tool
            assert "internal_error: Something went wrong inside this server." in text_of(result)
            assert failed["error_id"] in text_of(result)
            nothing_foreign(as_text(result.model_dump(mode="json")))
            find_in_log(failed["error_id"])


@over(*WAYS)
async def test_an_exception_after_the_start_names_the_task(
    way: Way, environ: dict[str, str], upstream: Upstream, find_in_log: Callable[[str], None]
) -> None:
    """Whatever fails after it: the model can follow it, and has no reason to start another."""
    async with connected(way, environ, broken(when=lambda path: path.startswith("/tasks/"))) as client:
        result = await client.call_tool("app_run", {"app": "sandbox/slow", "input": {"seconds": 60}})

    (started,) = upstream.sandbox.ledger.starts
    failed = error(result)
    assert ("internal_error", "started", started.task_id) == (failed["code"], failed["outcome"], failed["task_id"])
    assert started.task_id == payload(result)["task_id"]
    assert f'task_get(task_id="{started.task_id}"' in failed["next"]
    nothing_foreign(as_text(result.model_dump(mode="json")))
    find_in_log(failed["error_id"])


@over(*WAYS[:2])
async def test_an_exception_of_one_input_stops_no_other(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """Nor are the others cancelled; each that was started is named."""
    paths: list[str] = []

    def first(path: str) -> bool:
        if path.startswith("/tasks/") and path.endswith("/stream"):
            paths.append(path)
        return paths[:1] == [path]

    async with connected(way, environ, broken(when=first)) as client:
        inputs = [{"seconds": 0.1, "steps": 1}] * 3
        result = await client.call_tool("app_run_many", {"app": "sandbox/slow", "inputs": inputs})

    rows = payload(result)["results"]
    assert [2, 1] == [sum(row["status"] == status for row in rows) for status in ("completed", "error")]
    assert {start.task_id for start in upstream.sandbox.ledger.starts} == {row["task_id"] for row in rows}
    assert [] == [request for request in upstream.sandbox.ledger.requests() if request.path.endswith("/cancel")]
    nothing_foreign(as_text(result.model_dump(mode="json")))


@over(*WAYS)
async def test_an_exception_after_a_message_names_the_chat(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async with connected(way, environ, broken(when=lambda path: path.startswith("/chats/"))) as client:
        result = await client.call_tool("agent_chat", {"message": "hello", "agent": "sandbox/assistant"})

    failed = error(result)
    (entry,) = [request for request in upstream.sandbox.ledger.requests() if request.path == "/agents/run"]
    assert ("internal_error", "started") == (failed["code"], failed["outcome"])
    assert "chat_get(chat_id=" in failed["next"]
    assert entry
    nothing_foreign(as_text(result.model_dump(mode="json")))


@over(*WAYS[:1])
async def test_an_exception_after_a_message_that_was_searched_for_names_the_chat(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    upstream.sandbox.faults.add(Swallow(), method="POST", path="/agents/run")
    async with connected(way, environ, broken(when=lambda path: path.endswith("/stream"))) as client:
        arguments = {"message": "slowly count to 100", "agent": "sandbox/assistant"}
        failed = error(await client.call_tool("agent_chat", arguments))

    assert ("internal_error", "started") == (failed["code"], failed["outcome"])
    assert "chat_get(chat_id=" in failed["next"]


@over(*WAYS)
async def test_an_exception_outside_tools_is_a_protocol_error(
    way: Way, environ: dict[str, str], find_in_log: Callable[[str], None]
) -> None:
    async with connected(way, environ, broken(when=lambda _: True)) as client:
        asks: list[Callable[[], Any]] = [
            client.list_resources,
            lambda: client.read_resource("inference://tasks/t1"),
            lambda: client.read_resource("inference://apps/a/b"),
            lambda: client.complete(
                ResourceTemplateReference(uri="inference://tasks/{id}"), {"name": "id", "value": ""}
            ),
            lambda: client.complete(PromptReference(name="run_app"), {"name": "app", "value": ""}),
        ]
        for ask in asks:
            with refused() as errors:
                await ask()
            answered = errors[0].error

            assert INTERNAL_ERROR == answered.code
            assert "internal_error" == answered.data["error"]["code"]
            assert "Next:" in answered.message
            nothing_foreign(as_text(answered.model_dump(mode="json")))
            find_in_log(answered.data["error"]["error_id"])
        assert (await client.list_prompts()).prompts  # and the server goes on


@over(*WAYS)
async def test_an_exception_of_a_pinned_app_is_answered_the_same_way(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    pinned = {**environ, "INFERENCE_PIN": "hero=sandbox/slow"}
    async with connected(way, pinned, broken(when=lambda path: path == "/apps/run")) as client:
        assert "hero" in {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("hero", {"seconds": 1})

    assert ("internal_error", "unknown") == (error(result)["code"], error(result)["outcome"])
    nothing_foreign(as_text(result.model_dump(mode="json")))
    assert () == upstream.sandbox.ledger.starts


@over(*WAYS)
async def test_the_callers_mistakes_are_still_reported_as_such(way: Way, environ: dict[str, str]) -> None:
    async with connected(way, environ, broken(when=lambda _: True)) as client:
        for ask in (lambda: client.read_resource("inference://nothing/x"), lambda: client.get_prompt("nothing")):
            with refused() as errors:
                await ask()
            assert INTERNAL_ERROR != errors[0].error.code
        result = await client.call_tool("app_run", {"app": "sandbox/echo"})

    assert "invalid_input" == error(result)["code"]
