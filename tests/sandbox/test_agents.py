"""The agents: their list, and what each of them does."""

from __future__ import annotations

import json

import httpx2
import pytest
from jsonschema import validate

from inferencesh_sandbox import Facts
from inferencesh_sandbox.agents.types import Tool
from inferencesh_sandbox.fake_arguments import asks_for, make_arguments
from inferencesh_sandbox.turns import split
from tests.sandbox.talking import WEATHER, Talker, ad_hoc, idle, said, tools, waiting
from tests.support.faults import EndAtOnce

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(me):
    return Talker(me)


@pytest.fixture
async def person(caller):
    """The own sign-in of the person whose key is `inf_me`."""
    async with caller("inf_person_me") as signed_in:
        yield Talker(signed_in)


async def test_every_agent_says_that_it_is_the_sandbox(me):
    page = (await me.post("/agents/list", {})).json()

    assert {agent["name"] for agent in page["items"]} == {
        "assistant", "approver", "desk", "failing", "hanging", "losing", "locked",
    }  # fmt: skip
    assert all("sandbox" in agent["description"] for agent in page["items"])


async def test_an_agent_is_found_by_name_id_and_version(me):
    agent = (await me.get("/agents/sandbox/assistant")).json()
    versions = (await me.post(f"/agents/{agent['id']}/versions/list")).json()["items"]
    older = (await me.get(f"/agents/{agent['id']}/versions/{versions[1]['short_id']}")).json()

    assert (await me.get(f"/agents/{agent['id']}")).json() == agent
    assert (agent["version"], older) == (versions[0], versions[1])
    assert (await me.get("/agents/sandbox/approver")).json()["version"]["tools"][0]["require_approval"]


async def test_an_unknown_agent_names_those_like_it(me):
    for answer in (
        await me.get("/agents/sandbox/assistent"),
        await me.post("/agents/run", {"agent": "sandbox/assistent", "input": {"text": "x"}}),
    ):
        assert answer.status_code == 404
        assert "sandbox/assistant" in answer.json()["suggestions"]


async def test_internal_tools_are_listed(me):
    names = {tool["name"] for tool in (await me.get("/agents/internal-tools")).json()}

    assert {"plan_create", "memory_set", "widget_ui", "finish"} <= names


@pytest.mark.parametrize("agent", ["sandbox/assistant", "sandbox/assistant@latest", "agent/sandbox/assistant"])
async def test_the_assistant_remembers_the_chat(talk, agent):
    first = await talk.turn("My name is Ada.", agent)
    again = await talk.turn("What is my name?", agent, first["id"])
    elsewhere = await talk.turn("What is my name?", agent)

    assert said(again)[-1] == "Your name is Ada."
    assert "not told" in said(elsewhere)[-1]


async def test_the_assistant_counts_and_writes_as_much_as_it_is_asked(talk):
    counted = await talk.turn("Count to 12")
    written = await talk.turn("write 1500 words")

    assert said(counted) == ["1 2 3 4 5 6 7 8 9 10 11 12"]
    assert len(said(written)[0].split()) == 1500


async def test_the_assistant_thinks_aloud_when_asked_to(talk):
    chat = await talk.turn("think about tea")
    parts = chat["chat_messages"][1]["content"]

    assert [part["type"] for part in parts] == ["reasoning", "text"]
    assert parts[0]["reasoning"] == "This is where a model would think."


async def test_files_are_really_read_in_either_form(talk, me):
    gif = await me.upload(b"GIF89a\x07\x00\x05\x00" + b"\x00" * 8, filename="dot.gif", content_type="image/gif")
    newer = {
        "attachments": [{"uri": gif["uri"], "filename": "dot.gif", "content_type": "image/gif"}],
        "images": ["ignored"],
    }
    older = {"images": [gif["uri"]], "files": ["https://example.com/a.pdf"]}

    attached = await talk.turn("look", files=newer)
    listed = await talk.turn("look", files=older)

    assert said(attached) == ["dot.gif: image/gif, 18 bytes, a gif of 7x5."]
    assert "a gif of 7x5" in said(listed)[0]
    assert "cannot read https://example.com/a.pdf" in said(listed)[0]
    assert [part["type"] for part in listed["chat_messages"][0]["content"]] == ["text", "image", "file"]


