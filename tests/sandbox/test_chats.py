"""Chats: messages, runs, streams, stopping and waiting."""

from __future__ import annotations

import json

import anyio
import pytest

from inferencesh_sandbox import Facts
from tests.sandbox.talking import WEATHER, Talker, ad_hoc, idle, said, tools
from tests.support.faults import FinAfter, Swallow

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(me):
    return Talker(me)


async def spoken(clock, count):
    """Let an agent that counts slowly say so many numbers, and no more."""
    with anyio.fail_after(10):
        for _ in range(count):
            await clock.until_asleep()
            clock.advance(0.4)
        await clock.until_asleep()


def words(lines, message):
    """What the deltas of one message add up to, in their order."""
    deltas = [line["data"] for line in lines if line.get("event") == "delta" and line["data"]["resource_id"] == message]
    assert [one["seq"] for one in deltas] == list(range(1, len(deltas) + 1))
    return "".join(one["delta"]["response"] for one in deltas)


@pytest.mark.parametrize("path", ["/agents/run", "/agents/message", "/agents/messages", "/chats"])
async def test_a_message_begins_a_chat_and_its_answer_is_pending(me, talk, path):
    answer = (await me.post(path, {"agent": "sandbox/assistant", "input": {"text": "hello"}})).json()
    user, assistant = answer["user_message"], answer["assistant_message"]

    assert (user["role"], user["status"], user["content"]) == ("user", "ready", [{"type": "text", "text": "hello"}])
    assert (assistant["role"], assistant["status"], assistant["content"]) == ("assistant", "pending", [])
    assert user["chat_id"] == assistant["chat_id"]
    assert user["order"] < assistant["order"]
    assert (await me.get(f"/chats/{user['chat_id']}/status")).json()["status"] == "busy"


async def test_a_chat_can_be_opened_first_and_spoken_in_later(me, talk):
    chat = (await me.post("/chats", {"agent": "sandbox/assistant", "context": {"k": "v"}})).json()
    user = (await me.post(f"/chats/{chat['id']}/messages", {"message": "what is the context?"})).json()
    await talk.lines(chat["id"])
    told = await talk.chat(chat["id"])

    assert (chat["status"], "chat_messages" in chat, chat["active_run"]) == ("idle", False, None)
    assert user["role"] == "user"
    assert "k = v" in said(told)[-1]


async def test_a_whole_answer_comes_by_deltas_and_then_by_its_message(talk):
    answer = await talk.send("write 30 words")
    lines = await talk.lines(answer["assistant_message"]["chat_id"])
    told = [line["data"] for line in lines if line["event"] == "chat_messages"]
    last = [one for one in told if one["role"] == "assistant"][-1]

    assert (last["id"], last["status"]) == (answer["assistant_message"]["id"], "ready")
    assert words(lines, last["id"]) == last["content"][0]["text"]
    assert lines[-1]["data"]["active_run"]["state"] == "completed"
    assert "chat_messages" not in lines[-1]["data"]


async def test_a_new_connection_is_told_the_growing_text_from_its_first_word(talk, clock):
    answer = await talk.send("count to 6 slowly")
    chat, message = answer["assistant_message"]["chat_id"], answer["assistant_message"]["id"]
    await spoken(clock, 3)

    lines = await talk.lines(chat)

    first = next(line["data"] for line in lines if line.get("data", {}).get("id") == message)
    assert (first["status"], first["content"]) == ("pending", [])
    assert words(lines, message) == "1 2 3 4 5 6"


async def test_who_reads_the_chat_instead_sees_the_text_so_far(talk, clock):
    answer = await talk.send("count to 6 slowly")
    await spoken(clock, 3)

    assert said(await talk.chat(answer["assistant_message"]["chat_id"])) == ["1 2 3"]


