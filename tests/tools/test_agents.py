"""Chats with agents, as a host sees them: over every way in, in both eras, with hosts that can ask and that cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult, ElicitRequestFormParams, ElicitResult

from tests.conftest import WAYS, Connect, Upstream, Way, connected, until
from tests.results import left_at, payload, text_of
from tests.system.faults.hosts import MEMORY, NEAR, over

pytestmark = pytest.mark.anyio

PERSON = "inf_person_CANARY_7c1f"
CAN_ASK = [way for way in WAYS if str(way) != "http-2025"]  # without a session there is no way back to that host
WEATHER: dict[str, Any] = {
    "core_app": {"ref": "sandbox/llm"},
    "system_prompt": "You are helpful.",
    "tools": [
        {
            "name": "get_weather",
            "description": "Get the weather of a city",
            "type": "client",
            "client": {"input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
        }
    ],
}  # fmt: skip
Asked = Callable[[ElicitRequestFormParams], Awaitable[ElicitResult]]


async def chat(client: Client, message: str, **arguments: Any) -> CallToolResult:
    return await client.call_tool("agent_chat", {"message": message, **arguments})


@asynccontextmanager
async def asking(way: Way, environ: dict[str, str], answer: Asked, **changed: str) -> AsyncIterator[Client]:
    """A host that puts questions to its person, who answers as the test says; their key may decide."""

    async def ask(_context: Any, params: Any) -> ElicitResult:
        return await answer(params)

    settings = environ | {"INFERENCE_API_KEY": PERSON} | changed
    async with connected(way, settings, elicitation_callback=ask) as client:
        yield client


def answer_with(action: str, after: float = 0.4, **content: Any) -> Asked:
    async def answer(_params: ElicitRequestFormParams) -> ElicitResult:
        await anyio.sleep(after)  # a person needs a moment; what is faster was no person
        return ElicitResult(action=action, content=content or None)  # type: ignore[arg-type]

    return answer


async def test_a_second_message_continues_the_chat(connect: Connect) -> None:
    """The agent remembers; the answer names the chat to go on with."""
    async with connect() as client:
        first = payload(await chat(client, "My name is Ada.", agent="sandbox/assistant"))
        second = payload(await chat(client, "What is my name?", agent="sandbox/assistant", chat_id=first["chat_id"]))

    assert ("answered", "answered") == (first["status"], second["status"])
    assert first["chat_id"] == second["chat_id"]
    assert "Ada" in second["text"]


@over(*NEAR)
async def test_progress_shows_the_end_of_a_growing_answer(connect: Connect) -> None:
    messages: list[str] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        messages.append(message or "")

    async with connect() as client:
        arguments = {"message": "Count to 8 slowly", "agent": "sandbox/assistant"}
        result = await client.call_tool("agent_chat", arguments, progress_callback=hear)

    assert "8" in payload(result)["text"]
    assert any(payload(result)["chat_id"] in message for message in messages)
    assert all(len(message) <= 200 for message in messages)


async def test_a_client_tool_is_handed_out_once_and_its_result_is_used(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        first = payload(await chat(client, "What is the weather in Paris?", config=WEATHER))
        (waits,) = first["pending"]
        answered = await client.call_tool(
            "chat_respond", {"chat_id": first["chat_id"], "invocation_id": waits["id"], "result": "hail and thunder"}
        )
        again = await client.call_tool(
            "chat_respond", {"chat_id": first["chat_id"], "invocation_id": waits["id"], "result": "sunny"}
        )

    assert ("waiting", "client_tool", "get_weather") == (first["status"], waits["kind"], waits["tool"])
    assert "answered" == payload(answered)["status"]
    assert "hail and thunder" in payload(answered)["text"]
    assert ("conflict", True) == (payload(again)["error"]["code"], again.is_error)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", f"/tools/{waits['id']}"))


@over(*NEAR)
async def test_a_structured_output_fits_its_schema(connect: Connect) -> None:
    schema = {
        "type": "object",
        "properties": {"summary": {"type": "string"}, "confidence": {"type": "number"}},
        "required": ["summary", "confidence"],
    }
    async with connect() as client:
        result = payload(
            await chat(
                client, "Analyse: great product!", config={"core_app": {"ref": "sandbox/llm"}}, output_schema=schema
            )
        )

    assert {"summary", "confidence"} == set(result["output"])


@pytest.mark.finding("M7")
async def test_without_elicitation_an_approval_stays_the_persons(connect: Connect, upstream: Upstream) -> None:
    """The answer gives the page; a model cannot decide, and nobody is said to have."""
    async with connect() as client:
        result = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))
        (waits,) = result["pending"]
        refused = await client.call_tool(
            "chat_respond", {"chat_id": result["chat_id"], "invocation_id": waits["id"], "decision": "accept"}
        )

    assert ("waiting", "approval") == (result["status"], waits["kind"])
    assert f"https://app.inference.sh/chats/{result['chat_id']}" == waits["page"]
    assert f"This host cannot ask the person. They can decide at {waits['page']}." in result["next"]
    assert "forbidden" == payload(refused)["error"]["code"]
    assert "This host cannot ask the person." in text_of(refused)
    assert waits["page"] in text_of(refused)
    assert not upstream.sandbox.ledger.requests("POST", "/tools/**")


@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
async def test_an_approved_call_is_carried_out(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """They see the tool and its arguments; it is invoked once."""
    texts: list[str] = []

    async def approve(params: ElicitRequestFormParams) -> ElicitResult:
        texts.append(params.message)
        await anyio.sleep(0.4)
        return ElicitResult(action="accept", content={"decision": "approve"})

    async with asking(way, environ, approve) as client:
        result = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))

    assert "answered" == result["status"]
    assert 1 == len(texts)
    assert "cat" in texts[0]
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/invoke"))
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/agents/run")), "the message was sent once"


@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
async def test_always_is_offered_only_by_the_operator(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """Then it counts for the rest of the chat, as the platform's option says: the next call of that tool asks nobody."""
    offered: list[list[str]] = []

    async def always(params: ElicitRequestFormParams) -> ElicitResult:
        schema: Any = params.requested_schema
        offered.append(schema["properties"]["decision"]["enum"])
        await anyio.sleep(0.4)
        return ElicitResult(action="accept", content={"decision": schema["properties"]["decision"]["enum"][-1]})

    async with asking(way, environ, always) as client:
        await chat(client, "Draw a cat", agent="sandbox/approver")
    async with asking(way, environ, always, INFERENCE_ALWAYS_ALLOW="true") as client:
        first = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))
        second = payload(await chat(client, "Draw a dog", agent="sandbox/approver", chat_id=first["chat_id"]))

    always_allow = ["always allow: draw with exactly these inputs", "always allow: every use of draw"]
    assert [["approve", "reject"], ["approve", "reject", *always_allow]] == offered
    assert ("answered", "answered") == (first["status"], second["status"])
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/chats/*/tools/*/always-allow"))
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/reject")), (
        "reject is the last that is offered without"
    )