async def test_the_context_counts_only_when_a_chat_starts(talk):
    chat = await talk.turn("what is the context?", context={"team": "blue"})
    again = await talk.turn("what is the context?", chat=chat["id"], context={"team": "red"})

    assert said(again)[0] == said(again)[1] == "The context of this chat: mood = calm, team = blue."


async def test_the_approver_draws_only_when_it_is_allowed(talk, person, sandbox):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")
    told = await talk.chat(chat)
    (interrupt,) = told["pending_interrupts"]

    assert (told["status"], told["active_run"]["state"]) == ("awaiting_input", "input_required")
    assert told["active_run"]["interrupt_reason"] == "tool_approval"
    assert (interrupt["resource_id"], interrupt["meta"]["tool_name"]) == (tool["id"], "draw")
    assert sandbox.ledger.starts == ()

    assert (await person.me.post(f"/tools/{tool['id']}/invoke")).status_code == 200
    await talk.lines(chat)
    done = await talk.chat(chat)
    (used,) = tools(done)

    assert used["status"] == "completed"
    assert used["execution_id"] == sandbox.ledger.starts[0].task_id
    async with httpx2.AsyncClient() as stranger:
        assert (await stranger.get(used["data"]["image"])).content.startswith(b"\x89PNG")
    assert done["chat_messages"][-1]["content"][-1] == {"type": "image", "image": used["data"]["image"]}
    assert done["pending_interrupts"] == []
    assert [(one.decision, one.invocation_id) for one in sandbox.ledger.decisions] == [("invoke", tool["id"])]


async def test_the_approver_obeys_a_rejection_and_its_reason(talk, person, sandbox):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")

    await person.me.post(f"/tools/{tool['id']}/reject", {"reason": "too dear"})
    await talk.lines(chat)
    done = await talk.chat(chat)

    assert (tools(done)[0]["status"], tools(done)[0]["result"]) == ("cancelled", "rejected: too dear")
    assert said(done)[-1] == "I did not draw it, because you said: too dear"
    assert sandbox.ledger.starts == ()


@pytest.mark.parametrize(("scope", "next_one"), [("exact", "awaiting_approval"), ("tool", "completed")])
async def test_what_is_always_allowed_is_what_its_option_says(talk, person, sandbox, scope, next_one):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")
    path = f"/chats/{chat}/tools/{tool['id']}/always-allow"
    offered = (await talk.me.get(f"{path}/options")).json()
    (key,) = [one["key"] for one in offered["options"] if one["scope"] == scope]

    assert (await talk.me.post(path, {"option": key})).status_code == 403
    assert (await person.me.post(path, {"option": "exact:gone"})).status_code == 409
    assert (await person.me.post(path, {"option": key})).json()["option"]["key"] == key
    assert (await talk.me.get(f"{path}/options")).status_code == 409
    await talk.lines(chat)
    await talk.send("a lake", "sandbox/approver", chat)
    await talk.lines(chat)
    await talk.send("a wood", "sandbox/approver", chat)
    await talk.lines(chat, lambda line: idle(line) or waiting(line))
    same, other = tools(await talk.chat(chat))[1:]

    assert offered["default"].startswith("exact")
    assert (same["status"], other["status"]) == ("completed", next_one)
    assert [(one.decision, one.option) for one in sandbox.ledger.decisions] == [("always_allow", key)]


async def test_no_option_allows_what_the_callers_side_carries_out(talk):
    chat, tool = await talk.blocked("weather in Rome", ad_hoc(WEATHER | {"require_approval": True}))

    offered = (await talk.me.get(f"/chats/{chat}/tools/{tool['id']}/always-allow/options")).json()

    assert (offered["options"], bool(offered["unavailable"])) == ([], True)


