"""The endpoints of agents, and what answers a tool call."""

from dataclasses import replace

import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api.agent_config import AgentConfigInput
from inferencesh_mcp.api.agents import AgentRunRequest
from inferencesh_mcp.api.chat_models import Chat
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.models import File
from inferencesh_mcp.api.widgets import FormAction, widget_result
from tests.api.conftest import fin, problem, rst, status

pytestmark = pytest.mark.anyio

RUN = ("POST", "/agents/run")
ANSWER = {
    "user_message": {"id": "m1", "chat_id": "c1", "order": 1, "role": "user", "status": "ready"},
    "assistant_message": {"id": "m2", "chat_id": "c1", "order": 2, "role": "assistant", "status": "pending"},
}
HELLO = AgentRunRequest(agent="my/helper@abc1", text="Hi")


async def refused(awaitable, kind):
    with pytest.raises(kind) as caught:
        await awaitable
    return caught.value


async def test_templates_are_listed_and_searched(api, script):
    """By the platform."""
    script.on(
        "POST",
        "/agents/list",
        status(200, {"items": [{"namespace": "a", "name": "b", "version": {"description": "d"}}]}),
    )

    page = await api.chats.list_agents(query="cat", limit=5, cursor="x")

    assert [("a/b", "d")] == [(agent.ref, agent.description) for agent in page.items]
    assert {"limit": 5, "cursor": "x", "search": {"term": "cat", "exact": False}} == script.requests[0].json


async def test_a_message_begins_a_chat(api, script):
    """And is sent as both official SDKs' servers understand it."""
    script.on(*RUN, status(200, ANSWER))

    sent = await api.chats.send_message(replace(HELLO, context={"k": "v"}))

    assert {"agent": "my/helper@abc1", "context": {"k": "v"}, "input": {"text": "Hi"}} == script.requests[0].json
    assert ("c1", "m1", "m2") == (sent.chat_id, sent.user_message.id, sent.assistant_message.id)
    assert ("c1", ["m1", "m2"], False) == (sent.chat.id, [m.id for m in sent.chat.chat_messages], sent.chat.busy)


async def test_an_ad_hoc_agent_is_sent_whole(api, script):
    """Under its name; files in the newer and the older form."""
    script.on(*RUN, status(200, {"data": ANSWER, "messages": []}))
    config = AgentConfigInput.parse({"name": "n", "core_app": {"ref": "a/llm"}, "internal_tools": {"finish": True}})
    files = [
        File(id="f", uri="u1", content_type="image/png", filename="a.png", size=3),
        File(uri="u2", content_type="text/plain"),
    ]

    await api.chats.send_message(AgentRunRequest(chat_id="c1", agent_config=config, text="Look", files=files))

    assert {
        "chat_id": "c1",
        "agent_config": {"name": "n", "core_app": {"ref": "a/llm"}, "internal_tools": {"finish": True}},
        "agent_name": "n",
        "input": {
            "text": "Look",
            "attachments": [
                {"id": "f", "uri": "u1", "filename": "a.png", "content_type": "image/png", "size": 3},
                {"uri": "u2", "filename": "", "content_type": "text/plain"},
            ],
            "images": ["u1"],
            "files": ["u2"],
        },
    } == script.requests[0].json


CORE = AgentConfigInput.parse({"core_app": {"ref": "a/llm"}})


@pytest.mark.parametrize(
    "request_",
    [
        AgentRunRequest(text="Hi"),
        AgentRunRequest(agent="a/b", agent_config=CORE, text="Hi"),
        AgentRunRequest(agent="a/b", text=" "),
        AgentRunRequest(agent="../b", text="Hi"),
        AgentRunRequest(agent="a/b", chat_id="../c", text="Hi"),
    ],
)
async def test_a_message_that_makes_no_sense_is_not_sent(api, script, request_):
    error = await refused(api.chats.send_message(request_), errors.InvalidInput)

    assert ("not_started", True, []) == (error.outcome, error.retry_safe, script.requests)


