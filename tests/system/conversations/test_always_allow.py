"""What may be allowed for the rest of a chat: the platform's own options, and what it says of the call."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from mcp_types import ElicitRequestFormParams, ElicitResult

from inferencesh_sandbox import Facts
from tests.conftest import Upstream, Way
from tests.mcp_tasks.following import answer, following
from tests.results import payload, text_of
from tests.support.faults import Delay, Fault, Status
from tests.system.conversations.rounds import HERE, MEMORY, MODERN, over, sent_once, waiting_in
from tests.system.conversations.test_approvals import decided, drawn
from tests.tools.test_agents import asking, chat

pytestmark = [pytest.mark.anyio, pytest.mark.finding("D6")]

DRAW = {"message": "Draw a cat", "agent": "sandbox/approver"}
EXACTLY = "always allow: draw with exactly these inputs"
EVERY = "always allow: every use of draw"
ALLOWING = {"INFERENCE_ALWAYS_ALLOW": "true"}
OPTIONS, ALLOW, EXPLAIN = (f"/chats/*/tools/*/{path}" for path in ("always-allow/options", "always-allow", "explain"))
OLDER = Facts(always_allow_options=False, explanations=False)


class Person:
    """Who is asked, and answers with these decisions one after another; the last again and again."""

    def __init__(self, *decisions: str) -> None:
        self.decisions = list(decisions)
        self.asked: list[ElicitRequestFormParams] = []

    async def __call__(self, params: ElicitRequestFormParams) -> ElicitResult:
        self.asked.append(params)
        decision = self.decisions.pop(0) if len(self.decisions) > 1 else self.decisions[0]
        return ElicitResult(action="accept", content={"decision": decision})

    @property
    def offered(self) -> list[list[str]]:
        return [item.requested_schema["properties"]["decision"]["enum"] for item in self.asked]


def chosen(upstream: Upstream) -> list[tuple[str, str]]:
    """What the platform was told: the decision, and the scope of its option."""
    return [(decision.decision, decision.option.partition(":")[0]) for decision in upstream.sandbox.ledger.decisions]


@pytest.mark.parametrize(("decision", "scope", "questions"), [(EXACTLY, "exact", 2), (EVERY, "tool", 1)])
@over(*HERE)
async def test_the_platforms_options_are_offered_and_the_choice_is_sent(
    way: Way, environ: dict[str, str], upstream: Upstream, decision: str, scope: str, questions: int
) -> None:
    """And it goes as far as it says: exactly these inputs are not every use."""
    person = Person(decision, "approve")
    async with asking(way, environ, person, **ALLOWING) as client:
        first = await chat(client, **DRAW)
        again = {"chat_id": payload(first)["chat_id"], "agent": "sandbox/approver"}
        await chat(client, "Draw a cat", **again)
        await chat(client, "Draw a dog", **again)

    assert ["approve", "reject", EXACTLY, EVERY] == person.offered[0]
    described = person.asked[0].requested_schema["properties"]["decision"]["description"]
    assert "(exact)" in described
    assert "Whatever its inputs are." in described
    assert ("always_allow", scope) == chosen(upstream)[0]
    assert (questions, 3) == (len(person.asked), drawn(upstream))
    assert {f'always allowed: "{decision.removeprefix("always allow: ")}"'} == {
        decision["decision"] for decision in payload(first)["decisions"]
    }
    assert "by the person, asked by this host" in text_of(first)


@over(*MEMORY)
async def test_always_allow_is_offered_only_if_the_operator_enables_it(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    person = Person("approve")
    async with asking(way, environ, person) as client:
        result = payload(await chat(client, **DRAW))

    assert [["approve", "reject"]] == person.offered
    assert [("draw", "approved")] == [(decision["about"], decision["decision"]) for decision in result["decisions"]]


@pytest.mark.parametrize(
    "fault",
    [
        Status(
            code=200, body=json.dumps({"options": [], "default": "", "unavailable": "A policy allows only its own."})
        ),
        Status(code=200, body=json.dumps({"options": None})),
        Status(code=200, body=json.dumps({"options": [{"key": ""}, "odd", {"label": "no key"}]})),
        Status(code=500),
        Status(code=403, error="requires_sign_in"),
        Status(code=429),
    ],
    ids=["unavailable", "none", "odd", "broken", "refused", "too many"],
)
@over(MEMORY[0])
async def test_always_allow_is_not_offered_without_platform_options(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: Fault
) -> None:
    """The person still decides about the one call."""
    upstream.sandbox.faults.add(fault, method="GET", path=OPTIONS, times=-1)
    person = Person("approve")
    async with asking(way, environ, person, **ALLOWING) as client:
        result = payload(await chat(client, **DRAW))

    assert [["approve", "reject"]] == person.offered
    assert ("answered", ["invoke"]) == (result["status"], decided(upstream))


@over(*HERE)
async def test_a_withdrawn_option_leads_to_a_new_question(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The platform answers 409; the call still waits, and the person chooses again from what there is now."""
    upstream.sandbox.faults.add(Status(code=409, error="conflict"), method="POST", path=ALLOW)
    person = Person(EVERY)
    async with asking(way, environ, person, **ALLOWING) as client:
        result = payload(await chat(client, **DRAW))

    assert 2 == len(person.asked)
    assert 2 == len(upstream.sandbox.ledger.requests("GET", OPTIONS)), "what was refused is not offered from memory"
    assert ("answered", [("always_allow", "tool")]) == (result["status"], chosen(upstream))
    assert sent_once(upstream)


