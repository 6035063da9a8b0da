"""An answer that holds no decision decides nothing: nobody is said to have rejected what nobody rejected."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp_types import ElicitRequestFormParams, ElicitResult

from tests.conftest import Upstream, Way
from tests.mcp_tasks.following import answer, following
from tests.results import payload, text_of
from tests.system.conversations.rounds import HERE, MEMORY, MODERN, over, sent_once
from tests.system.conversations.test_approvals import decided, drawn
from tests.tools.test_agents import asking, chat

pytestmark = [pytest.mark.anyio, pytest.mark.finding("F10")]

DRAW = {"message": "Draw a cat", "agent": "sandbox/approver"}
MOMENT = 0.4  # seconds that a person needs to press a button


@over(*HERE)
async def test_an_accept_without_a_decision_is_asked_again_as_yes_or_no(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The second question has nothing to fill in, so that there is nothing that could be missing."""
    questions: list[dict[str, Any]] = []

    async def accept(params: ElicitRequestFormParams) -> ElicitResult:
        questions.append(params.requested_schema)
        assert "Draw a cat" in params.message
        await anyio.sleep(MOMENT)
        return ElicitResult(action="accept", content={})

    async with asking(way, environ, accept) as client:
        result = await chat(client, **DRAW)

    assert ["decision"] == questions[0]["required"]
    assert {"type": "object", "properties": {}} == questions[1]
    assert ("answered", ["invoke"], 1) == (payload(result)["status"], decided(upstream), drawn(upstream))
    assert "draw: approved, by the person, asked by this host" in text_of(result)
    assert sent_once(upstream)


@over(*HERE)
async def test_a_no_to_the_yes_or_no_question_rejects(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    answers = [ElicitResult(action="accept", content={}), ElicitResult(action="decline")]

    async def refuse(_params: ElicitRequestFormParams) -> ElicitResult:
        await anyio.sleep(MOMENT)
        return answers.pop(0)

    async with asking(way, environ, refuse) as client:
        result = payload(await chat(client, **DRAW))

    assert ("answered", ["reject"], 0) == (result["status"], decided(upstream), drawn(upstream))
    assert "rejected" == result["decisions"][0]["decision"]


@over(*HERE)
async def test_a_host_that_accepts_everything_instantly_decides_nothing(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Faster than anybody reads, and without a decision: nothing is approved, and nothing rejected."""
    questions = [0]

    async def accept(_params: ElicitRequestFormParams) -> ElicitResult:
        questions[0] += 1
        return ElicitResult(action="accept", content={})

    async with asking(way, environ, accept) as client:
        result = await chat(client, **DRAW)

    assert 2 == questions[0]
    assert ([], 0) == (decided(upstream), drawn(upstream))
    assert ("waiting", "not decided") == (payload(result)["status"], payload(result)["decisions"][0]["decision"])
    assert "chat_respond" in payload(result)["next"]
    assert "draw: not decided" in text_of(result)


@pytest.mark.parametrize("content", [{"decision": "perhaps"}, {"reason": "none"}, {"decision": ""}], ids=str)
@over(*MEMORY)
async def test_an_answer_without_a_decision_is_reported_as_undecided(
    way: Way, environ: dict[str, str], upstream: Upstream, content: dict[str, Any]
) -> None:
    async def odd(_params: ElicitRequestFormParams) -> ElicitResult:
        await anyio.sleep(MOMENT)
        return ElicitResult(action="accept", content=content)

    async with asking(way, environ, odd) as client:
        result = payload(await chat(client, **DRAW))

    assert [] == decided(upstream)
    assert ("waiting", "not decided") == (result["status"], result["decisions"][0]["decision"])


@pytest.mark.parametrize("content", [{"decision": "Approve"}, {"decision": " approve "}], ids=str)
@over(*MEMORY)
async def test_a_decision_is_read_in_upper_and_lower_case(
    way: Way, environ: dict[str, str], upstream: Upstream, content: dict[str, Any]
) -> None:
    async def approve(_params: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(action="accept", content=content)

    async with asking(way, environ, approve) as client:
        await chat(client, **DRAW)

    assert ["invoke"] == decided(upstream)


@over(*HERE)
async def test_a_form_with_a_missing_field_is_not_sent(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """The agent would take it for what the person filled in."""

    async def accept(_params: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"size": "l"})

    async with asking(way, environ, accept) as client:
        result = payload(await chat(client, "Show me a form", agent="sandbox/desk"))

    assert () == upstream.sandbox.ledger.results
    assert ("waiting", "not decided") == (result["status"], result["decisions"][0]["decision"])


@over(MODERN[0])
async def test_an_mcp_task_asks_the_yes_or_no_question_too(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async def ask(*_: Any) -> Any:
        raise AssertionError

    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        (first,) = (await mine.until(task_id, "input_required"))["inputRequests"]
        await mine.update(task_id, {first: {"action": "accept", "content": {}}})
        ((second, question),) = (await mine.until(task_id, "input_required"))["inputRequests"].items()
        before = decided(upstream)
        await anyio.sleep(MOMENT)
        await mine.update(task_id, {second: {"action": "accept", "content": {}}})
        end = await mine.until(task_id)
        assert answer("accept") != {"action": "accept", "content": {}}, "this host sends it empty, and not missing"

    assert first != second
    assert {"type": "object", "properties": {}} == question["params"]["requestedSchema"]
    assert [] == before
    assert ("completed", ["invoke"]) == (end["status"], decided(upstream))