async def test_an_idle_chat_tells_its_messages_before_it_says_that_it_is_idle(talk):
    chat = await talk.turn("hello")

    lines = await talk.lines(chat["id"])

    assert [line["event"] for line in lines] == [*["chat_messages"] * 3, "agent_runs", "chats"]
    assert [line["data"] for line in lines[:2]] == chat["chat_messages"]
    assert "event" == lines[2]["data"]["role"]


async def test_a_stream_stays_open_between_turns_and_beats(talk, me, clock):
    chat = (await talk.turn("hello"))["id"]
    lines = []
    with anyio.fail_after(10):
        async with me.http.stream("GET", f"/chats/{chat}/stream") as answer:
            told = answer.aiter_lines()
            while not (lines and idle(lines[-1])):
                lines.append(json.loads(await anext(told)))
            await clock.until_asleep()
            clock.advance(10)
            beat = json.loads(await anext(told))
            await talk.send("again", chat=chat)
            following = [json.loads(await anext(told)) for _ in range(4)]

    assert beat == {"type": "heartbeat"}
    assert [line["event"] for line in following] == ["agent_runs", "chats", "chat_messages", "chat_messages"]
    assert following[1]["data"]["status"] == "busy"


async def test_the_stream_comes_as_server_sent_events_too(talk, me):
    chat = (await talk.turn("hello"))["id"]

    async with me.http.stream("GET", f"/chats/{chat}/stream", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        first = await anext(answer.aiter_lines())

    assert json.loads(first.removeprefix("data: "))["event"] == "chat_messages"


async def test_a_broken_stream_costs_nothing(talk, sandbox):
    sandbox.faults.add(FinAfter(lines=6), path="/chats/*/stream")
    answer = await talk.send("count to 8 slowly")
    chat = answer["assistant_message"]["chat_id"]

    cut, whole = await talk.lines(chat), await talk.lines(chat)

    assert len(cut) == 6
    assert idle(whole[-1])
    assert said(await talk.chat(chat)) == ["1 2 3 4 5 6 7 8"]


async def test_who_polls_the_status_sees_that_a_client_tool_waits(talk, me):
    chat, tool = await talk.blocked("weather in Rome", ad_hoc(WEATHER))

    polled = (await me.get(f"/chats/{chat}/status")).json()["status"]
    told = (await talk.chat(chat))["status"]
    await me.post(f"/tools/{tool['id']}", {"result": "sunny"})
    after = (await me.get(f"/chats/{chat}/status")).json()["status"]

    assert (polled, told, after) == ("awaiting_input", "busy", "busy")


@pytest.mark.parametrize("facts", [Facts(client_tools_interrupt=True)])
async def test_where_client_tools_interrupt_the_chat_awaits_input(talk):
    chat, tool = await talk.blocked("weather in Rome", ad_hoc(WEATHER))
    told = await talk.chat(chat)

    assert (told["status"], told["active_run"]["state"]) == ("awaiting_input", "input_required")
    assert told["active_run"]["interrupt_reason"] == "client_tool"
    await talk.me.post(f"/tools/{tool['id']}", {"result": "sunny"})
    await talk.lines(chat)
    assert said(await talk.chat(chat))[-1] == "get_weather says: sunny"


async def test_a_message_to_a_busy_chat_waits_and_no_idle_moment_lies_between(talk, sandbox):
    first = await talk.send("count to 5 slowly")
    chat = first["assistant_message"]["chat_id"]
    second = await talk.send("my name is Ada", chat=chat)

    lines = await talk.lines(chat)
    told = await talk.chat(chat)

    assert (second["user_message"]["status"], second["assistant_message"]["status"]) == ("queued", "queued")
    assert sum(map(idle, lines)) == 1
    assert said(told) == ["1 2 3 4 5", "Hello Ada. I remember your name for as long as this chat lasts."]
    assert [message["role"] for message in told["chat_messages"]] == ["user", "assistant"] * 2
    orders = [message["order"] for message in told["chat_messages"]]
    assert orders == sorted(set(orders))
    assert [one.text for one in sandbox.ledger.messages] == ["count to 5 slowly", "my name is Ada"]


async def test_a_queued_message_can_be_taken_back_once(talk, me):
    chat = (await talk.send("count to 5 slowly"))["assistant_message"]["chat_id"]
    queued = (await talk.send("never mind", chat=chat))["user_message"]["id"]
    busy = (await talk.chat(chat))["chat_messages"][0]["id"]

    answers = [await me.post(f"/chats/messages/{name}/cancel") for name in (queued, queued, busy, "nowhere")]
    await talk.lines(chat)

    assert [answer.status_code for answer in answers] == [200, 409, 409, 404]
    assert said(await talk.chat(chat)) == ["1 2 3 4 5"]


async def test_stopping_keeps_what_was_said_and_ends_the_turn_at_once(talk, me, sandbox, clock):
    answer = await talk.send("count to 100 slowly")
    chat = answer["assistant_message"]["chat_id"]
    await talk.send("and then?", chat=chat)
    await spoken(clock, 3)

    stopped = (await me.post(f"/chats/{chat}/stop")).json()
    again = await me.post(f"/chats/{chat}/stop")
    told = await talk.chat(chat)

    assert (stopped["status"], again.status_code) == ("idle", 200)
    assert told["active_run"]["state"] == "canceled"
    assert [message["status"] for message in told["chat_messages"]] == ["ready", "cancelled", "cancelled", "cancelled"]
    assert said(told)[0] == "1 2 3"
    assert [one.chat_id for one in sandbox.ledger.stops] == [chat]
    assert said(await talk.turn("my name is Bo", chat=chat))[-1].startswith("Hello Bo")


async def test_what_hangs_is_ended_by_a_stop(talk, me):
    chat = (await talk.send("x", "sandbox/hanging"))["assistant_message"]["chat_id"]
    await talk.lines(chat, lambda line: line.get("data", {}).get("seq") == 12)

    await me.post(f"/chats/{chat}/stop")

    assert (await talk.lines(chat))[-1]["data"]["active_run"]["state"] == "canceled"


async def test_stopping_while_an_approval_waits_ends_the_approval(talk, caller):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")

    await talk.me.post(f"/chats/{chat}/stop")
    told = await talk.chat(chat)
    async with caller("inf_person_me") as person:
        late = await person.post(f"/tools/{tool['id']}/invoke")

    assert (told["status"], told["pending_interrupts"], tools(told)[0]["status"]) == ("idle", [], "cancelled")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "invalid_transition")