async def test_a_call_that_waits_for_approval_is_explained(talk):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")

    told = (await talk.me.post(f"/chats/{chat}/tools/{tool['id']}/explain")).json()

    assert told["risk_level"] == "low"
    assert "draw" in told["explanation"]


@pytest.mark.parametrize("facts", [Facts(always_allow_options=False, explanations=False)])
async def test_an_older_platform_takes_a_tools_name_and_offers_no_options(talk, person):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")
    path = f"/chats/{chat}/tools/{tool['id']}"

    assert (await talk.me.get(f"{path}/always-allow/options")).status_code == 404
    assert (await talk.me.post(f"{path}/explain")).status_code == 404
    assert (await person.me.post(f"{path}/always-allow", {"tool_name": "other"})).status_code == 400
    assert (await person.me.post(f"{path}/always-allow", {"tool_name": "draw"})).status_code == 200
    await talk.lines(chat)
    again = await talk.turn("another lake", "sandbox/approver", chat)
    _, elsewhere = await talk.blocked("a lake", "sandbox/approver")

    assert [tool["status"] for tool in tools(again)] == ["completed", "completed"]
    assert again["agent_data"]["always_allowed_tools"] == ["draw"]
    assert elsewhere["status"] == "awaiting_approval"


@pytest.mark.parametrize("facts", [Facts(), Facts(mcp_data_as_text=True)], ids=["object", "text"])
async def test_an_mcp_server_asks_in_two_rounds_and_is_answered(talk, person, sandbox, facts):
    chat, tool = await talk.blocked("book a meal", "sandbox/desk")
    path = f"/tools/{tool['id']}"
    data = json.loads(tool["data"]) if facts.mcp_data_as_text else tool["data"]
    first = json.dumps({"table": {"action": "accept", "content": {"people": 2}}})
    second = json.dumps({"consent": {"action": "decline"}})

    refused = [
        await talk.me.post(path, {"result": first}),
        await person.me.post(path, {"result": second}),
        await person.me.post(path, {"result": json.dumps({"table": {"action": "perhaps"}})}),
    ]
    assert [one.status_code for one in refused] == [403, 400, 400]
    assert (await person.me.post(path, {"result": first})).status_code == 200
    await talk.lines(chat, lambda line: waiting(line) and '"consent"' in json.dumps(line).replace("\\", ""))
    assert (await person.me.post(path, {"result": second})).status_code == 200
    await talk.lines(chat)

    assert (tool["type"], tool["status"], data["input_required"], data["round"]) == ("mcp", "awaiting_input", True, 1)
    assert data["input_requests"]["table"]["method"] == "elicitation/create"
    assert [json.loads(one.result) for one in sandbox.ledger.results] == [json.loads(first), json.loads(second)]
    assert "decline" in said(await talk.chat(chat))[-1]


@pytest.mark.parametrize(
    ("text", "reason"), [("talk until you are cut off", "output_limit"), ("say nothing", "no_reply")]
)
async def test_how_a_run_ended_stands_in_an_event(talk, text, reason):
    (event,) = (await talk.turn(text))["events"]

    assert (event["event"]["type"], event["event"]["run"]["reason"]) == ("run_ended", reason)


@pytest.mark.parametrize("facts", [Facts(messages_preloaded=True, run_end_events=False, errors_in_messages=True)])
async def test_an_older_platform_tells_all_with_the_chat(talk):
    chat = await talk.turn("try", "sandbox/failing")
    told = (await talk.me.get(f"/chats/{chat['id']}")).json()

    assert [message["role"] for message in told["chat_messages"]] == ["user", "assistant"]
    assert "the agent failed" in told["chat_messages"][-1]["content"][-1]["error"]


@pytest.mark.parametrize("facts", [Facts(ended_run_kept=False)])
async def test_a_platform_may_tell_no_run_once_it_has_ended(talk):
    assert (await talk.turn("hello"))["active_run"] is None


