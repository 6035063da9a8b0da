"""How an agent's run ended is read from its events: why it failed, that its reply was cut, that there was none."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh_sandbox import Facts
from tests.conftest import Connect, Upstream, Way
from tests.mcp_tasks.following import following
from tests.results import payload, text_of
from tests.system.conversations.rounds import HERE, MEMORY, MODERN, chats, over
from tests.tools.test_agents import chat

pytestmark = pytest.mark.anyio

PLATFORMS = [
    Facts(),
    Facts(ended_run_kept=False),
    Facts(messages_preloaded=True),
    Facts(ended_run_kept=False, messages_preloaded=True),
]
OLDER = Facts(run_end_events=False, errors_in_messages=True, messages_preloaded=True)
ENDS = {
    "output_limit": ("Talk until you are cut off", "The reply was cut at the model's output limit."),
    "no_reply": ("Say nothing", "The agent ended without a reply."),
}
platforms = pytest.mark.parametrize("facts", PLATFORMS, ids=["newest", "no run told", "preloaded", "both"])
streaming = pytest.mark.parametrize("stream", ["true", "false"], ids=["stream", "polling"])


@pytest.mark.finding("D3")
@platforms
@streaming
@over(MEMORY[0])
async def test_why_an_agent_failed_is_read_from_the_event(connect: Connect, stream: str) -> None:
    """Also where the chat tells no run any more, and whoever comes later is told the same."""
    async with connect(INFERENCE_STREAM=stream, INFERENCE_POLL_INTERVAL_MS="200") as client:
        failed = await chat(client, "Hello", agent="sandbox/failing")
        later = await client.call_tool("chat_get", {"chat_id": payload(failed)["chat_id"]})

    for result in (failed, later):
        assert ("failed", True) == (payload(result)["status"], result.is_error)
        assert (
            'The agent reported: "the agent failed, as an agent of this name must"'
            == payload(result)["error"]["message"]
        )
        assert "the agent failed" in text_of(result)


@pytest.mark.finding("D3")
@platforms
@streaming
@pytest.mark.parametrize("reason", ENDS)
@over(MEMORY[0])
async def test_a_cut_or_missing_reply_is_reported(connect: Connect, stream: str, reason: str) -> None:
    message, reason_text = ENDS[reason]
    async with connect(INFERENCE_STREAM=stream, INFERENCE_POLL_INTERVAL_MS="200") as client:
        answered = await chat(client, message, agent="sandbox/assistant")
        later = await client.call_tool("chat_get", {"chat_id": payload(answered)["chat_id"]})

    for result in (answered, later):
        assert ("answered", False) == (payload(result)["status"], result.is_error)
        assert {"reason": reason, "message": reason_text} == payload(result)["ended"]
        assert reason_text in text_of(result)
    assert ("text" in payload(answered)) == (reason == "output_limit")


@pytest.mark.finding("D3")
@over(*HERE)
async def test_a_turn_is_reported_by_its_own_end(connect: Connect) -> None:
    async with connect() as client:
        first = payload(await chat(client, "Say nothing", agent="sandbox/assistant"))
        second = payload(await chat(client, "Hello", agent="sandbox/assistant", chat_id=first["chat_id"]))
        third = await chat(client, "Hello", agent="sandbox/failing", chat_id=first["chat_id"])
        fourth = payload(await chat(client, "Hello", agent="sandbox/assistant", chat_id=first["chat_id"]))

    assert "no_reply" == first["ended"]["reason"]
    assert ("answered", False) == (second["status"], "ended" in second)
    assert ("failed", True) == (payload(third)["status"], third.is_error)
    assert ("answered", False, False) == (fourth["status"], "ended" in fourth, "error" in fourth)


@pytest.mark.finding("D3")
@pytest.mark.parametrize("facts", [OLDER], ids=["older"])
@over(*MEMORY)
async def test_an_older_platform_reports_the_end_by_run_and_messages(connect: Connect) -> None:
    async with connect() as client:
        failed = await chat(client, "Hello", agent="sandbox/failing")
        silent = payload(await chat(client, "Say nothing", agent="sandbox/assistant"))

    assert ("failed", True) == (payload(failed)["status"], failed.is_error)
    assert 1 == payload(failed)["error"]["message"].count("the agent failed")
    assert ("answered", "no_reply") == (silent["status"], silent["ended"]["reason"])


@pytest.mark.finding("D3")
@platforms
@over(MEMORY[0])
async def test_a_stopped_agent_has_not_answered(connect: Connect, upstream: Upstream) -> None:
    async with connect(INFERENCE_WAIT_SECONDS="1") as client:
        working = payload(await chat(client, "Hello", agent="sandbox/hanging"))
        await client.call_tool("chat_stop", {"chat_id": working["chat_id"]})
        stopped = await client.call_tool("chat_get", {"chat_id": working["chat_id"], "wait_seconds": 20})

    assert ("working", "stopped", False) == (working["status"], payload(stopped)["status"], stopped.is_error)
    assert "ended" not in payload(stopped)


@pytest.mark.finding("D3")
@over(*MEMORY)
async def test_an_unknown_reason_is_quoted(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        first = payload(await chat(client, "Say nothing", agent="sandbox/assistant"))
        (silent,) = chats(upstream)
        event: dict[str, Any] = silent.messages[-1].parts[0]
        event["event"]["run"]["reason"] = "moon_phase"
        event["text"] = "The moon was full."
        later = payload(await client.call_tool("chat_get", {"chat_id": first["chat_id"]}))

    assert {"reason": "moon_phase", "message": 'The run ended: moon_phase. "The moon was full."'} == later["ended"]


@pytest.mark.finding("D3")
@platforms
@over(MODERN[0])
async def test_an_mcp_task_ends_as_its_run_ended(way: Way, environ: dict[str, str]) -> None:
    async with following(way, environ) as mine:
        failed = await mine.until(await mine.begin("agent_chat", message="Hello", agent="sandbox/failing"))
        cut = await mine.until(
            await mine.begin("agent_chat", message=ENDS["output_limit"][0], agent="sandbox/assistant")
        )

    assert ("completed", True) == (failed["status"], failed["result"]["isError"])
    assert "as an agent of this name must" in failed["result"]["structuredContent"]["error"]["message"]
    assert ("completed", "output_limit") == (cut["status"], cut["result"]["structuredContent"]["ended"]["reason"])