@over(*MEMORY)
async def test_an_option_that_is_always_refused_does_not_ask_forever(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    upstream.sandbox.faults.add(Status(code=409, error="conflict"), method="POST", path=ALLOW, times=-1)
    person = Person(EVERY)
    async with asking(way, environ, person, **ALLOWING) as client:
        first = payload(await chat(client, **DRAW))

    assert 2 == len(person.asked)
    assert [] == decided(upstream)
    assert "conflict" == first["error"]["code"]


@pytest.mark.parametrize("facts", [OLDER], ids=["older"])
@over(*HERE)
async def test_an_older_platform_gets_the_tools_name(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """The person is told that it is for every use of the tool."""
    person = Person("always allow in this chat")
    async with asking(way, environ, person, **ALLOWING) as client:
        first = payload(await chat(client, **DRAW))
        await chat(client, "Draw a dog", chat_id=first["chat_id"], agent="sandbox/approver")

    assert [["approve", "reject", "always allow in this chat"]] == person.offered
    assert "every use of draw" in person.asked[0].requested_schema["properties"]["decision"]["description"]
    assert ("answered", ["always_allow"], 2) == (first["status"], decided(upstream), drawn(upstream))


@over(*HERE)
async def test_the_explanation_of_the_call_is_shown_to_the_person(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """With its risk, as the opinion that it is; read once, however often the question is put."""
    person = Person("perhaps", "approve")
    async with asking(way, environ, person) as client:
        first = payload(await chat(client, **DRAW))
        again = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        await client.call_tool("chat_respond", again)

    assert 2 == len(person.asked)
    for question in person.asked:
        assert "low risk. It uses draw, which makes something and changes nothing." in question.message
        assert "it can be wrong" in question.message
    assert 1 == len(upstream.sandbox.ledger.requests("POST", EXPLAIN))
    assert 1 == drawn(upstream)


@pytest.mark.parametrize("fault", [Delay(seconds=600), Status(code=500), Status(code=404), Status(code=200, body="[]")])
@over(MEMORY[0])
async def test_a_missing_explanation_delays_nothing(
    way: Way, environ: dict[str, str], upstream: Upstream, fault: Fault
) -> None:
    upstream.sandbox.faults.add(fault, method="POST", path=EXPLAIN, times=-1)
    person = Person("approve")
    async with asking(way, environ, person) as client:
        with anyio.fail_after(30):
            result = payload(await chat(client, **DRAW))

    assert "it can be wrong" not in person.asked[0].message
    assert ("answered", 1) == (result["status"], len(upstream.sandbox.ledger.requests("POST", EXPLAIN)))


@over(*MEMORY)
async def test_the_secrets_that_a_call_sends_are_named(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    person = Person("perhaps")
    async with asking(way, environ, person) as client:
        first = payload(await chat(client, "Draw my secret place", agent="sandbox/approver"))
        later = payload(await client.call_tool("chat_get", {"chat_id": first["chat_id"]}))

    assert "It sends your secrets PAINTER_KEY to painter.example." in person.asked[0].message
    assert ["PAINTER_KEY"] == later["pending"][0]["sends_secrets"]


@over(MODERN[0])
async def test_an_mcp_task_offers_the_same_options(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """However often it is looked at, the options and the reading are read once; what is refused is asked anew."""

    async def ask(*_: Any) -> Any:
        raise AssertionError

    upstream.sandbox.faults.add(Status(code=409, error="conflict"), method="POST", path=ALLOW)
    async with following(way, environ | ALLOWING, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", **DRAW)
        ((key, question),) = (await mine.until(task_id, "input_required"))["inputRequests"].items()
        for _ in range(3):
            await mine.get(task_id)
        looks = len(upstream.sandbox.ledger.requests("GET", OPTIONS))
        await mine.update(task_id, {key: answer("accept", decision=EXACTLY)})
        before = decided(upstream)
        await mine.get(task_id)
        await mine.update(task_id, {key: answer("accept", decision=EXACTLY)})
        end = await mine.until(task_id)

    assert [EXACTLY, EVERY] == question["params"]["requestedSchema"]["properties"]["decision"]["enum"][2:]
    assert "low risk" in question["params"]["message"]
    assert (1, []) == (looks, before)
    assert [("always_allow", "exact")] == chosen(upstream)
    assert "completed" == end["status"]


@over(MODERN[0])
async def test_an_option_for_other_inputs_is_not_accepted(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The inputs changed while the person thought: they choose again, from the options of the new ones."""
    prompts = ["a tiger"]

    class Late(Person):
        async def __call__(self, params: ElicitRequestFormParams) -> ElicitResult:
            result = await super().__call__(params)
            if prompts:
                waiting_in(upstream).arguments["prompt"] = prompts.pop()
            return result

    person = Late(EXACTLY)
    async with asking(way, environ, person, **ALLOWING) as client:
        result = payload(await chat(client, **DRAW))

    assert ["Draw a cat", "a tiger"] == [
        next(prompt for prompt in ("Draw a cat", "a tiger") if prompt in item.message) for item in person.asked
    ]
    assert ("answered", [("always_allow", "exact")]) == (result["status"], chosen(upstream))
