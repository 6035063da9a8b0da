"""Agents and chats against the embedded inference.sh."""

import anyio
import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api.agent_config import AgentConfigInput
from inferencesh_mcp.api.agents import AgentRunRequest
from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Form, Turn, pending, turn_over
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.api.widgets import widget_form, widget_result
from inferencesh_sandbox import Facts, serving
from tests.support.faults import FinAfter, RstAfter, Stall, Swallow
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox(request):
    return Sandbox(facts=getattr(request, "param", None))


@pytest.fixture
async def api(sandbox):
    async with serving(sandbox) as url:
        transport = Transport(url)
        with anyio.fail_after(20):
            yield Api(transport, "inf_person_tests")
        await transport.aclose()


def request(text, agent="sandbox/assistant", **more):
    named = {} if "agent_config" in more else {"agent": agent}
    return AgentRunRequest(**named, text=text, **more)


async def talk(api, message, answer=None, stream=True):
    """One turn to its end: every state. `answer` is called for each thing that waits, once."""
    before = await api.chats.chat(message.chat_id) if message.chat_id else None
    states, answered = [], set()
    if before is None:
        sent = await api.chats.send_message(message)
    async with api.chats.follow_chat(before or sent.chat, stream=stream, poll_interval=0.02) as followed:
        if before is not None:
            sent = await api.chats.send_message(message)
        turn = Turn.of(sent, before)
        async for chat in followed:
            states.append(chat)
            turn = turn.seeing(chat)
            if turn_over(chat, turn):
                return states, "\n".join(filter(None, (reply.text for reply in turn.messages(chat))))
            for waiting in pending(chat):
                if answer and waiting.id not in answered:
                    answered.add(waiting.id)
                    await answer(waiting)
    raise AssertionError


async def test_templates_are_found(api):
    page = await api.chats.list_agents(query="assistant")
    assert "sandbox/assistant" in [agent.ref for agent in page.items]


@pytest.mark.parametrize("stream", [True, False])
async def test_two_turns_of_one_chat(api, stream):
    """Heard piece by piece, and the second answer knows the first."""
    states, first = await talk(api, request("My name is Ada"), stream=stream)
    again, second = await talk(api, request("What is my name?", chat_id=states[-1].id), stream=stream)

    assert "Ada" in second
    assert first != second
    assert not again[-1].busy
    assert again[-1] == await api.chats.chat(states[-1].id)
    assert states[-1].id in [chat.id for chat in (await api.chats.list_chats()).items]


async def test_a_long_answer_grows(api):
    """Never shorter than before."""
    states, text = await talk(api, request("Write 300 words"))

    grown = [max(len(message.text) for message in chat.chat_messages) for chat in states]
    assert grown == sorted(grown)
    assert len(set(grown)) > 10
    assert len(text.split()) >= 290


async def test_an_answer_is_stopped(api):
    sent = await api.chats.send_message(request("Count to 500 slowly"))
    turn = Turn.of(sent)
    async with api.chats.follow_chat(sent.chat) as states:
        async for chat in states:
            turn = turn.seeing(chat)
            if any("2" in message.text for message in turn.messages(chat)):
                await api.chats.stop_chat(sent.chat_id)
            if turn_over(chat, turn):
                break

    assert not chat.busy
    assert "500" not in turn.messages(chat)[0].text


CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "City"}}, "required": ["city"]}
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "type": "client",
    "client": {"input_schema": CITY},
}


def config(**more):
    return AgentConfigInput.parse({"core_app": {"ref": "sandbox/llm"}, **more})


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_tool_is_answered_once(api, stream):
    """And the answer is used."""
    calls = []

    async def answer(waiting):
        assert isinstance(waiting, ClientTool)
        calls.append((waiting.invocation.name, waiting.invocation.arguments))
        await api.chats.tool_result(waiting.id, "sunny, 23 degrees")
        with pytest.raises(errors.CallError):
            await api.chats.tool_result(waiting.id, "rainy")

    _, text = await talk(
        api, request("What is the weather in Paris?", agent_config=config(tools=[WEATHER])), answer, stream
    )

    assert "sunny, 23 degrees" in text
    assert ["get_weather"] == [name for name, _ in calls]


async def test_structured_output_comes_with_the_chat(api):
    schema = {
        "type": "object",
        "properties": {"summary": {"type": "string"}, "score": {"type": "number"}},
        "required": ["summary", "score"],
    }

    states, _ = await talk(
        api, request("Great product", agent_config=config(output_schema=schema, internal_tools={"finish": True}))
    )

    assert {"summary", "score"} == set(states[-1].output)