@pytest.mark.parametrize(("decision", "status"), [("allow", "completed"), ("deny", "cancelled")])
async def test_an_interrupt_is_resolved_like_its_tool(talk, person, decision, status):
    chat, _ = await talk.blocked("a lake", "sandbox/approver")
    run = (await talk.chat(chat))["active_run"]["id"]
    (interrupt,) = (await talk.me.get(f"/agent-runs/{run}/interrupts")).json()

    answer = (await person.me.post(f"/interrupts/{interrupt['id']}/resolve", {"decision": decision})).json()
    await talk.lines(chat)

    assert (answer["status"], answer["resolution"]) == ("resolved", decision)
    assert tools(await talk.chat(chat))[0]["status"] == status


async def test_a_key_may_decide_nothing_not_even_no(talk, sandbox):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")
    (interrupt,) = (await talk.chat(chat))["pending_interrupts"]
    asked = [
        (f"/tools/{tool['id']}/invoke", None),
        (f"/tools/{tool['id']}/reject", {"reason": "no"}),
        (f"/chats/{chat}/tools/{tool['id']}/always-allow", {"tool_name": "draw"}),
        (f"/interrupts/{interrupt['id']}/resolve", {"decision": "deny"}),
    ]

    answers = [await talk.me.post(path, body) for path, body in asked]

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (403, "requires_sign_in")
    ] * 4
    assert tools(await talk.chat(chat))[0]["status"] == "awaiting_approval"
    assert sandbox.ledger.decisions == ()


async def test_a_decision_is_taken_once(talk, person, sandbox):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")
    first = await person.me.post(f"/tools/{tool['id']}/reject", {})

    again = [await person.me.post(f"/tools/{tool['id']}/{what}", {}) for what in ("invoke", "reject")]
    result = await talk.me.post(f"/tools/{tool['id']}", {"result": "mine"})

    assert first.status_code == 200
    assert [(one.status_code, one.json()["error"]["code"]) for one in (*again, result)] == [
        (409, "invalid_transition")
    ] * 3
    assert len(sandbox.ledger.decisions) == 1
    await talk.lines(chat)


async def test_two_approvals_wait_at_once(talk, person):
    chat, _ = await talk.blocked("two lakes", "sandbox/approver")
    await talk.lines(chat, lambda line: len(line["data"].get("pending_interrupts", [])) == 2)
    first, second = tools(await talk.chat(chat))

    await person.me.post(f"/tools/{second['id']}/reject", {"reason": "one will do"})
    await person.me.post(f"/tools/{first['id']}/invoke")
    await talk.lines(chat)

    assert [tool["status"] for tool in tools(await talk.chat(chat))] == ["completed", "cancelled"]


FILLED = {"action": {"type": "submit"}, "form_data": {"name": "Ada", "count": 3}}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [("show a form", "type", "ui"), ("show a surface", "surfaceId", "order"), ("show a page", "type", "html")],
)
async def test_the_desk_shows_a_form_and_takes_what_is_filled_in(talk, person, sandbox, text, field, value):
    chat, tool = await talk.blocked(text, "sandbox/desk")
    told = await talk.chat(chat)

    assert (tool["type"], tool["widget"][field]) == ("internal", value)
    assert (told["status"], told["active_run"]["interrupt_reason"]) == ("awaiting_input", "widget")
    assert (await talk.me.post(f"/tools/{tool['id']}", {"result": json.dumps(FILLED)})).status_code == 403
    assert (await person.me.post(f"/tools/{tool['id']}", {"result": "yes"})).status_code == 400

    assert (await person.me.post(f"/tools/{tool['id']}", {"result": json.dumps(FILLED)})).status_code == 200
    await talk.lines(chat)

    assert said(await talk.chat(chat))[-1] == "You chose submit with count = 3, name = Ada."
    assert [json.loads(one.result) for one in sandbox.ledger.results] == [FILLED]


