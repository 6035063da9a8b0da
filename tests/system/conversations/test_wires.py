"""A chat behind a platform that is away, slow or full (X-1, X-2, X-5, X-13, X-14), and every class of fault on every wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from inferencesh_mcp.api import http_client
from tests.conftest import Upstream, Way, until
from tests.results import payload
from tests.support.faults import Drop, FinAfter, Garble, RstAfter, Status, Swallow
from tests.system.conversations.rounds import MEMORY, chats, over
from tests.system.conversations.test_faults import ASKS, ASSISTANT, html, judge, talking
from tests.system.conversations.test_odd_lines import line
from tests.system.faults.proxy import Act, Proxy, proxying
from tests.tools.test_agents import chat

pytestmark = pytest.mark.anyio

WIRES = [Way(transport, era) for transport in ("stdio", "http") for era in ("2026", "2025")]
RUN = "/agents/run"
# Amid the answer, since a stream begins with what was said before.
STREAM = [
    # Each in its own turn: a stream begins with three lines for each turn before it, and two for the chat.
    RstAfter(lines=7),
    FinAfter(lines=12, cut=True),
    Garble(form="truncated", at=15),
    Garble(form="giant", at=18),
    Garble(form="text", at=21, text=line("agent_runs", "state", state="dreaming")),
    Garble(form="stale", at=24),
]


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Proxy]:
    async with proxying(upstream.url) as proxy:
        yield proxy


@pytest.fixture
def behind(environ: dict[str, str], proxy: Proxy) -> dict[str, str]:
    return environ | {"INFERENCE_BASE_URL": f"http://127.0.0.1:{proxy.port}"}


def posts(upstream: Upstream, path: str = RUN) -> int:
    return len(upstream.sandbox.ledger.requests("POST", path))


@pytest.mark.fault("X-1")
@over(*MEMORY)
async def test_a_message_that_never_left_is_sent_again(
    way: Way, behind: dict[str, str], upstream: Upstream, proxy: Proxy
) -> None:
    """A refused connection: the first one, and the one for what the agent waits for."""
    pauses = []

    async def open_again(seconds: float) -> None:
        pauses.append(seconds)
        await proxy.open()

    message, answer, _ = ASKS["result"]
    async with talking(way, behind, open_again) as client:
        proxy.shut()
        first = payload(await client.call_tool("agent_chat", message))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        last = payload(await client.call_tool("chat_respond", where | answer))

    assert ("answered", 1) == (last["status"], len(pauses))
    assert "hail" in last["text"]
    judge(upstream)


@pytest.mark.fault("X-1", "X-2")
@pytest.mark.parametrize("state", ["refused", "hanging"])
@over(*MEMORY)
async def test_a_message_to_an_unreachable_platform_was_not_started(
    way: Way, behind: dict[str, str], upstream: Upstream, proxy: Proxy, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so within its attempts, and the same call can be made again."""
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.2)  # ten seconds, else
    async with talking(way, behind) as client:
        proxy.shut() if state == "refused" else proxy.fill()
        error = payload(await chat(client, "Count to 3", agent=ASSISTANT))["error"]
        assert ("unavailable", "not_started", True) == (error["code"], error["outcome"], error["retry_safe"])
        assert 0 == posts(upstream)

        await proxy.open()
        assert "1 2 3" == payload(await chat(client, "Count to 3", agent=ASSISTANT))["text"]

    judge(upstream)


@pytest.mark.fault("X-2")
@over(MEMORY[0])
async def test_a_handshake_answered_with_garbage_starts_nothing(
    way: Way, behind: dict[str, str], upstream: Upstream, proxy: Proxy
) -> None:
    proxy.script.extend([Act(instead=b"HTTP/1.0 200 OK\r\n\r\n\0\xff" * 50)] * 20)
    async with talking(way, behind | {"INFERENCE_BASE_URL": f"https://127.0.0.1:{proxy.port}"}) as client:
        error = payload(await chat(client, "Count to 3", agent=ASSISTANT))["error"]

    assert ("unavailable", "not_started") == (error["code"], error["outcome"])
    judge(upstream, messages=0)


