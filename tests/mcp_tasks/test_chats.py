"""Turns with agents as MCP tasks: what they wait for is asked through the task, and an answer counts once, for what was shown."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp_types import InputRequiredResult

from tests.conftest import Upstream, Way, until
from tests.mcp_tasks.following import UNKNOWN, Follower, answer, following
from tests.system.conversations.rounds import MODERN, chats, over, sent_once
from tests.system.conversations.test_approvals import decided, drawn
from tests.system.conversations.test_forms import CHOSEN, sent_form
from tests.tools.test_agents import WEATHER

pytestmark = pytest.mark.anyio

MEMORY = MODERN[0]
DRAW = {"message": "Draw a cat", "agent": "sandbox/approver"}
APPROVE = answer("accept", decision="approve")
MOMENT = 0.35  # seconds: who declines sooner was shown nothing


async def ask(*_: Any) -> Any:
    """That a host can ask is said by its having this; it is asked through the MCP task."""
    raise AssertionError


async def asked(mine: Follower, task_id: str) -> dict[str, Any]:
    """What the person is asked, by its key."""
    return (await mine.until(task_id, "input_required"))["inputRequests"]


@over(*MODERN)
async def test_an_approval_is_asked_and_executed_once(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """The same answer again finds it settled."""
    async with following(way, environ, elicitation_callback=ask) as mine:
        created = await mine.call("agent_chat", **DRAW)
        ((key, question),) = (await asked(mine, created["taskId"])).items()
        acknowledged = await mine.update(created["taskId"], {key: APPROVE})
        await mine.update(created["taskId"], {key: APPROVE})
        end = await mine.until(created["taskId"])

    (chat,) = chats(upstream)
    assert chat.id in created["statusMessage"]
    assert ("elicitation/create", True) == (question["method"], "Draw a cat" in question["params"]["message"])
    assert {"complete"} == {part for name, part in acknowledged.items() if name != "_meta"}
    assert ("completed", "answered") == (end["status"], end["result"]["structuredContent"]["status"])
    assert (["invoke"], 1) == (decided(upstream), drawn(upstream))
    assert sent_once(upstream)


@pytest.mark.finding("S8")
@over(MEMORY)
async def test_two_approvals_at_once_invoke_it_once(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """One of them is sent; the other finds it settled."""
    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        (key,) = await asked(mine, task_id)
        first = upstream.sandbox.faults.hold("POST", "/tools/*/invoke")
        async with anyio.create_task_group() as group:
            group.start_soon(mine.update, task_id, {key: APPROVE})
            await first.reached.wait()
            read = len(upstream.sandbox.ledger.requests("GET", "/chats/*"))
            group.start_soon(mine.update, task_id, {key: APPROVE})
            await until(lambda: len(upstream.sandbox.ledger.requests("GET", "/chats/*")) > read)
            first.release()
        end = await mine.until(task_id)

    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/invoke"))
    assert ("completed", ["invoke"], 1) == (end["status"], decided(upstream), drawn(upstream))


@over(MEMORY)
async def test_a_rejection_is_sent_with_its_reason(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        (key,) = await asked(mine, task_id)
        await mine.update(task_id, {key: answer("accept", decision="reject", reason="too costly")})
        end = await mine.until(task_id)

    assert ("completed", ["reject"], 0) == (end["status"], decided(upstream), drawn(upstream))
    assert "too costly" == upstream.sandbox.ledger.decisions[0].reason


@over(MEMORY)
async def test_an_immediate_decline_is_not_a_decision(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """Nor did one that dismissed it; a person who declines takes a moment."""
    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        (key,) = await asked(mine, task_id)
        await mine.update(task_id, {key: answer("decline")})
        await mine.update(task_id, {key: answer("cancel")})
        before = (decided(upstream), (await mine.get(task_id))["status"])
        await anyio.sleep(MOMENT)
        await mine.update(task_id, {key: answer("decline")})
        end = await mine.until(task_id)

    assert ([], "input_required") == before
    assert ("completed", ["reject"]) == (end["status"], decided(upstream))


@over(MEMORY)
async def test_an_answer_to_anything_else_is_ignored(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """To another invocation, to other arguments of this one; and what is no answer is refused."""
    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        (key,) = await asked(mine, task_id)
        invocation, _, digest = key.partition(".")
        assert 32 == len(digest), "of what was shown"
        await mine.update(task_id, {f"{invocation}.{digest[::-1]}": APPROVE, f"other.{digest}": APPROVE, "": APPROVE})
        with pytest.raises(MCPError) as refused:
            await mine.update(task_id, {key: {"action": "perhaps"}})
        now = await mine.get(task_id)
        await mine.cancel(task_id)

    assert UNKNOWN == refused.value.error.code
    assert ([key], []) == (list(now["inputRequests"]), decided(upstream))


@over(MEMORY)
async def test_a_form_is_asked_and_its_values_reach_the_agent_once(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", message="Show me a form", agent="sandbox/desk")
        ((key, question),) = (await asked(mine, task_id)).items()
        for _ in range(2):
            await mine.update(task_id, {key: answer("accept", **CHOSEN["form"])})
        end = await mine.until(task_id)

    assert list(CHOSEN["form"]) == list(question["params"]["requestedSchema"]["properties"])
    assert CHOSEN["form"].items() <= sent_form(upstream)["form_data"].items()
    assert "answered" == end["result"]["structuredContent"]["status"]


@over(MEMORY)
async def test_cancelling_it_stops_the_agent(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        await asked(mine, task_id)
        await mine.cancel(task_id)
        end = await mine.until(task_id)
        await mine.cancel(task_id)

    assert ("cancelled", 1, []) == (end["status"], len(upstream.sandbox.ledger.stops), decided(upstream))


@over(MEMORY)
@pytest.mark.parametrize("waits_for", ["an approval, and cannot be asked", "a client tool"])
async def test_a_question_that_cannot_be_asked_ends_the_task(way: Way, environ: dict[str, str], waits_for: str) -> None:
    """As the tool would have answered: what is waiting, and the exact next call or the page."""
    tool = waits_for == "a client tool"
    call: dict[str, Any] = {"message": "What is the weather in Paris?", "config": WEATHER} if tool else DRAW
    async with following(way, environ, **({"elicitation_callback": ask} if tool else {})) as mine:
        end = await mine.until(await mine.begin("agent_chat", **call))

    outcome = end["result"]["structuredContent"]
    assert ("completed", "waiting") == (end["status"], outcome["status"])
    assert ("client_tool" if tool else "approval") == outcome["pending"][0]["kind"]
    assert ("chat_respond" if tool else "https://") in outcome["next"]


@over(MEMORY)
async def test_a_decision_that_needs_sign_in_opens_the_page(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The decision is refused upstream; from then on the person is sent to where they can take it."""
    async with following(way, environ, key="inf_ordinary", elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        (key,) = await asked(mine, task_id)
        await mine.update(task_id, {key: APPROVE})
        ((_, page),) = (await asked(mine, task_id)).items()
        await mine.cancel(task_id)

    (chat,) = chats(upstream)
    assert ("url", f"https://app.inference.sh/chats/{chat.id}") == (page["params"]["mode"], page["params"]["url"])
    assert [] == decided(upstream)


@over(MEMORY)
async def test_cancelling_a_turn_that_is_over_does_not_stop_the_next(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async with following(way, environ, elicitation_callback=ask) as mine:
        first_id = await mine.begin("agent_chat", **DRAW)
        (key,) = await asked(mine, first_id)
        await mine.update(first_id, {key: APPROVE})
        first = (await mine.until(first_id))["result"]["structuredContent"]
        second_id = await mine.begin("agent_chat", **DRAW, chat_id=first["chat_id"])
        await asked(mine, second_id)
        await mine.cancel(first_id)
        before = len(upstream.sandbox.ledger.stops)
        await mine.cancel(second_id)

    assert (0, 1) == (before, len(upstream.sandbox.ledger.stops))


@over(MEMORY)
async def test_a_refused_message_creates_no_task(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """A secret is missing: the person is sent to the page first, as in any call."""
    async with following(way, environ, elicitation_callback=ask) as mine:
        answer = await mine.call("agent_chat", message="Open up", agent="sandbox/locked")

    assert isinstance(answer, InputRequiredResult)
    assert not upstream.sandbox.ledger.messages


@over(MEMORY)
async def test_a_failed_agent_is_a_result_with_an_error(way: Way, environ: dict[str, str]) -> None:
    async with following(way, environ) as mine:
        end = await mine.until(await mine.begin("agent_chat", message="Hello", agent="sandbox/failing"))

    assert ("completed", True) == (end["status"], end["result"]["isError"])
    assert "agent_failed" in json.dumps(end["result"])


@over(MEMORY)
async def test_each_turn_of_a_chat_is_a_task_of_its_own(way: Way, environ: dict[str, str]) -> None:
    async with following(way, environ) as mine:
        first_id = await mine.begin("agent_chat", message="My name is Ada.", agent="sandbox/assistant")
        first = (await mine.until(first_id))["result"]["structuredContent"]
        again = {"agent": "sandbox/assistant", "chat_id": first["chat_id"]}
        second_id = await mine.begin("agent_chat", message="What is my name?", **again)
        second = (await mine.until(second_id))["result"]["structuredContent"]
        await anyio.sleep(0.1)  # what is over takes no longer
        still = (await mine.get(first_id))["result"]["structuredContent"]

    assert "Ada" in second["text"]
    assert first == still
    assert first["text"] != second["text"]