@pytest.mark.parametrize("facts", [Facts(keys_answer_questions=True)])
async def test_a_widget_takes_its_action_bare_too(talk):
    chat, tool = await talk.blocked("a form", "sandbox/desk")

    await talk.me.post(f"/tools/{tool['id']}", {"action": {"type": "cancel"}})
    await talk.lines(chat)

    assert said(await talk.chat(chat))[-1] == "You chose cancel."


async def test_the_desk_plans_and_remembers(talk):
    planned = await talk.turn("make a plan", "sandbox/desk")
    chat = await talk.turn("remember that tea is green.", "sandbox/desk", planned["id"])
    recalled = await talk.turn("recall", "sandbox/desk", planned["id"])

    assert [step["status"] for step in planned["agent_data"]["plan_steps"]] == ["completed"] * 3
    assert chat["agent_data"]["memory"] == {"tea": "green"}
    assert said(recalled)[-1] == "I remember: tea is green."
    assert {tool["type"] for tool in tools(recalled)} == {"internal"}


async def test_the_desk_asks_another_agent_in_a_chat_of_its_own(talk, sandbox):
    chat = await talk.turn("delegate: count to 3", "sandbox/desk")
    (tool,) = tools(chat)
    below = await talk.chat(tool["execution_id"])

    assert (tool["type"], tool["status"], tool["result"]) == ("agent", "completed", "1 2 3")
    assert (below["parent_id"], below["status"]) == (chat["id"], "idle")
    assert [child["id"] for child in chat["children"]] == [below["id"]]
    assert len(sandbox.ledger.messages) == 1


async def test_an_http_tool_is_only_pretended_and_says_so(talk):
    (tool,) = tools(await talk.turn("fetch it", "sandbox/desk"))

    assert (tool["type"], tool["data"]["pretended"]) == ("http", True)
    assert "no network" in tool["result"]


async def test_the_desk_draws_really(talk):
    chat = await talk.turn("draw a lake", "sandbox/desk")
    (tool,) = tools(chat)

    task = (await talk.me.get(f"/tasks/{tool['execution_id']}")).json()

    assert task["output"]["image"] == tool["data"]["image"]
    assert tool["data"]["image"] in said(chat)[-1]


async def test_the_desk_says_what_it_can_do(talk):
    assert "a form" in said(await talk.turn("hello", "sandbox/desk"))[-1]


@pytest.mark.parametrize(
    ("agent", "error"),
    [
        ("sandbox/failing", "the agent failed"),
        ("sandbox/losing", "worker lost"),
        ({"core_app": {"ref": "nobody/nothing"}}, "unknown core app: app 'nobody/nothing' not found"),
        ({"core_app": {"ref": "sandbox/llm@nope"}}, "unknown core app: sandbox/llm has no version"),
        ({"core_app": {"ref": "sandbox/echo"}}, "sandbox/echo cannot be a core app"),
        ({"name": "empty"}, "no core app"),
    ],
)
async def test_a_turn_that_fails_says_why_and_the_chat_goes_on(talk, agent, error):
    chat = await talk.turn("try", agent)
    again = await talk.turn("hello", chat=chat["id"])

    assert chat["active_run"]["state"] == "failed"
    assert error in chat["active_run"]["error"]
    assert chat["chat_messages"][-1]["status"] == "failed"
    assert (chat["events"][0]["event"]["type"], error in chat["events"][0]["text"]) == ("run_failed", True)
    assert again["events"][1]["event"]["run"]["state"] == "completed"
    assert again["active_run"]["state"] == "completed"


async def test_a_locked_agent_says_what_is_missing_and_nothing_is_sent(me, sandbox):
    answer = await me.post("/agents/run", {"agent": "sandbox/locked", "input": {"text": "x"}})

    assert answer.status_code == 412
    assert [(one["type"], one["key"]) for one in answer.json()["errors"]] == [("secret", "SANDBOX_AGENT_KEY")]
    assert sandbox.ledger.messages == ()
    assert (await me.post("/chats/list")).json()["items"] == []