async def test_stopping_stops_the_task_and_the_agent_that_a_tool_became(talk, me, sandbox):
    slow = {
        "name": "slow",
        "description": "",
        "type": "app",
        "app": {"ref": "sandbox/slow", "input": {"seconds": 3600}},
    }
    hang = {"name": "hanging", "description": "", "type": "agent", "agent": {"ref": "sandbox/hanging"}}
    answer = await talk.send("slow and hanging", ad_hoc(slow, hang))
    chat = answer["assistant_message"]["chat_id"]
    await talk.lines(chat, lambda line: line.get("event") == "chat_messages" and all(
        tool["execution_id"] for tool in line["data"]["tool_invocations"] or [{"execution_id": None}]))  # fmt: skip
    task, below = (tool["execution_id"] for tool in tools(await talk.chat(chat)))

    await me.post(f"/chats/{chat}/stop")

    with anyio.fail_after(5):
        while (await me.get(f"/tasks/{task}/status")).json()["status"] != 12:
            await anyio.sleep(0.01)
        while (await talk.chat(below))["status"] != "idle":
            await anyio.sleep(0.01)
    assert {tool["status"] for tool in tools(await talk.chat(chat))} == {"cancelled"}


async def test_a_message_whose_answer_is_lost_was_sent_all_the_same(me, talk, sandbox):
    sandbox.faults.add(Swallow(), path="/agents/run")
    with pytest.raises(Exception):  # noqa: B017 - the connection breaks, however it does
        await me.post("/agents/run", {"agent": "sandbox/assistant", "input": {"text": "my name is Ada"}})

    (chat,) = (await me.post("/chats/list")).json()["items"]
    await talk.lines(chat["id"])

    assert len(sandbox.ledger.messages) == 1
    assert said(await talk.chat(chat["id"]))[0].startswith("Hello Ada")