@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
@pytest.mark.parametrize(
    "answer",
    [answer_with("accept", decision="reject", reason="not today"), answer_with("decline")],
    ids=["rejected", "declined"],
)
async def test_a_rejected_call_is_not_carried_out(
    way: Way, environ: dict[str, str], upstream: Upstream, answer: Asked
) -> None:
    async with asking(way, environ, answer) as client:
        result = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))

    assert "answered" == result["status"]
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/reject"))
    assert not upstream.sandbox.ledger.requests("POST", "/tools/*/invoke")


@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
@pytest.mark.parametrize(
    "answer", [answer_with("cancel"), answer_with("decline", after=0)], ids=["dismissed", "declined at once"]
)
async def test_an_answer_names_no_decision_that_no_person_made(
    way: Way, environ: dict[str, str], upstream: Upstream, answer: Asked
) -> None:
    async with asking(way, environ, answer) as client:
        result = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))

    assert ("waiting", "approval") == (result["status"], result["pending"][0]["kind"])
    assert not upstream.sandbox.ledger.requests("POST", "/tools/**")


@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
async def test_if_only_a_sign_in_may_decide_the_page_is_given(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    questions: list[str] = []

    async def approve(params: Any) -> ElicitResult:
        questions.append(params.mode if params.mode == "form" else params.url)
        await anyio.sleep(0.4)
        return ElicitResult(action="accept", content={"decision": "approve"} if params.mode == "form" else None)

    async with asking(way, environ, approve, INFERENCE_API_KEY="inf_ordinary") as client:
        first = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))
        second = payload(await chat(client, "Draw a dog", agent="sandbox/approver"))

    assert ["waiting", "waiting"] == [first["status"], second["status"]]
    pages = [f"https://app.inference.sh/chats/{answer['chat_id']}" for answer in (first, second)]
    assert pages == [answer["pending"][0]["page"] for answer in (first, second)]
    assert "form" == questions[0]
    assert pages[1] == questions[-1], "from then on the page is opened at once"
    assert 1 == questions.count("form")


async def test_the_operator_may_let_the_model_decide(connect: Connect, upstream: Upstream) -> None:
    async with connect(INFERENCE_APPROVALS="host", INFERENCE_API_KEY=PERSON) as client:
        result = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))
        decided = await client.call_tool(
            "chat_respond",
            {"chat_id": result["chat_id"], "invocation_id": result["pending"][0]["id"], "decision": "accept"},
        )

    assert "answered" == payload(decided)["status"]
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/invoke"))