async def test_client_tools_are_called_with_fitting_arguments_and_their_results_used(talk, sandbox):
    chat, tool = await talk.blocked("What is the weather in Paris for 3 days?", ad_hoc(WEATHER))
    told = await talk.chat(chat)

    assert tool["function"] == {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}
    assert (tool["type"], tool["status"]) == ("client", "awaiting_input")
    assert (told["status"], told["active_run"]["state"]) == ("busy", "working")

    answers = [await talk.me.post(f"/tools/{tool['id']}", {"result": result}) for result in ("sunny", "rainy")]
    await talk.lines(chat)

    assert [answer.status_code for answer in answers] == [200, 409]
    assert said(await talk.chat(chat))[-1] == "get_weather says: sunny"
    assert [(one.invocation_id, one.result) for one in sandbox.ledger.results] == [(tool["id"], "sunny")]


async def test_a_tool_that_the_message_does_not_ask_for_is_left_alone(talk):
    assert tools(await talk.turn("hello", ad_hoc(WEATHER))) == []


async def test_app_and_agent_tools_of_ad_hoc_agents_are_really_used(talk, sandbox):
    draw = {"name": "make_drawing", "description": "", "type": "app",
            "app": {"ref": "sandbox/draw", "input": {"width": 16, "height": 16}, "setup": {"palette": "warm"}}}  # fmt: skip
    ask = {"name": "assistant", "description": "", "type": "agent", "agent": {"ref": "sandbox/assistant"}}

    chat = await talk.turn("make a drawing, and let the assistant count to 3", ad_hoc(draw, ask))
    drawn, asked = tools(chat)
    task = (await talk.me.get(f"/tasks/{drawn['execution_id']}")).json()

    assert (task["input"]["width"], task["setup"]) == (16, {"palette": "warm"})
    assert asked["result"] == "1 2 3"


async def test_an_app_tool_may_keep_a_session(talk):
    count = {"name": "count", "description": "", "type": "app", "app": {"ref": "sandbox/count", "session_enabled": True,
             "input": {"session": "new"}}}  # fmt: skip

    (tool,) = tools(await talk.turn("count", ad_hoc(count)))

    assert tool["data"]["value"] == 1
    assert tool["data"]["session_id"]


@pytest.mark.parametrize(
    ("tool", "error"),
    [
        ({"type": "app", "app": {"ref": "sandbox/drow"}}, "'sandbox/drow' not found"),
        ({"type": "app", "app": {"ref": "sandbox/fail"}}, "failed, as asked"),
        ({"type": "agent", "agent": {"ref": "sandbox/failing"}}, "the agent failed"),
        ({"type": "agent", "agent": {"ref": "sandbox/nobody"}}, "not found"),
        ({"type": "telepathy"}, "no tools of type 'telepathy'"),
    ],
)
async def test_a_tool_that_fails_does_not_fail_the_turn(talk, tool, error):
    chat = await talk.turn("use helper", ad_hoc({"name": "helper", "description": "", **tool}))

    assert tools(chat)[0]["status"] == "failed"
    assert error in tools(chat)[0]["result"]
    assert chat["active_run"]["state"] == "completed"


@pytest.mark.parametrize("kind", ["http", "call", "hook", "mcp"])
async def test_what_would_leave_the_sandbox_is_pretended_and_no_secret_is_told(talk, kind):
    how = {"url": "https://example.com", "auth": {"type": "bearer", "secret": "S3CRET"}, "secret": "S3CRET",
           "input_schema": {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}}  # fmt: skip

    (tool,) = tools(
        await talk.turn("notify Ada", ad_hoc({"name": "notify", "description": "", "type": kind, kind: how}))
    )

    assert tool["status"] == "completed"
    assert tool["data"]["pretended"]
    assert "S3CRET" not in json.dumps(tool)


