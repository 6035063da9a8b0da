"""An agent that shows a form: its fields are asked of the person, or told to the model, and the answer counts once."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from mcp_types import ElicitRequestFormParams, ElicitResult

from tests.conftest import Connect, Upstream, Way
from tests.results import payload
from tests.system.conversations.rounds import HERE, over
from tests.tools.test_agents import PERSON, answer_with, asking, chat

pytestmark = pytest.mark.anyio

CHOSEN: dict[str, dict[str, Any]] = {
    "form": {"name": "Ada", "note": "soon", "size": "l", "topping": "honey", "gift": True, "day": "2026-03-01"},
    "surface": {
        "name": "Ada",
        "count": 3,
        "size": "l",
        "toppings": ["nuts", "honey"],
        "gift": True,
        "day": "2026-03-01",
    },
}
KINDS = {
    "form": {"name": "text", "note": "text", "size": "choice", "topping": "choice", "gift": "boolean", "day": "date"},
    "surface": {"name": "text", "count": "number", "size": "choice", "toppings": "choices", "gift": "boolean", "day": "date"},
}  # fmt: skip
spellings = pytest.mark.parametrize("spelling", CHOSEN)


def sent_form(upstream: Upstream) -> dict[str, Any]:
    """The one result that was taken."""
    (result,) = upstream.sandbox.ledger.results
    return json.loads(result.result)


@spellings
@over(*HERE)
async def test_the_person_is_asked_for_the_forms_fields(
    way: Way, environ: dict[str, str], upstream: Upstream, spelling: str
) -> None:
    """Each kind of field as what it is, and what they fill in reaches the agent once."""
    questions: list[ElicitRequestFormParams] = []

    async def fill(params: ElicitRequestFormParams) -> ElicitResult:
        questions.append(params)
        return ElicitResult(action="accept", content=CHOSEN[spelling])

    async with asking(way, environ, fill) as client:
        result = payload(await chat(client, f"Show me a {spelling}", agent="sandbox/desk"))

    (question,) = questions
    fields = question.requested_schema["properties"]
    assert list(CHOSEN[spelling]) == list(fields)
    assert ["name"] == question.requested_schema["required"]
    assert {"type": "string", "title": "Name"}.items() <= fields["name"].items()
    assert {"type": "string", "enum": ["s", "l"], "enumNames": ["Small", "Large"], "default": "s"}.items() <= fields[
        "size"
    ].items()
    assert ("boolean", "date") == (fields["gift"]["type"], fields["day"]["format"])
    if spelling == "surface":
        assert ("number", 1, 9) == tuple(fields["count"][name] for name in ("type", "minimum", "maximum"))
        assert ["nuts", "fruit", "honey"] == fields["toppings"]["items"]["enum"]
    assert "answered" == result["status"]
    assert CHOSEN[spelling] == sent_form(upstream)["form_data"]
    assert "submit" == sent_form(upstream)["action"]["type"]
    assert "name = Ada" in result["text"]
    assert 1 == len(upstream.sandbox.ledger.messages)


@spellings
@over(*HERE)
async def test_without_elicitation_the_forms_fields_are_in_the_answer(
    connect: Connect, upstream: Upstream, spelling: str
) -> None:
    async with connect(INFERENCE_API_KEY=PERSON) as client:
        first = payload(await chat(client, f"Show me a {spelling}", agent="sandbox/desk"))
        (form,) = first["pending"]
        where = {"chat_id": first["chat_id"], "invocation_id": form["id"]}
        filled = await client.call_tool("chat_respond", {**where, "form_data": CHOSEN[spelling]})
        again = await client.call_tool("chat_respond", {**where, "form_data": CHOSEN[spelling]})

    assert ("waiting", "form") == (first["status"], form["kind"])
    assert KINDS[spelling] == {field["name"]: field["kind"] for field in form["fields"]}
    assert {"s", "l"} == {option for field in form["fields"] if field["name"] == "size" for option in field["options"]}
    assert ["name"] == [field["name"] for field in form["fields"] if field["required"]]
    assert form["id"] in first["next"]
    assert "form_data" in first["next"]
    assert "answered" == payload(filled)["status"]
    assert "name = Ada" in payload(filled)["text"]
    assert CHOSEN[spelling] == sent_form(upstream)["form_data"]
    assert ("conflict", "not_started") == (payload(again)["error"]["code"], payload(again)["error"]["outcome"])
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/tools/*"))


@over(*HERE)
async def test_another_action_of_the_form_can_be_chosen(connect: Connect, upstream: Upstream) -> None:
    """What the form does not have sends nothing, and the answer names what it has."""
    async with connect(INFERENCE_API_KEY=PERSON) as client:
        first = payload(await chat(client, "Show me a form", agent="sandbox/desk"))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        wrong = await client.call_tool("chat_respond", {**where, "action": "explode"})
        before = upstream.sandbox.ledger.results
        cancelled = payload(await client.call_tool("chat_respond", {**where, "action": "cancel"}))

    assert ("invalid_input", "not_started") == (payload(wrong)["error"]["code"], payload(wrong)["error"]["outcome"])
    assert "explode" in payload(wrong)["error"]["message"]
    assert "submit, cancel" in payload(wrong)["error"]["next"]
    assert () == before
    assert "answered" == cancelled["status"]
    assert "You chose cancel" in cancelled["text"]
    assert 1 == len(upstream.sandbox.ledger.results)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"result": "Ada, large"},
        {"decision": "accept"},
        {"form_data": {"size": "l"}},
        {"form_data": {"name": "Ada", "colour": "red"}},
    ],
    ids=["nothing", "a text", "a decision", "a required field missing", "an unknown field"],
)
@over(HERE[0])
async def test_a_form_answer_that_does_not_fit_sends_nothing(
    connect: Connect, upstream: Upstream, answer: dict[str, Any]
) -> None:
    """An empty form is not sent by mistake: the agent would take it for the person's."""
    async with connect() as client:
        first = payload(await chat(client, "Show me a form", agent="sandbox/desk"))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        refused = await client.call_tool("chat_respond", {**where, **answer})

    assert ("invalid_input", True) == (payload(refused)["error"]["code"], refused.is_error)
    assert () == upstream.sandbox.ledger.results