async def test_messages_are_paged_newest_first(talk, me):
    chat = (await talk.turn("one"))["id"]
    await talk.turn("two", chat=chat)
    first = (await me.get(f"/chats/{chat}/messages?limit=3")).json()
    second = (await me.get(f"/chats/{chat}/messages?limit=3&cursor={first['next_cursor']}")).json()

    orders = [message["order"] for message in (*first["items"], *second["items"])]
    assert orders == [6, 5, 4, 3, 2, 1]
    assert (await me.get(f"/chats/{chat}/messages?limit=x")).status_code == 400


async def test_chats_are_listed_renamed_traced_and_deleted(talk, me):
    chat = (await talk.turn("delegate: hello", "sandbox/desk"))["id"]
    renamed = (await me.post(f"/chats/{chat}", {"name": "Mine", "description": "about it"})).json()
    page = (await me.post("/chats/list", {"search": {"term": "mine"}})).json()
    trace = (await me.get(f"/chats/{chat}/trace")).json()

    assert (renamed["name"], renamed["description"]) == ("Mine", "about it")
    assert [one["id"] for one in page["items"]] == [chat]
    assert (await me.post("/chats/list")).json()["total_items"] == 1
    assert [tool["function"]["name"] for tool in trace["runs"][0]["tool_invocations"]] == ["colleague"]
    assert (await me.http.delete(f"/chats/{chat}")).status_code == 204
    assert (await me.get(f"/chats/{chat}")).status_code == 404


async def test_deleting_a_chat_ends_its_streams(talk, me):
    chat = (await talk.turn("hello"))["id"]
    with anyio.fail_after(10):
        async with me.http.stream("GET", f"/chats/{chat}/stream") as answer:
            lines = answer.aiter_lines()
            while not idle(json.loads(await anext(lines))):
                pass
            await me.http.delete(f"/chats/{chat}")
            rest = [line async for line in lines]

    assert rest == []


@pytest.mark.parametrize(
    ("asked", "status", "named"),
    [
        ({"agent": "sandbox/assistant"}, 400, "input"),
        ({"agent": "sandbox/assistant", "input": {}}, 400, "input.text"),
        ({"agent": "sandbox/assistant", "input": {"text": 7}}, 400, "input.text"),
        ({"agent": "sandbox/assistant", "input": {"text": "x", "images": [7]}}, 400, "input.images"),
        ({"agent": "sandbox/assistant", "input": {"text": "x", "files": ["u"] * 21}}, 400, "at most 20"),
        ({"agent": "sandbox/assistant", "input": {"text": "x", "attachments": [{}]}}, 400, "attachments.0.uri"),
        ({"agent": "sandbox/assistant", "input": {"text": "x"}, "context": {"a": 1}}, 400, "context"),
        ({"agent": "sandbox/assistant", "agent_config": {}, "input": {"text": "x"}}, 400, "either"),
        ({"agent": "sandbox/assistant@nope", "input": {"text": "x"}}, 404, "no version 'nope'"),
        ({"agent": "sandbox/assistant", "chat_id": "nowhere", "input": {"text": "x"}}, 404, "chat 'nowhere'"),
        ({"agent_config": [], "input": {"text": "x"}}, 400, "agent_config"),
        ({"agent_config": {"tools": [{"name": ""}]}, "input": {"text": "x"}}, 400, "agent_config.tools.0.name"),
        ({"agent_config": {"context": [{"name": "k", "required": True}]}, "input": {"text": "x"}}, 400, "context.k"),
        ({"input": {"text": "x"}}, 400, "agent"),
    ],
)
async def test_a_message_that_is_wrong_is_refused_by_name_and_nothing_begins(me, sandbox, asked, status, named):
    answer = await me.post("/agents/run", asked)

    assert answer.status_code == status
    assert named in answer.json()["detail"]
    assert sandbox.ledger.messages == ()
    assert (await me.post("/chats/list")).json()["items"] == []


