"""What goes wrong on the wire of a chat: one message, one decision and one result at most, and never an untrue word of it.

The kinds of X-1 to X-16, applied to the message, to what the agent is given, and to the chat's stream; X-49.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import anyio
import pytest
from mcp import Client

from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from tests.conftest import MODES, Upstream, Way, connected, in_memory, until
from tests.results import payload, text_of
from tests.support.faults import Drop, EndAtOnce, Fault, FinAfter, Garble, RstAfter, Stall, Status, Swallow
from tests.system.conversations.rounds import MEMORY, chats, over
from tests.tools.test_agents import PERSON, chat

pytestmark = pytest.mark.anyio

HURRY = 50
"""How many times faster the pauses of a server in memory pass."""
WIRES = [*MEMORY, Way("stdio", "2025"), Way("http", "2026")]
HTML = "<html><body><h1>502 Bad Gateway</h1>nginx</body></html>"
ASSISTANT = "sandbox/assistant"


@asynccontextmanager
async def talking(way: Way, environ: dict[str, str], sleep: Any = None) -> AsyncIterator[Client]:
    """A host whose person may decide by their key; in memory the server's pauses pass quickly, or are `sleep`."""
    settings = environ | {"INFERENCE_API_KEY": PERSON, "INFERENCE_APPROVALS": "host"}
    if way.transport != "memory":
        async with connected(way, settings) as client:
            yield client
        return

    async def hurry(seconds: float) -> None:
        await anyio.sleep(seconds / HURRY)

    network = functools.partial(Transport, sleep=sleep or hurry)
    with anyio.fail_after(40):
        async with Client(
            in_memory(build(Settings.from_environ(settings), network=network)), mode=MODES[way.era]
        ) as client:
            yield client


def html(code: int) -> Status:
    return Status(code=code, headers={"content-type": "text/html"}, body=HTML)


def judge(upstream: Upstream, *, messages: int = 1) -> None:
    """Nothing happened twice, whatever was asked for."""
    ledger = upstream.sandbox.ledger
    assert messages == len(ledger.messages)
    for entries in (ledger.results, ledger.decisions, ledger.invocations):
        ids = [entry.invocation_id for entry in entries]
        assert len(ids) == len(set(ids))


# The message

TAKEN: dict[str, tuple[Fault, ...]] = {
    "X-3 reply swallowed": (Swallow(),),
    "X-12 over at once": (EndAtOnce(),),
    "X-13 429 and Retry-After": (Status(code=429, headers={"retry-after": "1"}),),
}
REFUSED: dict[str, tuple[Fault, str]] = {
    "X-17 400": (Status(code=400, error="validation_error"), "invalid_input"),
    "X-17 401": (Status(code=401), "key_refused"),
    "X-17 402": (Status(code=402), "payment_required"),
    "X-17 403": (Status(code=403), "forbidden"),
    "X-17 404": (Status(code=404), "not_found"),
}
LOST: dict[str, Fault] = {
    "X-3 dropped": Drop(),
    "X-15 502 and a page": html(502),
    "X-16 500": Status(code=500),
    "X-16 503": Status(code=503),
    "not JSON": Status(code=200, body="{"),
}