AMBIGUOUS = {
    "reset": rst(), "closed": fin(), "500": problem(500), "504": problem(504), "empty": status(200), "half": fin(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "no chat": status(200, {"assistant_message": {"id": "m"}}), "html": status(200, b"<html>"), "odd": status(200, [1]),
    "503 of a proxy": status(503, b"busy"),
}  # fmt: skip


@pytest.mark.parametrize("play", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_a_message_whose_reply_was_lost_is_not_sent_again(api, script, play):
    script.on(*RUN, play, status(200, ANSWER))

    error = await refused(api.chats.send_message(HELLO), errors.OutcomeUnknown)

    assert (1, "unknown", False) == (script.count(*RUN), error.outcome, error.retry_safe)
    assert error.sent_at is not None
    assert "Do not send it again" in error.next_step
    assert "task_list" not in error.next_step


async def test_the_chat_says_whether_a_lost_message_arrived(api, script):
    script.on(*RUN, rst())

    error = await refused(api.chats.send_message(replace(HELLO, chat_id="c1")), errors.OutcomeUnknown)

    assert "read the chat c1 with chat_get" in error.next_step


@pytest.mark.parametrize(
    ("code", "kind"), [(400, "InvalidInput"), (402, "PaymentRequired"), (404, "NotFound"), (409, "Conflict")]
)
async def test_a_refused_message_was_not_taken(api, script, code, kind):
    script.on(*RUN, problem(code), status(200, ANSWER))

    error = await refused(api.chats.send_message(HELLO), getattr(errors, kind))

    assert (1, "not_started", True) == (script.count(*RUN), error.outcome, error.retry_safe)


async def test_a_message_refused_for_load_is_sent_again(api, script):
    """429, before anything began."""
    script.on(*RUN, problem(429), status(200, ANSWER))

    assert "c1" == (await api.chats.send_message(HELLO)).chat_id
    assert 2 == script.count(*RUN)


async def test_chats_are_read_listed_and_stopped(api, script):
    script.on(
        "GET",
        "/chats/c1",
        status(
            200, {"id": "c1", "status": "busy", "chat_messages": [{"id": "b", "order": 2}, {"id": "a", "order": 1}]}
        ),
    )
    script.on("POST", "/chats/list", status(200, {"items": [{"id": "c1", "name": "n"}]}))
    script.on("POST", "/chats/c1/stop", status(204))

    assert ["a", "b"] == [message.id for message in (await api.chats.chat("c1")).chat_messages]
    assert ["n"] == [chat.name for chat in (await api.chats.list_chats(limit=3)).items]
    await api.chats.stop_chat("c1")
    assert {"limit": 3, "sort": [{"field": "updated_at", "dir": "desc"}]} == script.requests[1].json
    with pytest.raises(errors.InvalidInput):
        await api.chats.chat("../c1")


async def test_messages_are_read_separately_if_the_chat_has_none(api, script):
    """The newest servers do not load them with the chat; older ones do not have the call."""
    bare = {"id": "c1", "status": "idle"}
    script.on("GET", "/chats/c1", status(200, bare))
    script.on(
        "GET",
        "/chats/c1/messages?limit=100",
        status(200, {"items": [{"id": "b", "order": 2}, {"id": "a", "order": 1}]}),
        status(404),
    )

    assert ["a", "b"] == [message.id for message in (await api.chats.chat("c1")).chat_messages]
    assert () == (await api.chats.chat("c1")).chat_messages


async def test_tool_calls_are_answered_and_decided(api, script):
    """Each by its own call."""
    for path in (
        "/tools/t1",
        "/tools/t1/invoke",
        "/tools/t1/reject",
        "/chats/c1/tools/t1/always-allow",
    ):
        script.on("POST", path, status(200, {"id": "t1", "data": {"own": True}}))
    chats = api.chats

    await chats.tool_result("t1", "sunny")
    await chats.tool_result("t1", widget_result(FormAction(type="ok", payload={"a": 1}), {"name": "é"}))
    await chats.tool_result("t1", widget_result(FormAction(type="ok"), None))
    await chats.invoke("t1")
    await chats.reject("t1", "too dear")
    await chats.always_allow("c1", "t1", tool_name="img")

    assert [
        {"result": "sunny"},
        {"result": '{"action":{"type":"ok","payload":{"a":1}},"form_data":{"name":"é"}}'},
        {"result": '{"action":{"type":"ok"}}'},
        {},
        {"reason": "too dear"},
        {"tool_name": "img"},
    ] == [request.json for request in script.requests]


@pytest.mark.parametrize("play", [rst(), fin(), problem(500), problem(503)])
@pytest.mark.parametrize("call", ["tool_result", "invoke", "reject"])
async def test_an_answer_is_sent_once(api, script, play, call):
    """Whether it had its effect, the chat says."""
    path = {"tool_result": "/tools/t1"}.get(call, f"/tools/t1/{call}")
    script.on("POST", path, play, status(200))
    arguments = ("t1", "r") if call == "tool_result" else ("t1",)

    error = await refused(getattr(api.chats, call)(*arguments), errors.WaitError)

    assert (1, "unknown", False) == (script.count("POST", path), error.outcome, error.retry_safe)


@pytest.mark.parametrize(("code", "kind"), [(404, "NotFound"), (409, "Conflict"), (429, "RateLimited")])
async def test_an_answer_that_was_refused_had_no_effect(api, script, code, kind):
    script.on("POST", "/tools/t1", problem(code))

    error = await refused(api.chats.tool_result("t1", "r"), getattr(errors, kind))

    assert (1, "not_started", True) == (len(script.requests), error.outcome, error.retry_safe)


async def test_a_decision_that_only_a_person_may_make_says_so(api, script):
    """The newest platform takes none from a key."""
    body = {
        "type": "https://api.inference.sh/errors/requires_sign_in",
        "title": "Forbidden",
        "status": 403,
        "detail": "sign in",
    }
    script.on("POST", "/tools/t1/invoke", status(403, body))

    error = await refused(api.chats.invoke("t1"), errors.Forbidden)

    assert ("requires_sign_in", "not_started") == (error.upstream_code, error.outcome)


async def test_without_a_key_no_message_is_sent(transport):
    """And nothing is sent."""
    with pytest.raises(errors.KeyMissing):
        await Api(transport, None).chats.send_message(HELLO)
    with pytest.raises(errors.KeyMissing):
        Api(transport, None).chats.follow_chat(Chat(id="c1"))
