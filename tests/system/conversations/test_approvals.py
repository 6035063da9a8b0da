"""What needs a person's approval: whatever becomes of the question, it is carried out at most once, and only as shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from tests.conftest import Upstream, Way, callers, until
from tests.results import payload
from tests.support.faults import Drop, Fault, Stall, Status, Swallow
from tests.system.conversations.rounds import (
    HERE,
    MEMORY,
    MODERN,
    OTHER,
    chats,
    over,
    send_round,
    sent_once,
    waiting_in,
)
from tests.system.faults.process import HELLO, piped
from tests.tools.test_agents import PERSON, answer_with, asking, chat

pytestmark = pytest.mark.anyio

DRAW = {"message": "Draw a cat", "agent": "sandbox/approver"}
APPROVE = {"decision": "approve"}
REFUSED = -32602


def drawn(upstream: Upstream) -> int:
    """How often the tool was really used."""
    return len([invocation for invocation in upstream.sandbox.ledger.invocations if invocation.tool == "draw"])


def decided(upstream: Upstream) -> list[str]:
    return [decision.decision for decision in upstream.sandbox.ledger.decisions]


@over(*HERE)
async def test_a_dismissed_question_can_be_asked_again_and_is_answered_once(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Dismissing decides nothing; chat_respond asks once more, and what the person says then counts."""
    answers = [ElicitResult(action="cancel"), ElicitResult(action="accept", content=APPROVE)]

    async def answer(_params: ElicitRequestFormParams) -> ElicitResult:
        return answers.pop(0)

    async with asking(way, environ, answer) as client:
        first = payload(await chat(client, **DRAW))
        before = decided(upstream)
        again = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        second = payload(await client.call_tool("chat_respond", again))
        third = await client.call_tool("chat_respond", again)

    assert ("waiting", []) == (first["status"], before)
    assert "chat_respond" in first["next"]
    assert "answered" == second["status"]
    assert (["invoke"], 1, []) == (decided(upstream), drawn(upstream), answers)
    assert "waiting" != payload(third).get("status")


async def test_an_invalid_answer_decides_nothing(environ: dict[str, str], upstream: Upstream, tmp_path: Path) -> None:
    """A host of the older era that answers in a shape of its own: the model must not hear that nothing was started."""
    capable = HELLO | {"capabilities": {"elicitation": {}}}
    async with piped(environ | {"INFERENCE_API_KEY": PERSON}, tmp_path / "stderr") as pipe:
        await pipe.send(
            {"id": "hello", "method": "initialize", "params": capable}, {"method": "notifications/initialized"}
        )
        await pipe.send({"id": "chat", "method": "tools/call", "params": {"name": "agent_chat", "arguments": DRAW}})

        def questions() -> list[Any]:
            return [message["id"] for message in pipe.messages if message.get("method") == "elicitation/create"]

        await until(questions)
        await pipe.send({"id": questions()[0], "result": {"action": "approve"}})
        result = (await pipe.answered("chat"))["result"]

    assert ("waiting", False) == (result["structuredContent"].get("status"), result["isError"])
    assert ([], True) == (decided(upstream), sent_once(upstream))