@pytest.mark.parametrize("answer", [answer_with("decline"), answer_with("cancel")], ids=["declined", "dismissed"])
@over(HERE[1], HERE[3])
async def test_a_form_that_is_not_filled_in_sends_nothing(
    way: Way, environ: dict[str, str], upstream: Upstream, answer: Any
) -> None:
    async with asking(way, environ, answer) as client:
        result = payload(await chat(client, "Show me a surface", agent="sandbox/desk"))

    assert ("waiting", "form") == (result["status"], result["pending"][0]["kind"])
    assert () == upstream.sandbox.ledger.results
    assert 1 == len(upstream.sandbox.ledger.messages)


@over(*HERE)
async def test_a_widget_that_no_form_can_show_is_given_as_text(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The person is not asked about a part of it, even by a host that can ask."""

    async def never(_params: ElicitRequestFormParams) -> ElicitResult:
        raise AssertionError("nobody is asked")

    async with asking(way, environ, never) as client:
        first = payload(await chat(client, "Show me a page", agent="sandbox/desk"))
        where = {"chat_id": first["chat_id"], "invocation_id": first["pending"][0]["id"]}
        with anyio.fail_after(20):
            given_up = payload(await client.call_tool("chat_respond", {**where, "action": "give_up"}))

    (form,) = first["pending"]
    assert "form" == form["kind"]
    assert "A page that no form can show" in form["text"]
    assert f"https://app.inference.sh/chats/{first['chat_id']}" == form["page"]
    assert "You chose give_up" in given_up["text"]
    assert 1 == len(upstream.sandbox.ledger.results)