@pytest.mark.parametrize(
    ("decide", "reply"), [("invoke", "Here is the picture"), ("reject", "too dear"), ("always", "Here is the picture")]
)
async def test_an_approval_is_decided(api, decide, reply):
    """Once, by a key that may."""
    approvals = []

    async def answer(waiting):
        assert isinstance(waiting, Approval)
        approvals.append(waiting)
        if decide == "invoke":
            await api.chats.invoke(waiting.id)
        elif decide == "reject":
            await api.chats.reject(waiting.id, "too dear")
        else:
            options = (await api.chats.always_allow_options(waiting.chat_id, waiting.id)).options
            (every_use,) = [option.key for option in options if option.scope == "tool"]
            await api.chats.always_allow(waiting.chat_id, waiting.id, option=every_use)

    states, text = await talk(api, request("Draw a lake", "sandbox/approver"), answer)

    assert reply in text
    assert [("draw", "Draw a lake")] == [(approval.tool_name, approval.arguments["prompt"]) for approval in approvals]
    if decide == "always":
        _, more = await talk(api, request("Draw a wood", "sandbox/approver", chat_id=states[-1].id))
        assert "Here is the picture" in more


async def test_a_key_without_that_right_decides_nothing(sandbox):
    async with serving(sandbox) as url:
        transport = Transport(url)
        api = Api(transport, "inf_tests")
        sent = await api.chats.send_message(request("Draw a lake", "sandbox/approver"))
        async with api.chats.follow_chat(sent.chat) as states:
            waiting = await first_pending(states)

        for decision in (
            api.chats.invoke(waiting.id),
            api.chats.reject(waiting.id),
            api.chats.always_allow(sent.chat_id, waiting.id, option="tool:any"),
        ):
            with pytest.raises(errors.Forbidden) as caught:
                await decision
            assert "requires_sign_in" == caught.value.upstream_code
        assert [waiting.id] == [item.id for item in pending(await api.chats.chat(sent.chat_id))]
        await transport.aclose()


async def first_pending(states):
    async for chat in states:
        if pending(chat):
            return pending(chat)[0]
    raise AssertionError


@pytest.mark.parametrize(
    "text", ["Show me a form", "Show me an old form", "Show me a form as nodes", "Show me a surface"]
)
async def test_a_form_is_filled_in(api, text):
    """In either spelling."""
    forms = []

    async def answer(waiting):
        assert isinstance(waiting, Form)
        form = widget_form(waiting.invocation.widget)
        forms.append(form)
        button = next(action for action in form.actions if action.submits)
        await api.chats.tool_result(waiting.id, widget_result(button, {"name": "Ada", "size": "l"}))

    _, reply = await talk(api, request(text, "sandbox/desk"), answer)

    assert "Ada" in reply
    assert {"name", "size", "gift", "day"} <= {field.name for field in forms[0].fields}


async def test_a_chat_shows_its_agents_plan(api):
    states, _ = await talk(api, request("Make a plan", "sandbox/desk"))

    assert ["completed"] * 3 == [step.status for step in states[-1].agent_data.plan_steps]


async def test_an_agent_that_fails_ends_its_turn(api):
    states, _ = await talk(api, request("Go", "sandbox/failing"))

    assert ("failed", True) == (states[-1].active_run.state, bool(states[-1].active_run.error))


async def test_an_agent_that_needs_a_secret_says_so(api):
    with pytest.raises(errors.RequirementsNotMet) as caught:
        await api.chats.send_message(request("Go", "sandbox/locked"))

    assert ("not_started", True) == (caught.value.outcome, bool(caught.value.requirements))


@pytest.mark.parametrize(
    "fault", [RstAfter(lines=6), FinAfter(lines=9), FinAfter(lines=4, cut=True), Stall(lines=0)], ids=str
)
async def test_a_broken_stream_repeats_and_misses_nothing(api, sandbox, fault):
    """Whatever the stream did, the text grows as it was said."""
    sandbox.faults.add(fault, path="/chats/*/stream")
    states, text = await talk(api, request("Write 60 words"))

    texts = [message.text for chat in states for message in chat.chat_messages if message.role == "assistant"]
    assert all(text.startswith(earlier) for earlier in texts)
    assert "idle" == states[-1].status


@pytest.mark.parametrize("sandbox", [Facts(client_tools_interrupt=True)], indirect=True)
async def test_a_waiting_tool_is_pending_on_newer_servers_too(api):
    """Newer servers say `awaiting_input` and `input_required`."""

    async def answer(waiting):
        await api.chats.tool_result(waiting.id, "sunny")

    _, text = await talk(api, request("What is the weather in Paris?", agent_config=config(tools=[WEATHER])), answer)

    assert "sunny" in text


async def test_a_message_whose_reply_was_lost_was_accepted_once(api, sandbox):
    """By what the server has on record."""
    states, _ = await talk(api, request("Hello"))
    sandbox.faults.add(Swallow(), path="/agents/run")

    with pytest.raises(errors.OutcomeUnknown):
        await api.chats.send_message(request("Once only", chat_id=states[-1].id))

    chat = await api.chats.chat(states[-1].id)
    assert ["Hello", "Once only"] == [message.text for message in chat.chat_messages if message.role == "user"]