async def test_one_key_cannot_see_or_touch_the_chats_of_another(talk, caller):
    chat, tool = await talk.blocked("a lake", "sandbox/approver")
    told = await talk.chat(chat)
    interrupt, run = told["pending_interrupts"][0]["id"], told["active_run"]["id"]
    message = told["chat_messages"][0]["id"]
    gets = [f"/chats/{chat}{what}" for what in ("", "/status", "/stream", "/messages", "/trace")]
    posts = [f"/chats/{chat}/stop", f"/tools/{tool['id']}", f"/tools/{tool['id']}/invoke", f"/tools/{tool['id']}/reject",
             f"/chats/{chat}/tools/{tool['id']}/always-allow", f"/chats/messages/{message}/cancel",
             f"/interrupts/{interrupt}/resolve", f"/chats/{chat}/messages"]  # fmt: skip

    async with caller("inf_person_other") as other:
        seen = [(await other.get(path)).status_code for path in (*gets, f"/agent-runs/{run}/interrupts")]
        done = [(await other.post(path, {"result": "x", "input": {"text": "x"}})).status_code for path in posts]
        assert (await other.post("/chats/list")).json()["items"] == []

    assert set(seen) == set(done) == {404}
    assert (await talk.chat(chat))["status"] == "awaiting_input"


async def test_a_person_and_their_key_share_one_world(talk, caller):
    chat = (await talk.turn("hello"))["id"]

    async with caller("inf_person_me") as person, caller("inf_person_me2") as stranger:
        assert (await person.get(f"/chats/{chat}")).status_code == 200
        assert (await stranger.get(f"/chats/{chat}")).status_code == 404


async def test_a_result_may_bring_files_and_must_be_text(talk):
    chat, tool = await talk.blocked("weather in Rome", ad_hoc(WEATHER))
    path, file = f"/tools/{tool['id']}", {"uri": "https://example.com/a.png", "filename": "a.png"}

    assert (await talk.me.post(path, {"result": {"a": 1}})).status_code == 400
    assert (await talk.me.post(path, {"result": "x", "attachments": [file] * 21})).status_code == 400
    answer = (await talk.me.post(path, {"result": "sunny", "attachments": [file]})).json()

    assert (answer["status"], answer["data"]) == ("completed", {"attachments": [file]})
    await talk.lines(chat)


async def test_a_chat_of_many_messages_stays_in_order(talk):
    chat = (await talk.turn("hello"))["id"]
    for number in range(40):
        await talk.send(f"my name is N{number}", chat=chat)
    await talk.lines(chat)
    told = await talk.chat(chat)

    names = [message["content"][0]["text"] for message in told["chat_messages"][2::2]]
    assert names == [f"my name is N{number}" for number in range(40)]
    assert {message["status"] for message in told["chat_messages"]} == {"ready"}


async def test_a_chat_takes_only_so_many_waiting_messages(talk, me):
    chat = (await talk.send("x", "sandbox/hanging"))["assistant_message"]["chat_id"]
    for _ in range(50):
        await talk.send("and then?", chat=chat)

    answer = await me.post("/agents/run", {"chat_id": chat, "input": {"text": "and then?"}})
    await me.post(f"/chats/{chat}/stop")

    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "limit_exceeded")
    assert (await talk.chat(chat))["status"] == "idle"
