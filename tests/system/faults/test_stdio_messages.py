"""What a host sends on stdin that is not one plain message a line: served, or refused with an answer and a line in the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.stdio_messages import MAX_LINE_BYTES
from tests.conftest import Upstream, until
from tests.system.faults.process import HELLO, Piped, piped

pytestmark = [pytest.mark.anyio, pytest.mark.finding("F17")]
PARSE_ERROR, INVALID_REQUEST = -32700, -32600
LONG = {"seconds": 60, "steps": 60}
BOM = b"\xef\xbb\xbf"
Started = Callable[..., AbstractAsyncContextManager[Piped]]


@pytest.fixture
def server(environ: dict[str, str], tmp_path: Path) -> Started:
    """`async with server() as pipe:`."""
    return lambda **changed: piped(environ | changed, tmp_path / "stderr")


def raw(message: Any) -> bytes:
    return json.dumps(message).encode()


def request(number: Any, method: str = "ping", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


async def greet(pipe: Piped, version: str) -> None:
    await pipe.send({"id": "hello", "method": "initialize", "params": {**HELLO, "protocolVersion": version}})
    assert version == (await pipe.answered("hello"))["result"]["protocolVersion"]
    await pipe.send({"method": "notifications/initialized"})


async def refusals(pipe: Piped) -> list[Any]:
    """Id and code of every refusal so far, once a request that came after them is answered."""
    after = f"after {len(pipe.messages)}"
    await pipe.send(request(after))
    assert "result" in await pipe.answered(after)
    # Answers are written one after the other, but a refusal is not waited for by what comes after it.
    await until(lambda: len([message for message in messages(pipe) if "error" in message]) == lines(pipe))
    return [(message["id"], message["error"]["code"]) for message in messages(pipe) if "error" in message]


def messages(pipe: Piped) -> list[Any]:
    return [item for message in pipe.messages for item in (message if isinstance(message, list) else [message])]


def lines(pipe: Piped) -> int:
    """How many lines of the log tell of a message that was refused."""
    return pipe.log.read_text(encoding="utf-8").count("a message on stdin was refused")


@pytest.mark.parametrize("version", ["2025-11-25", "2025-03-26"])
async def test_a_byte_order_mark_before_the_first_message_is_skipped(server: Started, version: str) -> None:
    async with server() as pipe:
        await pipe.send(BOM + raw(request("hello", "initialize", **{**HELLO, "protocolVersion": version})))
        assert version == (await pipe.answered("hello"))["result"]["protocolVersion"]
        await pipe.close()
        assert await pipe.over() == 0
    assert lines(pipe) == 0


CALL = {"name": "app_run", "arguments": {"app": "sandbox/slow", "input": LONG}}
NO_MESSAGES: dict[str, tuple[bytes, list[Any]]] = {
    "text": (b"hello", [(None, PARSE_ERROR)]),
    "half a message": (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"na', [(7, PARSE_ERROR)]),
    "half a message, id first": (b'{"id":"7","jsonrpc":"2.0","method":"tools/call"', [(None, PARSE_ERROR)]),
    "broken in the middle, id last": (b'{"method":"x","params":{"a":},"jsonrpc":"2.0","id":7}', [(7, PARSE_ERROR)]),
    "an id that begins with 0": (b'{"jsonrpc":"2.0","id":01,"method":"ping","params":{"a":}}', [(None, PARSE_ERROR)]),
    "an id that is half a pair": (rb'{"jsonrpc":"2.0","id":"\ud800","method":1}', [("?", INVALID_REQUEST)]),
    "a batch with such an id": (rb'[{"jsonrpc":"2.0","id":"\ud800","method":"ping"}]', [("?", INVALID_REQUEST)]),
    "an id that holds a tab": (b'{"jsonrpc":"2.0","id":"a\tb","method":"ping","params":{"a":}}', [(None, PARSE_ERROR)]),
    "an id inside": (b'{"method":"x","params":{"a":,"id":7},"jsonrpc":"2.0"}', [(None, PARSE_ERROR)]),
    "no UTF-8": (raw(request("a", **CALL)).replace(b"sandbox/slow", b"sandbox/\xff"), [("a", PARSE_ERROR)]),
    "no UTF-8 at all": (b"\xff\xfe\xfd", [(None, PARSE_ERROR)]),
    "a number": (b"17", [(None, INVALID_REQUEST)]),
    "a null": (b"null", [(None, INVALID_REQUEST)]),
    "an object": (b"{}", [(None, INVALID_REQUEST)]),
    "a request of another version": (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', [(7, INVALID_REQUEST)]),
    "a request without a method": (b'{"jsonrpc":"2.0","id":7}', [(7, INVALID_REQUEST)]),
    "params that are none": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":3}', [(7, INVALID_REQUEST)]),
    "an id that is none": (b'{"jsonrpc":"2.0","id":true,"method":"ping","params":3}', [(None, INVALID_REQUEST)]),
    "deep": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":' + b"[" * 500 + b"]" * 500 + b"}}", [(7, INVALID_REQUEST)]),
    "deeper": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":' + b"[" * 50_000, [(7, PARSE_ERROR)]),
}  # fmt: skip


async def test_an_invalid_message_is_refused_with_its_id_if_readable(server: Started, upstream: Upstream) -> None:
    expected: list[Any] = []
    async with server() as pipe:
        await greet(pipe, "2025-11-25")
        for name, (line, refused) in NO_MESSAGES.items():
            expected += refused
            await pipe.send(line)
            assert expected == await refusals(pipe), name
        await pipe.close()
        assert await pipe.over() == 0
    assert () == upstream.sandbox.ledger.starts


@pytest.mark.parametrize(
    "line", [b'{"jsonrpc":"2.0","id":7,"error":3}', b'{"jsonrpc":"2.0","id":7,"result":{},"error":3}']
)
async def test_a_malformed_response_gets_no_answer(server: Started, line: bytes) -> None:
    async with server() as pipe:
        await greet(pipe, "2025-11-25")
        await pipe.send(line, request("after"))
        await pipe.answered("after")
        await pipe.close()
        assert await pipe.over() == 0
    assert [] == pipe.answers(7)
    assert [] == pipe.answers(None)


async def test_empty_lines_are_skipped(server: Started) -> None:
    async with server() as pipe:
        await pipe.send(b"", b"\r", b"  ")
        await greet(pipe, "2025-11-25")
        assert [] == await refusals(pipe)


FILLER = "x" * MAX_LINE_BYTES
TOO_LONG: dict[str, tuple[bytes, Any]] = {
    "as Python writes it": (raw({"jsonrpc": "2.0", "id": "long", "method": "tools/call", "params": {"a": FILLER}}), "long"),
    "as TypeScript writes it": (raw({"method": "tools/call", "params": {"a": FILLER, "id": 8}, "jsonrpc": "2.0", "id": 9}), 9),
    "a notification": (raw({"jsonrpc": "2.0", "method": "x", "params": {"id": 9, "a": FILLER}}), None),
    "an answer": (raw({"jsonrpc": "2.0", "id": 9, "result": {"a": FILLER}}), None),
    "no message": (FILLER.encode() + b"xx", None),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_LONG)
async def test_a_line_that_is_too_long_is_refused_and_the_next_is_answered(server: Started, name: str) -> None:
    line, number = TOO_LONG[name]
    async with server() as pipe:
        await greet(pipe, "2025-11-25")
        await pipe.send(line)
        assert [(number, INVALID_REQUEST)] == await refusals(pipe)
        await pipe.close()
        assert await pipe.over() == 0


async def test_a_line_of_the_maximum_length_is_answered(server: Started) -> None:
    async with server() as pipe:
        await greet(pipe, "2025-11-25")
        around = len(raw(request("long", a="")))
        for number, more in (("long", -1), ("lonh", 0)):
            await pipe.send(raw(request(number, a="x" * (MAX_LINE_BYTES - around + more))))
        assert [("lonh", INVALID_REQUEST)] == await refusals(pipe)
        assert "result" in pipe.answers("long")[0]


async def test_a_batch_is_answered_as_a_batch_in_versions_that_have_batches(
    server: Started, upstream: Upstream
) -> None:
    """Calls, notifications and what is no message: an array with an answer for each that has one."""
    async with server() as pipe:
        await greet(pipe, "2025-03-26")
        call = {"name": "app_run", "arguments": {"app": "sandbox/echo", "input": {"n": 1}}}
        batch = [request(1, "tools/call", **call), {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
                 request(2), 3, request(4, "no/such"), request(2), request("again", "initialize", **HELLO)]  # fmt: skip
        await pipe.send(raw(batch))
        await until(lambda: [message for message in pipe.messages if isinstance(message, list)])
        (answers,) = [message for message in pipe.messages if isinstance(message, list)]
        await pipe.send(raw([{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]), raw([]))
        await until(lambda: [message for message in pipe.messages if isinstance(message, dict) and "error" in message])
        await pipe.close()
        assert await pipe.over() == 0

    by_id = {answer["id"]: answer for answer in answers if "result" in answer}
    assert {1, 2} == by_id.keys()
    assert "task" in by_id[1]["result"]["content"][0]["text"]
    refused = {answer["id"]: answer["error"]["code"] for answer in answers if "error" in answer}
    assert {None: INVALID_REQUEST, 4: -32601, 2: INVALID_REQUEST, "again": INVALID_REQUEST} == refused
    assert len(upstream.sandbox.ledger.starts) == 1


async def test_a_batch_is_answered_without_its_cancelled_request(server: Started, upstream: Upstream) -> None:
    async with server() as pipe:
        await greet(pipe, "2025-03-26")
        await pipe.send(raw([request(1, "tools/call", **CALL), request(2)]))
        await until(lambda: upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))
        await pipe.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
        await until(lambda: [message for message in pipe.messages if isinstance(message, list)])
        assert [[2]] == [[answer["id"] for answer in answers] for answers in pipe.messages if isinstance(answers, list)]
        await until(lambda: upstream.sandbox.ledger.cancels)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25", None])
async def test_each_request_of_a_batch_is_refused_in_versions_without_batches(
    server: Started, upstream: Upstream, version: str | None
) -> None:
    """Before the handshake too; what was sent with an id is answered by that id."""
    async with server() as pipe:
        if version:
            await greet(pipe, version)
        await pipe.send(raw([request(1, "tools/call", **CALL), request("b")]), raw([3]))
        await until(lambda: len([message for message in messages(pipe) if "error" in message]) == 3)
        refused = [(message["id"], message["error"]["code"]) for message in messages(pipe) if "error" in message]
        assert [(1, INVALID_REQUEST), ("b", INVALID_REQUEST), (None, INVALID_REQUEST)] == refused
        await pipe.close()
        assert await pipe.over() == 0
    assert () == upstream.sandbox.ledger.starts


async def test_the_last_line_is_answered_before_the_process_ends(server: Started) -> None:
    async with server() as pipe:
        await pipe.send(*[b"no message"] * 20)
        await pipe.close()
        assert await pipe.over() == 0
        await until(lambda: len(pipe.answers(None)) == 20)


@pytest.mark.finding("S2")
async def test_a_host_that_does_not_read_its_refusals_can_still_close(environ: dict[str, str], tmp_path: Path) -> None:
    async with piped(environ, tmp_path / "stderr", reading=False) as pipe:
        await pipe.send(*[raw({"id": "x" * 9000, "method": "ping"})] * 100)  # ids that fill the pipe in the answers
        await pipe.close()
        assert await pipe.over() == 0


MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
DISCOVER = request("discover", "server/discover", _meta=MODERN)


@pytest.mark.finding("F16")
@pytest.mark.parametrize("waits", [True, False], ids=["answered", "at once"])
async def test_a_handshake_after_server_discover_is_accepted(server: Started, upstream: Upstream, waits: bool) -> None:
    """Whether its answer came or not: the client did not wait for it. Then the connection is one of the older era."""
    async with server() as pipe:
        await pipe.send(DISCOVER)
        if waits:
            await pipe.answered("discover")
        await greet(pipe, "2025-11-25")
        assert "result" in await pipe.answered("discover")
        await pipe.run(1, "echo", n=1)
        assert {"n": 1} == (await pipe.answered(1))["result"]["structuredContent"]["output"]
        await pipe.run(2, "slow", **LONG)
        await until(lambda: len(upstream.sandbox.ledger.starts) == 2)
        await pipe.close()
        assert await pipe.over() == 0
    assert len(upstream.sandbox.ledger.cancels) == 1


@pytest.mark.finding("F16")
async def test_a_handshake_after_a_call_of_the_newer_version_is_refused(server: Started) -> None:
    async with server() as pipe:
        await pipe.send(DISCOVER, request("list", "tools/list", _meta=MODERN))
        await pipe.answered("list")
        await pipe.send(request("hello", "initialize", **HELLO))
        assert -32022 == (await pipe.answered("hello"))["error"]["code"]
        await pipe.send(request("more", "tools/list", _meta=MODERN))
        assert "result" in await pipe.answered("more")


@pytest.mark.finding("F16")
async def test_a_connection_that_only_discovers_stays_in_the_newer_version(server: Started) -> None:
    async with server() as pipe:
        for number in range(3):
            await pipe.send(request(f"discover {number}", "server/discover", _meta=MODERN))
            assert "result" in await pipe.answered(f"discover {number}")
        await pipe.send(request("list", "tools/list", _meta=MODERN))
        assert "result" in await pipe.answered("list")
        await pipe.close()
        assert await pipe.over() == 0
