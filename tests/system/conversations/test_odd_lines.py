"""What a chat's stream and record may hold that nobody has heard of, and lines without measure: rows X-9 and X-10."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Upstream, Way
from tests.results import payload, text_of
from tests.support.faults import Garble, Status
from tests.system.conversations.rounds import MEMORY, over
from tests.system.conversations.test_faults import ASSISTANT, counted, judge, talking
from tests.system.faults.process_usage import peak_memory
from tests.tools.test_agents import chat

pytestmark = pytest.mark.anyio

MAX_LINE_BYTES = 4 * 1024 * 1024
WHOLE = ("answered", "1 2 3 4 5 6 7 8 9")


def line(event: Any, *fields: str, **data: Any) -> str:
    return json.dumps({"event": event, "data": data} | ({"fields": list(fields)} if fields else {}))


ODD = {
    "a status": line("chats", "status", status="pondering\u202e\u0007 <b>deeply</b>"),
    "a status that is a number": line("chats", "status", status=42),
    "no status": line("chats", "status", status=None),
    "a chat of nothing": line("chats"),
    "a run's state": line("agent_runs", "state", state="dreaming"),
    "a run's state that is an object": line("agent_runs", "state", state={"deep": [1, None]}),
    "no state of the run": line("agent_runs", "state", state=None),
    "a run of nothing": line("agent_runs"),
    "more fields": line("chats", "mood", "weather", mood={"deep": [1, None]}, weather="x" * 999),
    "an event": line("weather", id="w1", status="idle"),
    "an event that is a number": line(7, status="idle"),
    "an event that is an object": line({"chats": 1}, status="idle"),
    "no event": json.dumps({"data": {"status": "idle"}}),
    "fields that are no list": json.dumps({"event": "chats", "data": {"mood": 1}, "fields": "mood"}),
    "a message of nothing": line("chat_messages"),
    "a message whose id is a number": line("chat_messages", id=7, status="ready", content=[]),
    "a piece of no message": line("delta", seq=1, delta={"response": "ghost"}),
    "a piece of what nobody knows": line("delta", resource_id="m?", seq=99, delta={"hologram": [1]}),
    "a piece that is a number": line("delta", resource_id="m?", seq="one", delta=7),
    "an object far too deep": '{"event":"chats","data":' + "[" * 3000,
}


@pytest.mark.fault("X-10")
@over(MEMORY[0])
async def test_unknown_lines_end_no_turn(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """All of them amid the answer: they neither end the turn, nor get into the text."""
    result = await counted(way, environ, upstream, (Garble(form="text", at=6, text="\n".join(ODD.values())),))

    assert WHOLE == (result["status"], result["text"])
    judge(upstream, messages=2)


@pytest.mark.fault("X-10")
@over(*MEMORY)
async def test_a_chat_with_an_unknown_status_is_not_reported_as_ended(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Its text is told, what could hide or break a line is not, and what waits there is left alone."""
    async with talking(way, environ) as client:
        chat_id = payload(await chat(client, "My name is Ada.", agent=ASSISTANT))["chat_id"]
        parts = [{"type": "hologram", "hologram": {"x": 1}}, {"type": "text", "text": "so far\u202e"}, 7, {"text": 8}]
        tool = {
            "id": "t1",
            "type": "telepathy",
            "status": "levi\u202etating",
            "function": {"name": 5, "arguments": "{"},
        }
        record = {
            "id": chat_id, "status": "hibernating", "active_run": {"id": "r1", "state": "dreaming", "mood": []},
            "pending_interrupts": [{"id": "i1", "status": "floating", "reason": "whim"}, "none"],
            "chat_messages": [
                {"id": "m1", "role": "user", "order": 1, "status": "ready", "content": "Hi"},
                {"id": "m2", "role": "oracle", "order": 2, "status": "simmering", "content": parts},
                {"id": "m3", "role": "assistant", "order": 3, "content": parts, "tool_invocations": [tool, None]},
            ],
        }  # fmt: skip
        upstream.sandbox.faults.add(Status(code=200, body=json.dumps(record)), method="GET", path="/chats/*")
        result = await client.call_tool("chat_get", {"chat_id": chat_id})

    assert not result.is_error
    assert ("working", "so far\ufffd") == (payload(result)["status"], payload(result)["text"])
    assert not payload(result).get("pending")
    assert "\u202e" not in text_of(result) + json.dumps(payload(result), ensure_ascii=False)
    judge(upstream)


@pytest.mark.fault("X-9")
@pytest.mark.parametrize("form", ["giant", "endless"])
@over(MEMORY[1])
async def test_a_line_that_is_too_long_ends_the_stream_and_not_the_turn(
    way: Way, environ: dict[str, str], upstream: Upstream, form: Any
) -> None:
    result = await counted(way, environ, upstream, (Garble(form=form, at=6),))

    assert WHOLE == (result["status"], result["text"])
    judge(upstream, messages=2)


@pytest.mark.fault("X-9")
@pytest.mark.parametrize("form", ["giant", "endless"])
@over(Way("stdio", "2025"))
@pytest.mark.usefixtures("fresh")
async def test_a_line_that_is_too_long_is_not_held_in_memory(
    way: Way, environ: dict[str, str], upstream: Upstream, form: Any
) -> None:
    """The process grows by less than three times the longest line that is read."""
    async with talking(way, environ) as client:
        await chat(client, "Count to 3", agent=ASSISTANT)
        before = peak_memory()
        upstream.sandbox.faults.add(Garble(form=form, at=3), method="GET", path="/chats/*/stream")
        result = payload(await chat(client, "Count to 9", agent=ASSISTANT))
        grown = peak_memory() - before

    assert WHOLE == (result["status"], result["text"])
    assert grown < 3 * MAX_LINE_BYTES
    judge(upstream, messages=2)