@pytest.mark.fault("X-5")
@over(*MEMORY)
async def test_two_matching_chats_are_not_adopted(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """The reply is lost, and another client said the same in the same second: nobody can tell whose is whose."""
    upstream.sandbox.faults.add(Swallow(), method="POST", path=RUN)
    async with (
        talking(way, environ) as client,
        talking(MEMORY[0], environ) as other,
        anyio.create_task_group() as group,
    ):
        results: list[Any] = []

        async def send() -> None:
            results.append(payload(await chat(client, "Count to 3", agent=ASSISTANT)))

        gate = upstream.sandbox.faults.hold("POST", "/chats/list", times=-1)  # it looks when both are there
        group.start_soon(send)
        await gate.reached.wait()
        await chat(other, "Count to 3", agent=ASSISTANT)
        gate.release()

    (result,) = results
    assert ("unknown", False) == (result["error"]["outcome"], result["error"].get("retry_safe", False))
    assert 2 == posts(upstream)
    judge(upstream, messages=2)


@pytest.mark.fault("X-5")
@pytest.mark.parametrize(("fault", "expected"), [(Swallow(), 2), (Drop(), 1)], ids=["taken", "not taken"])
@over(MEMORY[0])
async def test_another_live_calls_chat_is_not_adopted(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: Any, expected: int
) -> None:
    """The same caller said the same meanwhile, and knows which chat that is: the lost message began another, or none."""
    upstream.sandbox.faults.add(fault, method="POST", path=RUN)
    async with talking(way, environ) as client, anyio.create_task_group() as group:
        results: list[Any] = []

        async def send() -> None:
            results.append(payload(await chat(client, "Count to 3", agent=ASSISTANT)))

        gate = upstream.sandbox.faults.hold("POST", "/chats/list")  # it looks when both are there
        group.start_soon(send)
        await gate.reached.wait()
        results.append(payload(await chat(client, "Count to 3", agent=ASSISTANT)))
        gate.release()

    answered, lost_one = results
    assert "answered" == answered["status"]
    assert answered["chat_id"] != lost_one.get("chat_id")
    assert ("chat_id" in lost_one) == (expected == 2), "what was not taken is no chat's"
    judge(upstream, messages=expected)


@pytest.mark.fault("X-30")
@over(*MEMORY)
async def test_an_agent_whose_host_leaves_during_the_search_is_stopped(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    upstream.sandbox.faults.add(Swallow(), method="POST", path=RUN)
    gate = upstream.sandbox.faults.hold("POST", "/chats/list")
    async with talking(way, environ) as client:
        with anyio.move_on_after(20) as call:
            async with anyio.create_task_group() as group:
                arguments = {"message": "Count to 60 slowly", "agent": ASSISTANT}
                group.start_soon(client.call_tool, "agent_chat", arguments)
                await gate.reached.wait()
                call.cancel()
        await until(lambda: upstream.sandbox.ledger.stops)
        gate.release()

    assert [chat.id for chat in chats(upstream)] == [stop.chat_id for stop in upstream.sandbox.ledger.stops]
    judge(upstream, messages=1)


@pytest.mark.fault("X-14")
@over(*MEMORY)
async def test_an_endless_rate_limit_on_messages_is_an_error(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """429 for ever: as many requests as there are attempts, and nothing sent."""
    limit = Status(code=429, headers={"retry-after": "1"}, error="rate_limited")
    upstream.sandbox.faults.add(limit, method="POST", path=RUN, times=-1)
    async with talking(way, environ) as client:
        error = payload(await chat(client, "Count to 3", agent=ASSISTANT))["error"]

    assert ("rate_limited", "not_started", True) == (error["code"], error["outcome"], error["retry_safe"])
    assert posts(upstream) <= 5
    judge(upstream, messages=0)


@over(*WIRES)
async def test_faults_of_a_chat_are_handled_on_every_transport(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """One of each class: the message, the stream, what the agent is given, what nobody has heard of, and X-49."""
    faults = upstream.sandbox.faults
    message, answer, path = ASKS["approval"]
    async with talking(way, environ) as client:
        faults.add(Status(code=402), method="POST", path=RUN)
        refused = payload(await chat(client, "Count to 3", agent=ASSISTANT))["error"]
        faults.add(Drop(), method="POST", path="/chats/list", times=1)
        faults.add(Swallow(), method="POST", path=RUN)
        first = payload(await chat(client, "Count to 3", agent=ASSISTANT))

        faults.add(html(502), method="GET", path="/chats/*")  # X-15, of the first read
        texts = []
        for fault in STREAM:
            faults.add(fault, method="GET", path="/chats/*/stream")
            texts.append(payload(await chat(client, "Count to 4", agent=ASSISTANT, chat_id=first["chat_id"]))["text"])

        waiting = payload(await client.call_tool("agent_chat", message))
        where = {"chat_id": waiting["chat_id"], "invocation_id": waiting["pending"][0]["id"]}
        faults.add(Swallow(), method="POST", path=path)
        answered = payload(await client.call_tool("chat_respond", where | answer))
        again = payload(await client.call_tool("chat_respond", where | answer))["error"]

    assert ("payment_required", "not_started") == (refused["code"], refused["outcome"])
    assert ("answered", "1 2 3") == (first["status"], first["text"])
    assert ["1 2 3 4"] * len(STREAM) == texts
    assert ("answered", "conflict") == (answered["status"], again["code"])
    assert 1 == len(upstream.sandbox.ledger.decisions)
    assert 2 == len(chats(upstream))
    assert "html" not in json.dumps([refused, first, texts, answered, again])
    judge(upstream, messages=2 + len(STREAM))