@pytest.mark.parametrize("further", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("fault", TAKEN)
@over(*MEMORY)
async def test_a_message_that_arrived_despite_a_fault_is_sent_once(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: str, further: bool
) -> None:
    async with talking(way, environ) as client:
        before = payload(await chat(client, "My name is Ada.", agent=ASSISTANT))["chat_id"] if further else ""
        for item in TAKEN[fault]:
            upstream.sandbox.faults.add(item, method="POST", path="/agents/run")
        result = payload(await chat(client, "Count to 3", agent=ASSISTANT, **({"chat_id": before} if further else {})))

    assert "answered" == result["status"]
    if fault != "X-12 over at once":
        assert "1 2 3" == result["text"]
    assert not before or before == result["chat_id"]
    judge(upstream, messages=2 if further else 1)


@pytest.mark.parametrize("further", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("fault", LOST)
@over(MEMORY[0])
async def test_a_message_with_unknown_outcome_is_not_sent_again(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: str, further: bool
) -> None:
    """It is looked for, and not found: nobody can tell, and the chat that it was for is named."""
    async with talking(way, environ) as client:
        before = payload(await chat(client, "My name is Ada.", agent=ASSISTANT))["chat_id"] if further else ""
        upstream.sandbox.faults.add(LOST[fault], method="POST", path="/agents/run")
        result = await chat(client, "Count to 3", agent=ASSISTANT, **({"chat_id": before} if further else {}))

    error = payload(result)["error"]
    assert result.is_error
    assert "unknown" == error["outcome"]
    assert not error.get("retry_safe")
    assert "html" not in text_of(result)
    assert before in error["next"]
    assert (2 if further else 1) == len(upstream.sandbox.ledger.requests("POST", "/agents/run"))
    judge(upstream, messages=1 if further else 0)


@over(*WIRES[2:])
async def test_a_message_whose_reply_was_lost_is_found_on_every_transport(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    upstream.sandbox.faults.add(Swallow(), method="POST", path="/agents/run")
    async with talking(way, environ) as client:
        result = payload(await chat(client, "Count to 3", agent=ASSISTANT))

    assert ("answered", "1 2 3") == (result["status"], result["text"])
    judge(upstream)


@pytest.mark.parametrize("fault", REFUSED)
@over(*MEMORY)
async def test_a_refused_message_was_not_started(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: str
) -> None:
    refusal, code = REFUSED[fault]
    upstream.sandbox.faults.add(refusal, method="POST", path="/agents/run")
    async with talking(way, environ) as client:
        error = payload(await chat(client, "Count to 3", agent=ASSISTANT))["error"]

    assert (code, "not_started") == (error["code"], error["outcome"])
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/agents/run"))
    judge(upstream, messages=0)


# The stream, and the reads around it

BROKEN: dict[str, tuple[Fault, ...]] = {
    "X-6 reset at once": (RstAfter(lines=0),),
    "X-6 reset after three, twice": (RstAfter(lines=3), RstAfter(lines=3)),
    "X-7 ended after two": (FinAfter(lines=2),),
    "X-7 cut off": (FinAfter(lines=5, cut=True),),
    "X-8 a bad line": (Garble(form="bad", at=2),),
    "X-8 half a line": (Garble(form="truncated", at=3),),
    "X-8 CRLF": (Garble(form="crlf"),),
    "X-8 BOM": (Garble(form="bom"),),
    "X-8 blank lines": (Garble(form="blank"),),
    "X-9 a giant line": (Garble(form="giant", at=2),),
    "X-11 a line twice": (Garble(form="duplicate", at=4),),
    "X-11 the first again": (Garble(form="stale", at=6),),
    "X-14 429": (Status(code=429, headers={"retry-after": "1"}),),
    "X-15 502": (html(502),),
    "X-16 500 thrice": (Status(code=500),) * 3,
}


async def counted(way: Way, environ: dict[str, str], upstream: Upstream, faults: tuple[Fault, ...]) -> Any:
    """A second turn of a chat, whose stream opens before its message is sent."""
    async with talking(way, environ) as client:
        first = payload(await chat(client, "My name is Ada.", agent=ASSISTANT))["chat_id"]
        for fault in faults:
            upstream.sandbox.faults.add(fault, method="GET", path="/chats/*/stream")
        return payload(await chat(client, "Count to 9", agent=ASSISTANT, chat_id=first))


@pytest.mark.parametrize("fault", BROKEN)
@over(MEMORY[0])
async def test_a_broken_stream_loses_and_repeats_nothing(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: str
) -> None:
    result = await counted(way, environ, upstream, BROKEN[fault])

    assert ("answered", "1 2 3 4 5 6 7 8 9") == (result["status"], result["text"])
    judge(upstream, messages=2)


@pytest.mark.parametrize("fault", ["X-6 reset after three, twice", "X-8 half a line"])
@over(*WIRES[1:])
async def test_a_broken_stream_loses_nothing_on_every_transport(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: str
) -> None:
    result = await counted(way, environ, upstream, BROKEN[fault])

    assert ("answered", "1 2 3 4 5 6 7 8 9") == (result["status"], result["text"])
    judge(upstream, messages=2)


@over(*MEMORY)
async def test_an_unreadable_chat_is_reported_as_started_with_its_id(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The message was taken and the key is refused ever after: no second message, and the chat is named."""
    upstream.sandbox.faults.add(Status(code=401), method="GET", path="/chats/**", times=-1)
    async with talking(way, environ) as client:
        result = await chat(client, "Count to 3", agent=ASSISTANT)

    error = payload(result)["error"]
    assert result.is_error
    assert ("started", False) == (error["outcome"], error["retry_safe"])
    assert chats(upstream)[0].id in error["next"]
    judge(upstream)


# What the agent is given

WEATHER = {
    "core_app": {"ref": "sandbox/llm"},
    "tools": [
        {"name": "get_weather", "description": "Get the weather of a city", "type": "client",
         "client": {"input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
    ],
}  # fmt: skip
ASKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "result": ({"message": "What is the weather in Paris?", "config": WEATHER}, {"result": "hail"}, "/tools/*"),
    "form": ({"message": "Show me a form", "agent": "sandbox/desk"}, {"form_data": {"name": "Ada"}}, "/tools/*"),
    "approval": ({"message": "Draw a cat", "agent": "sandbox/approver"}, {"decision": "accept"}, "/tools/*/invoke"),
    "rejection": (
        {"message": "Draw a cat", "agent": "sandbox/approver"},
        {"decision": "reject", "reason": "no"},
        "/tools/*/reject",
    ),
}
GIVEN: dict[str, tuple[Fault, str]] = {
    "dropped": (Drop(), "unknown"),
    "swallowed": (Swallow(), "answered"),
    "500": (Status(code=500), "unknown"),
    "502 and a page": (html(502), "unknown"),
    "503 and Retry-After": (Status(code=503, headers={"retry-after": "1"}), ""),
    "429 and Retry-After": (Status(code=429, headers={"retry-after": "1"}), ""),
    "403": (Status(code=403), "not_started"),
}


async def send_once(
    way: Way, environ: dict[str, str], upstream: Upstream, asks: str, fault: str
) -> tuple[str, Any, dict[str, Any], dict[str, Any]]:
    """Give the agent what it asks for, with a fault; then look at the chat, and give it once more."""
    message, answer, path = ASKS[asks]
    async with talking(way, environ) as client:
        first = payload(await client.call_tool("agent_chat", message))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        upstream.sandbox.faults.add(GIVEN[fault][0], method="POST", path=path)
        broken = await client.call_tool("chat_respond", where | answer)
        again = payload(await client.call_tool("chat_respond", where | answer))
        last = payload(await client.call_tool("chat_get", {"chat_id": first["chat_id"], "wait_seconds": 10}))
    return first["chat_id"], broken, again, last


def honest(upstream: Upstream, chat_id: str, fault: str, broken: Any, again: Any, last: Any) -> None:
    judge(upstream)
    ledger = upstream.sandbox.ledger
    assert 1 == len(ledger.results) + len(ledger.decisions)
    assert "answered" == last["status"], "what was given in the end is what the agent goes on with"
    expected = GIVEN[fault][1]
    if "error" not in payload(broken):  # it got through after all
        assert "answered" == payload(broken)["status"]
        assert ("answered", "conflict") == (expected, again["error"]["code"])
        return
    error = payload(broken)["error"]
    assert chat_id in error["next"], "the chat is named"
    assert not error.get("retry_safe"), "and it is read before anything is given again"
    assert error["outcome"] in ({expected} if expected else {"unknown", "not_started"})
    assert "html" not in text_of(broken)
    assert "answered" == again["status"]


@pytest.mark.parametrize(
    ("asks", "fault"),
    [*product(("result", "approval"), GIVEN), *product(("form", "rejection"), ("dropped", "swallowed"))],
)
@over(MEMORY[0])
async def test_a_result_for_an_agent_is_sent_once(
    way: Way, environ: dict[str, str], upstream: Upstream, asks: str, fault: str
) -> None:
    chat_id, broken, again, last = await send_once(way, environ, upstream, asks, fault)

    honest(upstream, chat_id, fault, broken, again, last)


@pytest.mark.parametrize(("asks", "fault"), [("result", "swallowed"), ("approval", "swallowed")])
@over(*WIRES[1:])
async def test_a_result_for_an_agent_is_sent_once_on_every_transport(
    way: Way, environ: dict[str, str], upstream: Upstream, asks: str, fault: str
) -> None:
    chat_id, broken, again, last = await send_once(way, environ, upstream, asks, fault)

    honest(upstream, chat_id, fault, broken, again, last)


@pytest.mark.fault("X-49")
@pytest.mark.finding("S8")
@pytest.mark.parametrize("asks", ASKS)
@over(MEMORY[0])
async def test_the_same_result_four_times_at_once_is_sent_once(
    way: Way, environ: dict[str, str], upstream: Upstream, asks: str
) -> None:
    """The first is on its way while the others find the chat waiting still; they are told that it was answered."""
    message, answer, path = ASKS[asks]
    results: list[Any] = []
    async with talking(way, environ) as client:
        first = payload(await client.call_tool("agent_chat", message))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        ledger = upstream.sandbox.ledger
        gate = upstream.sandbox.faults.hold("POST", path, times=-1)

        async def respond() -> None:
            results.append(payload(await client.call_tool("chat_respond", where | answer)))

        async with anyio.create_task_group() as group:
            group.start_soon(respond)
            await gate.reached.wait()
            reads = len(ledger.requests("GET", "/chats/*"))
            for _ in range(3):
                group.start_soon(respond)
            await until(lambda: len(ledger.requests("GET", "/chats/*")) >= reads + 3)
            gate.release()

    judge(upstream)
    assert 1 == len(ledger.requests("POST", path))
    assert 1 == len(ledger.results) + len(ledger.decisions)
    assert ["answered", *["conflict"] * 3] == sorted(
        result.get("status") or result["error"]["code"] for result in results
    )


@pytest.mark.fault("X-49")
@over(MEMORY[0])
async def test_a_result_after_the_agent_was_stopped_is_refused(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The chat is stopped while it waits; nothing is sent for what comes too late."""
    async with talking(way, environ) as client:
        first = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))
        await client.call_tool("chat_stop", {"chat_id": first["chat_id"]})
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        late = await client.call_tool("chat_respond", {**where, "decision": "accept"})

    assert ("conflict", "not_started") == (payload(late)["error"]["code"], payload(late)["error"]["outcome"])
    assert () == upstream.sandbox.ledger.decisions
    assert () == upstream.sandbox.ledger.invocations
    assert () == upstream.sandbox.ledger.requests("POST", "/tools/**")


@over(MEMORY[0])
async def test_a_silent_chat_is_handed_over(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """A stream that stalls does not hold the call beyond its wait; the answer names the chat and the next call."""
    upstream.sandbox.faults.add(Stall(lines=2), method="GET", path="/chats/*/stream", times=-1)
    async with connected(way, environ | {"INFERENCE_WAIT_SECONDS": "1"}) as client:
        result = payload(await chat(client, "Count to 30 slowly", agent=ASSISTANT))

    assert "working" == result["status"]
    assert f'chat_get(chat_id="{result["chat_id"]}"' in result["next"]
    judge(upstream)