@over(*HERE)
async def test_two_people_who_approve_at_once_invoke_it_once(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The same question is open in two calls, and both are answered with yes in the same moment."""
    questions, both = [0], anyio.Event()

    async def answer(_params: ElicitRequestFormParams) -> ElicitResult:
        questions[0] += 1
        if questions[0] == 1:  # the message's own question
            return ElicitResult(action="cancel")
        if questions[0] == 3:
            both.set()
        await both.wait()
        return ElicitResult(action="accept", content=APPROVE)

    results: list[CallToolResult] = []
    async with asking(way, environ, answer) as client:
        first = payload(await chat(client, **DRAW))
        again = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}

        async def respond() -> None:
            results.append(await client.call_tool("chat_respond", again))

        async with anyio.create_task_group() as group:
            group.start_soon(respond)
            group.start_soon(respond)

    assert (["invoke"], 1) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)
    assert any(payload(result).get("status") == "answered" for result in results)
    for result in results:
        assert (
            payload(result).get("status") in {"answered", "working"} or payload(result)["error"]["code"] == "conflict"
        )


@pytest.mark.fault("X-49")
@over(*MODERN)
async def test_an_approval_sent_twice_acts_once(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """The sealed state and the answer again, word for word: the second finds it settled."""
    async with asking(way, environ, answer_with("cancel")) as client:
        question = await send_round(client, "agent_chat", DRAW)
        assert isinstance(question, InputRequiredResult)
        first = await send_round(client, "agent_chat", DRAW, question, **APPROVE)
        second = await send_round(client, "agent_chat", DRAW, question, **APPROVE)

    assert "answered" == payload(first)["status"]
    assert "answered" == payload(second)["status"]
    assert payload(first)["chat_id"] == payload(second)["chat_id"]
    assert (["invoke"], 1) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)


@pytest.mark.fault("X-49")
@pytest.mark.finding("S8")
@over(*MODERN)
async def test_four_simultaneous_copies_of_an_approval_are_sent_once(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    results: list[Any] = []
    async with asking(way, environ, answer_with("cancel")) as client:
        question = await send_round(client, "agent_chat", DRAW)
        assert isinstance(question, InputRequiredResult)

        async def answer() -> None:
            results.append(await send_round(client, "agent_chat", DRAW, question, **APPROVE))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(answer)

    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/invoke"))
    assert (["invoke"], 1) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)
    assert any(payload(result).get("status") == "answered" for result in results)
    for result in results:
        assert (
            payload(result).get("status") in {"answered", "working"} or payload(result)["error"]["code"] == "conflict"
        )


@over(MODERN[0])
async def test_an_approval_does_not_approve_the_next_call(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Where the agent asks for two things, the answer about the first says nothing about the second."""
    two = {"message": "Draw two lakes", "agent": "sandbox/approver"}
    async with asking(way, environ, answer_with("cancel")) as client:
        about_first = await send_round(client, "agent_chat", two)
        assert isinstance(about_first, InputRequiredResult)
        about_second = await send_round(client, "agent_chat", two, about_first, **APPROVE)
        replayed = await send_round(client, "agent_chat", two, about_first, **APPROVE)
        assert isinstance(about_second, InputRequiredResult)
        assert isinstance(replayed, InputRequiredResult)
        between = drawn(upstream)
        last = await send_round(client, "agent_chat", two, about_second, **APPROVE)

    assert 1 == between
    assert "answered" == payload(last)["status"]
    assert (["invoke", "invoke"], 2) == (decided(upstream), drawn(upstream))
    assert 2 == len({decision.invocation_id for decision in upstream.sandbox.ledger.decisions})


@over(*MODERN)
async def test_a_call_that_changed_after_it_was_shown_is_asked_again(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The yes was to a cat, and is none to a tiger."""
    async with asking(way, environ, answer_with("cancel")) as client:
        question = await send_round(client, "agent_chat", DRAW)
        assert isinstance(question, InputRequiredResult)
        waiting_in(upstream).arguments["prompt"] = "a tiger"
        asked_again = await send_round(client, "agent_chat", DRAW, question, **APPROVE)
        before = (decided(upstream), drawn(upstream))
        assert isinstance(asked_again, InputRequiredResult)
        result = await send_round(client, "agent_chat", DRAW, asked_again, **APPROVE)

    (text,) = [request.params.message for request in (asked_again.input_requests or {}).values()]  # type: ignore[union-attr]
    assert "a tiger" in text
    assert ([], 0) == before
    assert "answered" == payload(result)["status"]
    assert (["invoke"], 1) == (decided(upstream), drawn(upstream))


@pytest.mark.fault("X-49")
@over(*HERE)
async def test_an_agent_that_was_stopped_accepts_no_approval(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The chat is stopped while the person still thinks; their late yes does nothing."""

    async def answer(_params: ElicitRequestFormParams) -> ElicitResult:
        (asking_chat,) = chats(upstream)
        await stop(asking_chat.id)
        return ElicitResult(action="accept", content=APPROVE)

    async def stop(chat_id: str) -> None:
        async with httpx2.AsyncClient(base_url=upstream.url, headers={"Authorization": f"Bearer {PERSON}"}) as http:
            assert (await http.post(f"/chats/{chat_id}/stop")).is_success

    async with asking(way, environ, answer) as client:
        result = await chat(client, **DRAW)

    assert ([], 0) == (decided(upstream), drawn(upstream))
    assert 1 == len(upstream.sandbox.ledger.stops)
    assert "answered" != payload(result).get("status"), "it was stopped and has not answered"
    assert chats(upstream)[0].id in str(payload(result)), "the answer names the chat"


@asynccontextmanager
async def two_callers(environ: dict[str, str]) -> AsyncIterator[tuple[Client, Client]]:
    """Two people with a key each, at one server; their hosts can ask."""

    async def never(_context: Any, _params: Any) -> ElicitResult:
        raise AssertionError("the rounds are sent by hand")

    async with callers(environ, PERSON, OTHER, elicitation_callback=never) as (first, second):
        yield first, second


async def test_a_caller_cannot_answer_with_another_callers_state(environ: dict[str, str], upstream: Upstream) -> None:
    """T-6: refused before anything of it is read; its owner can still use it."""
    async with two_callers(environ) as (owner, thief):
        question = await send_round(owner, "agent_chat", DRAW)
        assert isinstance(question, InputRequiredResult)
        with pytest.raises(MCPError) as refused:
            await send_round(thief, "agent_chat", DRAW, question, **APPROVE)
        before = (decided(upstream), drawn(upstream))
        result = await send_round(owner, "agent_chat", DRAW, question, **APPROVE)

    assert REFUSED == refused.value.code
    assert ([], 0) == before
    assert "answered" == payload(result)["status"]
    assert (["invoke"], 1) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("agent_chat", {"message": "Draw a dog", "agent": "sandbox/approver"}),
        ("agent_chat", {"message": "Draw a cat", "agent": "sandbox/desk"}),
        ("chat_respond", {"chat_id": "any", "invocation_id": "any"}),
    ],
    ids=["another message", "another agent", "another tool"],
)
@over(*MODERN)
async def test_a_state_answers_only_the_call_it_was_made_for(
    way: Way, environ: dict[str, str], upstream: Upstream, tool: str, arguments: dict[str, Any]
) -> None:
    """T-6: other arguments, or another tool, and it is refused; nothing is sent or decided."""
    async with asking(way, environ, answer_with("cancel")) as client:
        question = await send_round(client, "agent_chat", DRAW)
        assert isinstance(question, InputRequiredResult)
        with pytest.raises(MCPError) as refused:
            await send_round(client, tool, arguments, question, **APPROVE)

    assert REFUSED == refused.value.code
    assert ([], 0) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)


