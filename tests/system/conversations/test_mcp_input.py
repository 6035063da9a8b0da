"""What an MCP server that an agent uses asks for: passed on to the person as it came, and their words passed back."""

from __future__ import annotations

import json
from typing import Any, Literal

import anyio
import pytest
from mcp_types import CallToolResult, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from inferencesh_sandbox import Facts
from tests.conftest import Connect, Upstream, Way
from tests.mcp_tasks.following import answer, following
from tests.results import payload, text_of
from tests.support.faults import Swallow
from tests.system.conversations.rounds import HERE, MEMORY, MODERN, chats, over, send_round, sent_once, waiting_in
from tests.tools.test_agents import CAN_ASK, PERSON, asking, chat

pytestmark = [pytest.mark.anyio, pytest.mark.finding("D5")]

BOOKING = "sandbox/desk"
TABLE = {"message": "Book a table", "agent": BOOKING}
PAGE = "https://app.inference.sh/chats/"
Action = Literal["accept", "decline", "cancel"]
NAMED = {"people": 4, "window": True}


def sent_results(upstream: Upstream) -> list[Any]:
    """What the platform was told, round by round."""
    return [json.loads(result.result) for result in upstream.sandbox.ledger.results]


def shapes(*facts: Facts) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("facts", facts, ids=lambda one: "text" if one.mcp_data_as_text else "object")


