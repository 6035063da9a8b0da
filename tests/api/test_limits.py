"""What upstream may cost: values in an answer, fields of a stream, messages of a chat, large answers at a time (S4, S11)."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferencesh_mcp.api import chat_state, responses
from inferencesh_mcp.api import json as api_json
from inferencesh_mcp.api import transport as transports
from inferencesh_mcp.api.chat_models import Chat
from inferencesh_mcp.api.chat_state import ChatState
from inferencesh_mcp.api.json import MOST_VALUES, NdjsonReader, NotJson, parse, too_many_values
from inferencesh_mcp.api.retry import Operation
from inferencesh_mcp.api.task_state import FIELDS, merge
from inferencesh_mcp.api.transport import Transport
from tests.conftest import listening, until

pytestmark = pytest.mark.anyio

TINY = [b"[]", b"{}", b"0", b'""', b'{"a":{}}']


@pytest.mark.finding("S4")
@pytest.mark.parametrize("tiny", TINY)
def test_tiny_values_without_end_are_refused_before_they_take_memory(tiny: bytes) -> None:
    raw = b"[" + b",".join([tiny] * 2_000_000) + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(NotJson, match="values"):
            parse(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 6 * len(raw)


@pytest.mark.finding("S4")
@pytest.mark.parametrize("text", ["[{,", '["\\", [', "\\", '\\"', "\\\\", '","', "\u00e9[\U0001f600{"], ids=range(7))
def test_what_stands_in_a_text_is_no_value(text: str) -> None:
    raw = json.dumps({"output": text * MOST_VALUES, "more": [text] * 100}).encode()

    assert not too_many_values(raw)
    assert text * MOST_VALUES == parse(raw)["output"]


def test_as_many_values_as_may_be_are_read() -> None:
    assert MOST_VALUES - 1 == len(parse(b"[" + b",".join([b"7"] * (MOST_VALUES - 1)) + b"]"))


def test_values_are_not_hidden_by_another_encoding() -> None:
    hidden = json.dumps({"a\u2222": [[]] * MOST_VALUES}).encode("utf-16-le")

    assert too_many_values(hidden)


@pytest.mark.finding("S11")
def test_a_task_keeps_no_field_that_a_task_has_not() -> None:
    record = {"id": "t", "status": "running"}
    for number in range(1_000):
        record = merge(record, {"data": {"id": "t", f"new_{number}": "x"}, "fields": [f"new_{number}"]})
        record = merge(record, {"event": "delta", "data": {"delta": {f"new_{number}": "x", "response": "a"}}})

    assert record.keys() <= FIELDS | {"streamed"}
    assert "a" * 1_000 == record["streamed"]


@pytest.mark.finding("S11")
def test_large_lines_of_one_connection_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is read then, and a new connection opened; small lines go on for ever."""
    monkeypatch.setattr(api_json, "LARGE_LINES_LIMIT", 5 * api_json.LARGE_LINE)
    large = json.dumps({"id": "t", "output": "x" * api_json.LARGE_LINE}).encode() + b"\n"
    lines, small = NdjsonReader(), NdjsonReader()

    told = [len(lines.feed(large)) for _ in range(8)]
    beats = sum(len(small.feed(b'{"type":"heartbeat"}\n' * 1_000)) for _ in range(100))

    assert ([1] * 4 + [0] * 4, True) == (told, lines.too_long)
    assert (100_000, False) == (beats, small.too_long)


@pytest.mark.finding("S11")
def test_a_chat_keeps_so_many_messages_and_so_much_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are kept. Fields that no chat and no message has are not."""
    monkeypatch.setattr(chat_state, "MOST_KEPT", 100_000)
    monkeypatch.setattr(chat_state, "MOST_MESSAGES", 50)
    many, large, pieces = (ChatState(Chat(id="c", status="busy")) for _ in range(3))

    for number in range(200):
        name = f"m{number}"
        many.apply({"event": "chat_messages", "data": {"id": name, "order": number, f"odd_{number}": "x" * 1_000}})
        many.apply({"event": "chats", "data": {"id": "c", "status": "busy", f"odd_{number}": "x" * 1_000}})
        text = [{"type": "text", "text": "x" * 30_000}]
        large.apply({"event": "chat_messages", "data": {"id": name, "order": number, "content": text}})
        for piece in (1, 2):
            pieces.apply({"event": "delta", "data": {"resource_id": name, "seq": piece, "delta": "x" * 15_000}})

    assert [f"m{number}" for number in range(150, 200)] == [one.id for one in many.chat.chat_messages]
    assert ["m197", "m198", "m199"] == [one.id for one in large.chat.chat_messages]
    assert sum(len(one.streamed) for one in pieces.chat.chat_messages) <= 100_000
    assert "x" * 30_000 == pieces.chat.chat_messages[-1].streamed


@pytest.mark.finding("S4")
async def test_so_many_large_answers_are_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for a place. A small one is never behind them."""
    monkeypatch.setattr(responses, "LARGE_BODY", 10_000)
    monkeypatch.setattr(transports, "LARGE_ANSWERS_LIMIT", 2)
    waiting, release = 0, anyio.Event()

    async def large(_: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            nonlocal waiting
            yield b'{"a": "' + b"x" * 20_000
            waiting += 1
            await release.wait()
            yield b'"}'

        from starlette.responses import StreamingResponse

        return StreamingResponse(body(), media_type="application/json")

    async def small(_: Request) -> Response:
        return Response(b'{"a": 1}', media_type="application/json")

    done: list[object] = []
    async with listening(Starlette(routes=[Route("/large", large), Route("/small", small)])) as url:
        transport = Transport(url)

        async def ask(path: str) -> None:
            done.append(await transport.call(Operation.READ, "GET", path, None))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask, "/large")
            await until(lambda: waiting == 5)
            await until(lambda: transport._large_answers.value == 0)
            held = transport._large_answers.statistics().tasks_waiting
            await ask("/small")
            before = list(done)
            release.set()
        await transport.aclose()

    assert ([{"a": 1}], 6) == (before, len(done))
    assert held <= 3