async def test_approval_of_a_client_tool_comes_before_its_result(talk, person):
    chat, tool = await talk.blocked("weather in Rome", ad_hoc(WEATHER | {"require_approval": True}))
    assert tool["status"] == "awaiting_approval"
    assert (await talk.me.post(f"/tools/{tool['id']}", {"result": "sunny"})).status_code == 409

    await person.me.post(f"/tools/{tool['id']}/invoke")
    await talk.lines(chat, lambda line: "awaiting_input" in json.dumps(line))
    assert (await talk.me.post(f"/tools/{tool['id']}", {"result": "sunny"})).status_code == 200
    await talk.lines(chat)

    assert said(await talk.chat(chat))[-1] == "get_weather says: sunny"


SCHEMA = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "sentiment": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "deep": {"type": "object", "properties": {"n": {"type": ["integer", "null"]}}, "required": ["n"]},
        "same": {"$ref": "#/$defs/flag"},
        "either": {"anyOf": [{"type": "null"}, {"const": 7}]},
    },
    "required": ["summary", "sentiment", "confidence", "tags", "deep", "same", "either"],
    "$defs": {"flag": {"type": "boolean"}},
}


async def test_structured_output_fits_its_schema(talk):
    finished = await talk.turn("A negative review", ad_hoc(output_schema=SCHEMA, internal_tools={"finish": True}))
    unfinished = await talk.turn("A negative review", ad_hoc(output_schema=SCHEMA))

    validate(finished["output"], SCHEMA)
    assert finished["output"]["sentiment"] == "negative"
    assert tools(finished)[-1]["function"] == {"name": "finish", "arguments": finished["output"]}
    assert unfinished["output"] is None


async def test_internal_tools_of_ad_hoc_agents_are_used_where_they_are_on(talk):
    on = await talk.turn(
        "make a plan, remember that tea is green", ad_hoc(internal_tools={"plan": True, "memory": True})
    )
    off = await talk.turn("make a plan, remember that tea is green", ad_hoc())

    assert on["agent_data"]["memory"] == {"tea": "green"}
    assert len(on["agent_data"]["plan_steps"]) == 3
    assert off["agent_data"]["plan_steps"] == []


async def test_the_language_model_is_an_app_too(me):
    told = await me.run("sandbox/llm", {"text": "what is my name?", "context": [{"text": "my name is Ada"}]})

    assert told["output"]["response"] == "Your name is Ada."
    assert told["output"]["usage"]["stop_reason"] == "stop"


async def test_a_turn_can_be_over_before_its_answer(talk, sandbox):
    sandbox.faults.add(EndAtOnce(), path="/agents/run")
    chat = {"core_app": {"ref": "sandbox/echo"}}

    answer = await talk.send("x", chat)

    assert answer["assistant_message"]["status"] == "failed"


@pytest.mark.parametrize(
    ("text", "asked"),
    [("What's the weather?", True), ("call get_weather", True), ("hello", False), ("getting on", False)],
)
async def test_a_message_asks_for_a_tool_by_what_it_is_about(text, asked):
    assert asks_for(text, Tool.model_validate(WEATHER)) is asked


@pytest.mark.parametrize(
    ("schema", "text", "made"),
    [
        ({"a": {"type": "string"}}, "a: tea.", {"a": "tea"}),
        ({"a": {"type": "string"}, "b": {"type": "string"}}, 'from "New York" to Rome', {"a": "New York", "b": "Rome"}),
        ({"n": {"type": "integer", "maximum": 5}}, "take 9", {"n": 5}),
        ({"n": {"type": "number"}}, "none", {"n": 1.0}),
        ({"exact": {"type": "boolean"}}, "be exact", {"exact": True}),
        ({"a": {"type": "string", "default": "d"}}, "x", {"a": "d"}),
    ],
)
async def test_arguments_are_read_from_the_message(schema, text, made):
    assert make_arguments({"type": "object", "properties": schema, "required": list(schema)}, text) == made


@pytest.mark.parametrize("text", ["", "one", "one two", "a\nb c\n", "  x  ", "word " * 3000])
async def test_a_text_that_is_split_is_the_same_put_together(text):
    assert "".join(split(text)) == text
    assert len(split(text)) <= 401
