"""What an agent did on the way is in the answer: its tools, its plan, the files it made."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Connect, Upstream
from tests.results import payload
from tests.system.conversations.rounds import THREE, over
from tests.tools.test_agents import chat

pytestmark = pytest.mark.anyio

EVERYTHING = "Make a plan, recall, delegate, do an http call, draw a lake"


@over(*THREE)
@pytest.mark.finding("M19")
async def test_an_answer_lists_everything_the_agent_did(connect: Connect, upstream: Upstream) -> None:
    """A plan, another agent, an http call and a picture: each once. Internal tools are left out, and memory is one (M19)."""
    async with connect() as client:
        remembered = payload(await chat(client, "Remember that tea is green", agent="sandbox/desk"))
        result = await chat(client, EVERYTHING, agent="sandbox/desk", chat_id=remembered["chat_id"])
        later = await client.call_tool("chat_get", {"chat_id": remembered["chat_id"]})

    answer = payload(result)
    did = {call["tool"]: call for call in answer["did"]}
    assert "did" not in remembered
    assert "I will remember that tea is green." == remembered["text"]

    assert "answered" == answer["status"]
    assert ["colleague", "fetch_page", "draw"] == [call["tool"] for call in answer["did"]]
    assert {"completed"} == {call["status"] for call in answer["did"]}
    assert 3 == len(answer["plan"])
    assert all(step.startswith("completed: ") for step in answer["plan"])
    assert EVERYTHING == did["colleague"]["arguments"]["message"]
    assert "You said" in did["colleague"]["result"]
    assert {"path": "/status"} == did["fetch_page"]["arguments"]
    assert "example.com" in str(did["fetch_page"]["result"])
    assert upstream.sandbox.ledger.starts[-1].task_id == did["draw"]["task_id"]
    assert "tea is green" in answer["text"]

    (link,) = [str(block.uri) for block in result.content if block.type == "resource_link"]
    assert link.startswith(upstream.url)
    assert link in answer["text"]
    assert 1 == len(upstream.sandbox.ledger.starts)
    assert 2 == len(upstream.sandbox.ledger.messages), "what agents say to agents was not sent by us"
    assert answer["did"] == payload(later)["did"]
    assert [link] == [str(block.uri) for block in later.content if block.type == "resource_link"]


@over(*THREE)
async def test_an_answer_does_not_list_actions_of_the_previous_turn(connect: Connect) -> None:
    async with connect() as client:
        first = payload(await chat(client, "draw a lake", agent="sandbox/desk"))
        second = await chat(client, "http", agent="sandbox/desk", chat_id=first["chat_id"])

    assert ["draw"] == [call["tool"] for call in first["did"]]
    assert ["fetch_page"] == [call["tool"] for call in payload(second)["did"]]
    assert [] == [block for block in second.content if block.type == "resource_link"]


@over(*THREE)
async def test_progress_names_each_tool_that_the_agent_uses(connect: Connect) -> None:
    messages: list[str] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        messages.append(message or "")

    async with connect() as client:
        arguments = {"message": "delegate: count to 3 slowly", "agent": "sandbox/desk"}
        result = payload(await client.call_tool("agent_chat", arguments, progress_callback=hear))

    assert "answered" == result["status"]
    assert any("using colleague" in message for message in messages)
    assert json.dumps(result).count("1 2 3") >= 1
