"""Turns that overlap, are cut short, or stand at the end of a very long chat."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from mcp import Client

from inferencesh_mcp.tools.truncate import tokens
from inferencesh_sandbox.agents import AGENTS
from inferencesh_sandbox.ids import short
from inferencesh_sandbox.lookup import find_by_name
from tests.conftest import Connect, Upstream, Way, until
from tests.results import payload, text_of
from tests.system.conversations.rounds import HERE, MEMORY, THREE, chats, over
from tests.tools.test_agents import answer_with, asking, chat

pytestmark = pytest.mark.anyio

ASSISTANT = "sandbox/assistant"
WORDS = "a word and 漢字 "
MAX_BYTES, MAX_TOKENS = 700_000, 20_000


async def begun(upstream: Upstream) -> Any:
    """The chat of a turn that is under way, and has said something."""
    with anyio.fail_after(20):
        while not (busy := [chat for chat in chats(upstream) if chat.busy and chat.messages[-1].text]):
            await anyio.sleep(0.01)
    return busy[0]


@over(*HERE)
async def test_an_agent_is_stopped_while_it_answers(connect: Connect, upstream: Upstream) -> None:
    """The call that waited ends there and then, with what was said so far, and does not call it an answer."""
    results: list[Any] = []

    async def talk(client: Client) -> None:
        results.append(payload(await chat(client, "Count to 60 slowly", agent=ASSISTANT)))

    async with connect() as client, anyio.create_task_group() as group:
        group.start_soon(talk, client)
        chat_id = (await begun(upstream)).id
        stopping = payload(await client.call_tool("chat_stop", {"chat_id": chat_id}))
        await until(lambda: results)
        later = payload(await client.call_tool("chat_get", {"chat_id": chat_id}))
        again = await client.call_tool("chat_stop", {"chat_id": chat_id})

    assert {"chat_id": chat_id, "status": "stopping"} == stopping
    assert ("stopped", "stopped") == (results[0]["status"], later["status"])
    assert "1" in results[0]["text"]
    assert "60" not in results[0]["text"]
    assert not again.is_error
    assert (1, 1) == (len(upstream.sandbox.ledger.messages), len(upstream.sandbox.ledger.stops))


@over(*HERE)
async def test_two_messages_at_once_in_one_chat_get_their_own_answers(connect: Connect, upstream: Upstream) -> None:
    """Both are sent once; the second waits for the first, and neither is told the other's answer."""
    answers: dict[str, Any] = {}

    async def talk(client: Client, message: str, chat_id: str) -> None:
        answers[message] = payload(await chat(client, message, agent=ASSISTANT, chat_id=chat_id))

    async with connect() as client:
        chat_id = payload(await chat(client, "My name is Ada.", agent=ASSISTANT))["chat_id"]
        async with anyio.create_task_group() as group:
            group.start_soon(talk, client, "Count to 3 slowly", chat_id)
            group.start_soon(talk, client, "What is my name?", chat_id)

    counted, second = answers["Count to 3 slowly"], answers["What is my name?"]
    assert ("answered", "answered") == (counted["status"], second["status"])
    assert "1 2 3" == counted["text"]
    assert "Your name is Ada." == second["text"]
    assert ["Count to 3 slowly", "My name is Ada.", "What is my name?"] == sorted(
        message.text for message in upstream.sandbox.ledger.messages
    )


@over(*THREE)
async def test_a_message_to_a_busy_chat_waits(connect: Connect, upstream: Upstream) -> None:
    """What was under way before is not taken for its answer."""
    async with connect(INFERENCE_WAIT_SECONDS="1") as client:
        first = payload(await chat(client, "Count to 4 slowly", agent=ASSISTANT))
        second = payload(await chat(client, "My name is Ada.", agent=ASSISTANT, chat_id=first["chat_id"]))
        with anyio.fail_after(20):
            while (
                later := payload(await client.call_tool("chat_get", {"chat_id": first["chat_id"], "wait_seconds": 5}))
            )["status"] == "working" or "Ada" not in later["text"]:
                pass

    assert "working" == first["status"]
    assert "Ada" not in first["text"]
    if second["status"] == "working":
        assert "4" not in second.get("text", "")
    else:
        assert "Ada" in second["text"]
    assert "answered" == later["status"]
    assert "3 4" not in later["text"]
    assert 2 == len(upstream.sandbox.ledger.messages)