@over(*MEMORY)
async def test_a_models_decision_that_the_platform_refuses_leads_to_the_page(
    connect: Connect, upstream: Upstream
) -> None:
    """And is not told to decide again."""
    async with connect(INFERENCE_APPROVALS="host") as client:
        result = payload(await chat(client, "Draw a cat", agent="sandbox/approver"))
        decision = {"chat_id": result["chat_id"], "invocation_id": result["pending"][0]["id"], "decision": "accept"}
        decided = await client.call_tool("chat_respond", decision)
        again = await client.call_tool("chat_respond", decision)
        now = payload(await client.call_tool("chat_get", {"chat_id": result["chat_id"]}))

    assert ("waiting", False) == (payload(decided)["status"], decided.is_error)
    assert result["pending"][0]["page"] in payload(decided)["next"]
    assert result["pending"][0]["page"] in text_of(again)
    assert "decision=" not in payload(decided)["next"] + now["next"]
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*/invoke"))


@over(*MEMORY)
async def test_an_error_before_sending_says_that_nothing_was_started(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        unread = await chat(client, "hello", agent="sandbox/assistant", files=["/etc/passwd"])
        unknown = await chat(client, "hello", agent="sandbox/assistant", chat_id="nowhere")
        odd = {"core_app": {"ref": "sandbox/llm"}, "internal_tools": ["plan"]}
        strange = await chat(client, "hello", config=odd, output_schema={"type": "object"})

    assert ["file_refused", "not_found", "invalid_input"] == [
        payload(item)["error"]["code"] for item in (unread, unknown, strange)
    ]
    for result in (unread, unknown, strange):
        assert "Nothing was started or charged." in text_of(result)
    assert not upstream.sandbox.ledger.requests("POST", "/agents/run")


@over(*MEMORY)
async def test_the_reason_of_a_failed_agent_is_given_once(connect: Connect) -> None:
    async with connect() as client:
        error = payload(await chat(client, "hello", agent="sandbox/failing"))["error"]["message"]

    assert 1 == error.count("the agent failed")


async def test_a_turn_longer_than_the_wait_is_handed_over(connect: Connect, upstream: Upstream) -> None:
    async with connect(INFERENCE_WAIT_SECONDS="1") as client:
        first = payload(await chat(client, "Count to 6 slowly", agent="sandbox/assistant"))
        second = payload(await client.call_tool("chat_get", {"chat_id": first["chat_id"], "wait_seconds": 30}))

    assert ("working", "answered") == (first["status"], second["status"])
    assert "chat_get" in first["next"]
    assert "6" in second["text"]
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/agents/run"))


@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
async def test_a_host_that_leaves_stops_the_agent(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        await left_at("chat", client, "agent_chat", message="Count to 60 slowly", agent="sandbox/assistant")
        await until(lambda: upstream.sandbox.ledger.requests("POST", "/chats/*/stop"))

    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/agents/run"))


@over(*NEAR)
async def test_an_agents_missing_requirements_are_reported(connect: Connect) -> None:
    async with connect() as client:
        locked = await chat(client, "hello", agent="sandbox/locked")
        failing = await chat(client, "hello", agent="sandbox/failing")
        unknown = await chat(client, "hello", agent="sandbox/nobody")
        nobody = await chat(client, "hello")

    assert "requirements_not_met" == payload(locked)["error"]["code"]
    assert ("failed", True) == (payload(failing)["status"], failing.is_error)
    assert "not_found" == payload(unknown)["error"]["code"]
    assert "names no agent" in text_of(nobody)


@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
async def test_the_page_for_a_missing_secret_is_opened(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """And the answer tells all of it in words; nothing was sent in the meantime."""
    opened: list[str] = []

    async def go(params: Any) -> ElicitResult:
        opened.append(params.url)
        return ElicitResult(action="accept")

    async with asking(way, environ, go) as client:
        result = await chat(client, "hello", agent="sandbox/locked")

    assert ["https://inference.sh"] == opened
    assert "requirements_not_met" == payload(result)["error"]["code"]
    assert not upstream.sandbox.ledger.requests("GET", "/chats/*/stream")


@over(*NEAR)
async def test_agents_are_listed(connect: Connect) -> None:
    async with connect() as client:
        listed = payload(await client.call_tool("agent_list", {}))

    assert {"sandbox/assistant", "sandbox/approver", "sandbox/desk"} <= {agent["agent"] for agent in listed["agents"]}