@shapes(Facts(), Facts(mcp_data_as_text=True))
@pytest.mark.parametrize("way", CAN_ASK, indirect=True, ids=str)
async def test_the_person_fills_in_the_form_of_an_mcp_server(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """In both eras and over each transport, whether the platform tells it as an object or as text."""
    questions: list[ElicitRequestFormParams] = []

    async def fill(params: ElicitRequestFormParams) -> ElicitResult:
        questions.append(params)
        return ElicitResult(action="accept", content=NAMED)  # type: ignore[arg-type]

    async with asking(way, environ, fill) as client:
        result = payload(await chat(client, **TABLE))

    (question,) = questions
    assert "For how many people, and when?" in question.message
    assert "book_table" in question.message, "the person sees who asks"
    assert {"type": "integer", "title": "People", "minimum": 1, "maximum": 12} == question.requested_schema["properties"]["people"]  # fmt: skip
    assert ["people"] == question.requested_schema["required"]
    assert [{"table": {"action": "accept", "content": NAMED}}] == sent_results(upstream)
    assert ("answered", "answered (accept)") == (result["status"], result["decisions"][0]["decision"])
    assert sent_once(upstream)


@pytest.mark.parametrize("action", ["decline", "cancel"])
@over(*HERE)
async def test_a_decline_is_passed_on_as_a_decline(
    way: Way, environ: dict[str, str], upstream: Upstream, action: Action
) -> None:
    async def refuse(_params: ElicitRequestFormParams) -> ElicitResult:
        await anyio.sleep(0.4)
        return ElicitResult(action=action)

    async with asking(way, environ, refuse) as client:
        result = payload(await chat(client, **TABLE))

    assert [{"table": {"action": action}}] == sent_results(upstream)
    assert "answered" == result["status"]
    assert action in result["text"]


@pytest.mark.parametrize("action", ["decline", "cancel"])
@over(*HERE)
async def test_an_instant_decline_is_not_passed_on(
    way: Way, environ: dict[str, str], upstream: Upstream, action: Action
) -> None:
    async def at_once(_params: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(action=action)

    async with asking(way, environ, at_once) as client:
        result = payload(await chat(client, **TABLE))

    assert [] == sent_results(upstream)
    assert ("waiting", "mcp_input") == (result["status"], result["pending"][0]["kind"])
    assert "not decided" == result["decisions"][0]["decision"]


@over(*HERE)
async def test_a_url_request_of_an_mcp_server_opens_its_page(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    opened: list[Any] = []

    async def go(params: Any) -> ElicitResult:
        opened.append(params)
        return ElicitResult(action="accept")

    async with asking(way, environ, go) as client:
        result = payload(await chat(client, "Book it with my account", agent=BOOKING))

    (page,) = opened
    assert ("url", "https://bookings.example/connect") == (page.mode, page.url)
    assert "Connect your account with the restaurant." in page.message
    assert [{"account": {"action": "accept"}}] == sent_results(upstream)
    assert "answered" == result["status"]


@over(*HERE)
async def test_several_requests_at_once_are_answered_together(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The newer protocol puts them at once, the older one after another; the platform is told once."""
    questions: list[str] = []

    async def fill(params: ElicitRequestFormParams) -> ElicitResult:
        questions.append(params.message)
        if "call you" in params.message:
            await anyio.sleep(0.4)
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={"people": 2})

    async with asking(way, environ, fill) as client:
        result = payload(await chat(client, "Book an evening", agent=BOOKING))

    assert 2 == len(questions)
    assert [
        {"table": {"action": "accept", "content": {"people": 2}}, "consent": {"action": "decline"}}
    ] == sent_results(upstream)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*"))
    assert "answered" == result["status"]


@over(*MODERN)
async def test_an_answer_to_one_of_two_requests_sends_nothing(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async def never(_params: Any) -> ElicitResult:
        raise AssertionError("the rounds are sent by hand")

    async with asking(way, environ, never) as client:
        question = await send_round(client, "agent_chat", {"message": "Book an evening", "agent": BOOKING})
        assert isinstance(question, InputRequiredResult)
        requests = dict(question.input_requests or {})
        half = question.model_copy(update={"input_requests": {"decision.1": requests["decision.1"]}})
        result = await send_round(
            client, "agent_chat", {"message": "Book an evening", "agent": BOOKING}, half, people=2
        )

    assert ["decision.1", "decision.2"] == sorted(requests)
    assert isinstance(result, CallToolResult)
    assert ("waiting", "not decided") == (payload(result)["status"], payload(result)["decisions"][0]["decision"])
    assert [] == sent_results(upstream)


@over(*HERE)
async def test_a_second_request_of_the_server_is_answered(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The second round waits in the name of the same call, and is not taken for the first."""

    async def fill(params: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"people": 3} if "people" in params.message else {"name": "Ada"})

    async with asking(way, environ, fill) as client:
        result = payload(await chat(client, "Book a meal", agent=BOOKING))

    assert [
        {"table": {"action": "accept", "content": {"people": 3}}},
        {"consent": {"action": "accept", "content": {"name": "Ada"}}},
    ] == sent_results(upstream)
    assert ("answered", 2) == (result["status"], len(result["decisions"]))


@over(*MEMORY)
async def test_the_second_request_is_asked_when_the_first_reply_was_lost(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    upstream.sandbox.faults.add(Swallow(), method="POST", path="/tools/*")

    async def fill(params: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"people": 3} if "people" in params.message else {})

    async with asking(way, environ, fill) as client:
        result = payload(await chat(client, "Book a meal", agent=BOOKING))

    assert ["table", "consent"] == [key for item in sent_results(upstream) for key in item]
    assert "answered" == result["status"]


@pytest.mark.finding("F10")
@over(*MEMORY)
async def test_only_optional_forms_are_sent_empty(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """An accepted form without its field is no answer; one that needs nothing is one."""

    async def accept(params: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(
            action="accept", content={} if empty else {"people": 2} if "people" in params.message else {}
        )

    async with asking(way, environ, accept) as client:
        empty = True
        first = payload(await chat(client, "Book a meal", agent=BOOKING))
        before = sent_results(upstream)
        empty = False
        again = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        second = payload(await client.call_tool("chat_respond", again))

    assert ("waiting", []) == (first["status"], before)
    assert "chat_respond" in first["next"]
    assert {"consent": {"action": "accept", "content": {}}} == sent_results(upstream)[-1]
    assert "answered" == second["status"]


@over(*HERE)
async def test_without_elicitation_the_request_stays_the_persons(connect: Connect, upstream: Upstream) -> None:
    async with connect(INFERENCE_API_KEY=PERSON) as client:
        first = payload(await chat(client, **TABLE))
        (waits,) = first["pending"]
        where = {"chat_id": first["chat_id"], "invocation_id": waits["id"]}
        answers = {"table": {"action": "accept", "content": {"people": 2}}}
        tried = [await client.call_tool("chat_respond", {**where, **more}) for more in ({}, {"form_data": answers})]

    assert ("waiting", "mcp_input", "book_table") == (first["status"], waits["kind"], waits["tool"])
    assert {"mode": "form", "message": "For how many people, and when?"}.items() <= waits["requests"]["table"].items()
    assert f"{PAGE}{first['chat_id']}" == waits["page"]
    assert waits["page"] in first["next"]
    for refused in tried:
        assert ("forbidden", "not_started") == (payload(refused)["error"]["code"], payload(refused)["error"]["outcome"])
        assert waits["page"] in text_of(refused)
    assert [] == sent_results(upstream)


@over(*MEMORY)
async def test_the_operator_may_let_the_model_answer(connect: Connect, upstream: Upstream) -> None:
    """With every answer as the server wants it, and only then."""
    wrong: list[dict[str, Any]] = [
        {},
        {"form_data": {"people": 2}},
        {"form_data": {"table": {"action": "perhaps"}}},
        {"form_data": {"table": {"action": ["accept"]}}},
        {"form_data": {"table": {"action": "accept"}}},
        {"form_data": {"table": {"action": "accept", "content": {"people": 2, "pets": 1}}}},
        {"form_data": {"table": {"action": "decline", "content": {"people": 2}}}},
        {"form_data": {"table": {"action": "decline"}, "chair": {"action": "decline"}}},
    ]
    async with connect(INFERENCE_APPROVALS="host", INFERENCE_API_KEY=PERSON) as client:
        first = payload(await chat(client, **TABLE))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        refused = [await client.call_tool("chat_respond", {**where, **item}) for item in wrong]
        before = sent_results(upstream)
        right = {"form_data": {"table": {"action": "accept", "content": {"people": 2}}}}
        answered = payload(await client.call_tool("chat_respond", {**where, **right}))

    assert "form_data" in first["next"]
    assert ["invalid_input"] * len(wrong) == [payload(result)["error"]["code"] for result in refused]
    assert [] == before
    assert "answered" == answered["status"]
    assert [right["form_data"]] == sent_results(upstream)


@over(*CAN_ASK)
async def test_if_only_a_sign_in_may_answer_the_person_gets_the_page(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The first answer is refused by the platform; from then on nobody is asked in vain."""
    questions: list[str] = []

    async def fill(params: Any) -> ElicitResult:
        questions.append(params.mode if params.mode == "form" else params.url)
        return ElicitResult(action="accept", content={"people": 2} if params.mode == "form" else None)

    async with asking(way, environ, fill, INFERENCE_API_KEY="inf_ordinary") as client:
        first = payload(await chat(client, **TABLE))
        second = payload(await chat(client, **TABLE))

    assert ["waiting", "waiting"] == [first["status"], second["status"]]
    assert f"{PAGE}{second['chat_id']}" == questions[-1]
    assert 1 == questions.count("form")
    assert [] == sent_results(upstream)


@pytest.mark.parametrize("facts", [Facts(keys_answer_questions=True)], ids=["older"])
@over(*MEMORY)
async def test_an_answer_is_sent_if_the_platform_accepts_it_from_a_key(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async def fill(_params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"people": 2})

    async with asking(way, environ, fill, INFERENCE_API_KEY="inf_ordinary") as client:
        assert "answered" == payload(await chat(client, **TABLE))["status"]

    assert 1 == len(sent_results(upstream))


PARAMS: dict[str, Any] = {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}
STRANGE: dict[str, Any] = {
    "sampling": {"method": "sampling/createMessage", "params": {}},
    "a page without encryption": {"method": "elicitation/create", "params": {"mode": "url", "url": "http://a.example"}},
    "a script": {"method": "elicitation/create", "params": {"mode": "url", "url": "javascript:alert(1)"}},
    "an address with a name": {"method": "elicitation/create", "params": {"mode": "url", "url": "https://a@b.example"}},
    "no address": {"method": "elicitation/create", "params": {"mode": "url", "url": 7}},
    "an unknown mode": {"method": "elicitation/create", "params": {**PARAMS, "mode": "hologram"}},
    "no schema": {"method": "elicitation/create", "params": {"message": "?"}},
    "a nested form": {
        "method": "elicitation/create",
        "params": {**PARAMS, "requestedSchema": {"properties": {"a": {"type": "object", "properties": {}}}}},
    },
    "too many fields": {
        "method": "elicitation/create",
        "params": {**PARAMS, "requestedSchema": {"properties": {f"f{n}": {"type": "string"} for n in range(51)}}},
    },
    "too much text": {
        "method": "elicitation/create",
        "params": {**PARAMS, "requestedSchema": {"properties": {"a": {"type": "string", "title": "x" * 30_000}}}},
    },
    "a text": "elicitation/create",
}


@pytest.mark.parametrize("request_", STRANGE.values(), ids=STRANGE)
@over(HERE[0])
async def test_a_form_that_cannot_be_passed_on_is_left_to_the_page(
    way: Way, environ: dict[str, str], upstream: Upstream, request_: Any
) -> None:
    """Nobody is asked a part of it, and the model cannot answer it."""

    async def never(_params: Any) -> ElicitResult:
        raise AssertionError("nobody is asked")

    async with asking(way, environ, never, INFERENCE_APPROVALS="host") as client:
        first = payload(await chat(client, **TABLE))
        waiting_in(upstream).data["input_requests"]["table"] = request_
        second = payload(await client.call_tool("chat_get", {"chat_id": first["chat_id"]}))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        tried = await client.call_tool("chat_respond", {**where, "form_data": {"table": {"action": "cancel"}}})

    (waits,) = second["pending"]
    assert ("waiting", "mcp", f"{PAGE}{first['chat_id']}") == (second["status"], waits["kind"], waits["page"])
    assert "forbidden" == payload(tried)["error"]["code"]
    assert [] == sent_results(upstream)


@over(MODERN[0])
async def test_an_accept_counts_only_for_the_request_that_was_shown(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The server changed its question meanwhile: it is asked anew."""

    async def never(_params: Any) -> ElicitResult:
        raise AssertionError("the rounds are sent by hand")

    async with asking(way, environ, never) as client:
        question = await send_round(client, "agent_chat", TABLE)
        assert isinstance(question, InputRequiredResult)
        waiting_in(upstream).data["input_requests"]["table"]["params"] = PARAMS | {"message": "May I sell your data?"}
        again = await send_round(client, "agent_chat", TABLE, question, people=2)

    assert isinstance(again, InputRequiredResult)
    assert "sell your data" in str(again.input_requests)
    assert [] == sent_results(upstream)


@over(MODERN[0])
async def test_an_mcp_task_asks_all_requests_and_accepts_all_answers(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Two requests at once; half an answer sends nothing."""

    async def ask(*_: Any) -> Any:
        raise AssertionError

    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", message="Book an evening", agent=BOOKING)
        questions = (await mine.until(task_id, "input_required"))["inputRequests"]
        table, consent = sorted(questions)
        await mine.update(task_id, {table: answer("accept", people=5)})
        half = (sent_results(upstream), (await mine.get(task_id))["status"])
        both = {table: answer("accept", people=5), consent: answer("accept", name="Ada")}
        await mine.update(task_id, both)
        await mine.update(task_id, both)
        end = await mine.until(task_id)

    assert ([], "input_required") == half
    assert [
        {
            "table": {"action": "accept", "content": {"people": 5}},
            "consent": {"action": "accept", "content": {"name": "Ada"}},
        }
    ] == sent_results(upstream)
    assert "answered" == end["result"]["structuredContent"]["status"]


@over(MODERN[0])
async def test_an_mcp_task_goes_through_two_rounds(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    async def ask(*_: Any) -> Any:
        raise AssertionError

    async with following(way, environ, elicitation_callback=ask) as mine:
        task_id = await mine.begin("agent_chat", message="Book a meal", agent=BOOKING)
        (first,) = (await mine.until(task_id, "input_required"))["inputRequests"]
        await mine.update(task_id, {first: answer("accept", people=5)})
        (second,) = (await mine.until(task_id, "input_required"))["inputRequests"]
        await mine.update(task_id, {second: answer("accept", name="Ada")})
        end = await mine.until(task_id)

    assert first != second
    assert ["table", "consent"] == [key for item in sent_results(upstream) for key in item]
    assert "completed" == end["status"]
    assert 1 == len(chats(upstream))