@over(MODERN[0])
async def test_a_state_that_was_tampered_with_or_is_too_old_is_refused(
    way: Way, environ: dict[str, str], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-6: it lasts ten minutes; what is refused sends no second message either."""
    import time

    async with asking(way, environ, answer_with("cancel")) as client:
        question = await send_round(client, "agent_chat", DRAW)
        assert isinstance(question, InputRequiredResult)
        state = question.request_state or ""
        forged = question.model_copy(
            update={"request_state": state[:-6] + ("A" if state[-6] != "A" else "B") + state[-5:]}
        )
        with pytest.raises(MCPError) as tampered:
            await send_round(client, "agent_chat", DRAW, forged, **APPROVE)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 601)
        with pytest.raises(MCPError) as late:
            await send_round(client, "agent_chat", DRAW, question, **APPROVE)
        monkeypatch.undo()

    assert (REFUSED, REFUSED) == (tampered.value.code, late.value.code)
    assert ([], 0) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)


@over(*MEMORY)
async def test_long_arguments_are_shown_cut_with_their_digest(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """They see how it begins, that it is cut, what the whole's digest is, and where all of it can be read."""
    texts: list[str] = []

    async def answer(params: ElicitRequestFormParams) -> ElicitResult:
        texts.append(params.message)
        await anyio.sleep(0.31)
        return ElicitResult(action="decline")

    long = f"Draw {'a very ' * 900} long cat"
    async with asking(way, environ, answer) as client:
        result = payload(await chat(client, long, agent="sandbox/approver"))

    (question,) = texts
    assert len(question) < 5_000
    assert "sha256" in question
    assert f"https://app.inference.sh/chats/{result['chat_id']}" in question
    assert (["reject"], 0) == (decided(upstream), drawn(upstream))


@over(*MEMORY)
async def test_an_approved_call_is_not_asked_again_when_the_chat_is_silent(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The stream tells nothing more of it, and the call has to answer: it goes on, as far as anybody knows."""
    texts: list[str] = []

    async def approve(params: ElicitRequestFormParams) -> ElicitResult:
        texts.append(params.message)
        upstream.sandbox.faults.add(Stall(lines=1), method="GET", path="/chats/*/stream", times=-1)
        await anyio.sleep(0.4)
        return ElicitResult(action="accept", content={"decision": "approve"})

    async with asking(way, environ, approve, INFERENCE_WAIT_SECONDS="1") as client:
        result = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))

    assert "working" == result["status"]
    assert "pending" not in result
    assert 1 == len(texts)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/invoke"))


@pytest.mark.parametrize(
    ("fault", "outcome", "invoked"),
    [
        (Drop(), "unknown", 0),
        (Status(code=500), "unknown", 0),
        (Status(code=404), "started", 0),
        (Swallow(), "", 1),
    ],
    ids=["dropped", "500", "404", "swallowed"],
)
@over(*MEMORY)
async def test_an_approval_lost_on_the_way_is_an_error_with_the_chat_id(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: Fault, outcome: str, invoked: int
) -> None:
    """The message was taken: nobody is told to send it again, and what was approved is not approved twice."""
    upstream.sandbox.faults.add(fault, method="POST", path="/tools/*/invoke")
    async with asking(way, environ, answer_with("accept", after=0, **APPROVE)) as client:
        result = payload(await chat(client, **DRAW))

    assert sent_once(upstream)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/**"))
    assert invoked == drawn(upstream)
    if not outcome:
        assert "answered" == result["status"]
        return
    assert outcome == result["error"]["outcome"]
    assert not result["error"]["retry_safe"]
    assert chats(upstream)[0].id in result["error"]["next"]


@over(*MEMORY)
async def test_a_chat_that_cannot_be_followed_after_an_approval_is_reported_as_started(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async def answer(_params: ElicitRequestFormParams) -> ElicitResult:
        upstream.sandbox.faults.add(Status(code=401), method="GET", path="/chats/*/stream", times=-1)
        return ElicitResult(action="accept", content=APPROVE)

    async with asking(way, environ, answer) as client:
        result = payload(await chat(client, **DRAW))

    assert (["invoke"], 1) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)
    if "error" in result:
        assert ("started", False) == (result["error"]["outcome"], result["error"]["retry_safe"])
        assert chats(upstream)[0].id in result["error"]["next"]
    else:  # the stream is given up, and the chat itself tells how it went on
        assert "answered" == result["status"]


@pytest.mark.finding("S8")
@over(MODERN[0])
async def test_an_answer_is_not_sent_if_the_chat_shows_another_was(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Two replicas hold the same question: the second reads the chat once more, right before it would send."""
    results: list[Any] = []
    async with (
        asking(way, environ, answer_with("cancel")) as first,
        asking(way, environ, answer_with("cancel")) as other,
    ):
        question = await send_round(first, "agent_chat", DRAW)
        assert isinstance(question, InputRequiredResult)
        where = {"chat_id": chats(upstream)[0].id, "invocation_id": waiting_in(upstream).id}
        theirs = await send_round(other, "chat_respond", where)
        assert isinstance(theirs, InputRequiredResult)
        gate = upstream.sandbox.faults.hold("GET", "/chats/*/stream")

        async def late() -> None:
            results.append(await send_round(other, "chat_respond", where, theirs, **APPROVE))

        async with anyio.create_task_group() as group:
            group.start_soon(late)
            await gate.reached.wait()  # it has read the chat, which waits; before it sends, the other does
            await send_round(first, "agent_chat", DRAW, question, **APPROVE)
            gate.release()

    assert "conflict" == payload(results[0])["error"]["code"]
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/invoke"))