@over(*MEMORY)
async def test_a_host_that_leaves_after_an_approval_stops_the_agent(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """What the approval set to work is worked on for nobody."""
    async with asking(way, environ, answer_with("accept", decision="approve")) as client:
        with anyio.move_on_after(20) as call:
            async with anyio.create_task_group() as group:
                arguments = {"message": "Draw a cat", "agent": "sandbox/approver"}
                group.start_soon(client.call_tool, "agent_chat", arguments)
                await until(lambda: upstream.sandbox.ledger.invocations)
                call.cancel()
        await until(lambda: upstream.sandbox.ledger.requests("POST", "/chats/*/stop"))

    assert ["invoke"] == [decision.decision for decision in upstream.sandbox.ledger.decisions]


@over(*THREE)
async def test_a_host_that_leaves_while_its_answer_is_sent_stops_the_agent(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The answer may have arrived, and what it sets to work is worked on for nobody."""
    async with asking(way, environ, answer_with("cancel"), INFERENCE_APPROVALS="host") as client:
        waiting = payload(await client.call_tool("agent_chat", {"message": "Draw a cat", "agent": "sandbox/approver"}))
        (approval,) = waiting["pending"]
        gate = upstream.sandbox.faults.hold("POST", "/tools/*/invoke")
        with anyio.move_on_after(20) as call:
            async with anyio.create_task_group() as group:
                arguments = {
                    "chat_id": waiting["chat_id"],
                    "invocation_id": approval["id"],
                    "decision": "accept",
                }
                group.start_soon(client.call_tool, "chat_respond", arguments)
                await gate.reached.wait()
                call.cancel()
        await until(lambda: upstream.sandbox.ledger.requests("POST", "/chats/*/stop"))
        gate.release()


@over(*THREE)
async def test_on_cancel_keep_lets_the_agent_finish(connect: Connect, upstream: Upstream) -> None:
    """With ON_CANCEL=keep the turn goes on, and is there for whoever asks later."""
    async with connect(INFERENCE_ON_CANCEL="keep") as client:
        with anyio.move_on_after(20) as call:
            async with anyio.create_task_group() as group:
                arguments = {"message": "Count to 3 slowly", "agent": ASSISTANT}
                group.start_soon(client.call_tool, "agent_chat", arguments)
                chat_id = (await begun(upstream)).id
                call.cancel()
        later = payload(await client.call_tool("chat_get", {"chat_id": chat_id, "wait_seconds": 20}))

    assert call.cancelled_caught
    assert "answered" == later["status"]
    assert "1 2 3" == later["text"]
    assert () == upstream.sandbox.ledger.requests("POST", "/chats/*/stop")
    assert 1 == len(upstream.sandbox.ledger.messages)


def sizes(result: Any) -> tuple[int, int, int]:
    """Bytes of the whole answer, and tokens of its text and of its data."""
    text = result.model_dump_json(by_alias=True)
    return len(text.encode()), tokens(text_of(result)), tokens(json.dumps(payload(result), ensure_ascii=False))


@over(*THREE)
async def test_a_chat_of_three_hundred_messages_stays_within_the_limits(connect: Connect, upstream: Upstream) -> None:
    """Its last turn is shown and nothing before it, to whoever goes on and to whoever comes later."""
    async with connect() as client:
        chat_id = payload(await chat(client, "My name is Ada.", agent=ASSISTANT))["chat_id"]
        (long,) = chats(upstream)
        for number in range(149):
            for role in ("user", "assistant"):
                long.add(role, "ready").text = f"{role} {number}: {WORDS * 400}"
        last = await chat(client, "What is my name?", agent=ASSISTANT, chat_id=chat_id)
        later = await client.call_tool("chat_get", {"chat_id": chat_id})
        huge = await chat(client, "Write 20000 words", agent=ASSISTANT, chat_id=chat_id)
        huge_later = await client.call_tool("chat_get", {"chat_id": chat_id})

    assert 304 == len([message for message in long.messages if message.role != "event"])
    assert ["Your name is Ada."] * 2 == [payload(last)["text"], payload(later)["text"]]
    for result in (last, later, huge, huge_later):
        size, in_text, in_data = sizes(result)
        assert not result.is_error
        assert "answered" == payload(result)["status"]
        assert size < MAX_BYTES
        assert max(in_text, in_data) <= MAX_TOKENS
        assert WORDS not in text_of(result)


@over(*MEMORY)
async def test_a_turn_with_a_hundred_tools_stays_within_the_limits(
    connect: Connect, upstream: Upstream, way: Way
) -> None:
    """Only the last of what the agent did is told."""
    async with connect() as client:
        first = payload(await chat(client, "http", agent="sandbox/desk"))
        (long,) = chats(upstream)
        message_ = next(message for message in long.messages if message.invocations)
        message_.invocations *= 100
        result = await client.call_tool("chat_get", {"chat_id": first["chat_id"]})

    assert 30 == len(payload(result)["did"])
    assert max(sizes(result)[1:]) <= MAX_TOKENS


@pytest.mark.finding("D2")
@over(*MEMORY)
async def test_a_pinned_agent_version_is_sent_and_never_read(connect: Connect, upstream: Upstream) -> None:
    """Its prompt and tools are the platform's to load: no answer about a version can lose them here."""
    version = short(find_by_name("agent", AGENTS, ASSISTANT).version_ids[-1])
    async with connect() as client:
        answer = payload(await chat(client, "Hello", agent=f"{ASSISTANT}@{version}"))

    assert "answered" == answer["status"]
    assert () == upstream.sandbox.ledger.requests("GET", "/agents/*")
