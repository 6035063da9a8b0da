"""Chats on the wire, what a line adds to one, when a turn is over, and what it waits for."""

import json
from datetime import UTC, datetime

import pytest

from inferencesh_mcp.api.chat_models import Chat, ChatMessage, ContentPart, Interrupt, Sent, ToolInvocation
from inferencesh_mcp.api.chat_state import Conversation
from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Form, Gate, SignIn, Turn, pending, turn_over

ARGUMENTS = {"city": "Paris", "n": 1}


def read(**told):
    return Chat.model_validate({"id": "c1", **told})


@pytest.mark.parametrize("arguments", [ARGUMENTS, json.dumps(ARGUMENTS)])
def test_arguments_are_an_object_in_either_form(arguments):
    call = ToolInvocation.model_validate({"id": "t", "function": {"name": "f", "arguments": arguments}})

    assert ("f", ARGUMENTS, "") == (call.name, call.arguments, call.function.unread)


@pytest.mark.parametrize("arguments", ['{"city": "Par', "[1]", "3", ""])
def test_arguments_that_cannot_be_read_are_kept_as_they_came(arguments):
    """An approval shows them."""
    call = ToolInvocation.model_validate({"id": "t", "function": {"name": "f", "arguments": arguments}})

    assert ({}, arguments) == (call.arguments, call.function.unread)


ODD = [None, 7, "x", [], [None, 3, "x", {}], {}, {"a": {"b": [1]}}, True, 1.5]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize(
    "name",
    sorted(
        {*Chat.model_fields, *ChatMessage.model_fields, *ToolInvocation.model_fields, *Interrupt.model_fields} - {"id"}
    ),
)
def test_no_odd_value_loses_a_chat(name, odd):
    """Wherever it stands."""
    call = {"id": "t", "function": {"name": "f", "arguments": {}}, name: odd}
    chat = read(
        **{"chat_messages": [{"id": "m", "content": [{"type": "text", "text": "x", name: odd}], "tool_invocations": [call], name: odd}],
           "pending_interrupts": [{"id": "i", "reason": "tool_approval", name: odd}], "active_run": {"id": "r", "state": "working", name: odd},
           "agent_data": {"plan_steps": [{"title": "t", name: odd}]}, name: odd}
    )  # fmt: skip

    pending(chat)
    [(message.text, message.files, [part.shown for part in message.content]) for message in chat.chat_messages]
    conversation = Conversation(Chat(id="c1"))
    for event in ("chats", "chat_messages", "agent_runs", "delta", "new"):
        conversation.hear(
            {"event": event, "data": {"id": "m", "resource_id": "m", "delta": {"response": "x"}, name: odd}}
        )
        conversation.hear({"event": event, "data": odd, "fields": [name]})
    assert "c1" == conversation.chat.id


def test_unknown_words_are_shown():
    part = ContentPart.model_validate({"type": "Hologram", "hologram": {}})
    chat = read(
        status="Dreaming", chat_messages=[{"id": "m", "tool_invocations": [{"type": "harness", "status": "frozen"}]}]
    )

    assert ("[hologram]", "dreaming", True) == (part.shown, chat.status, chat.busy)
    assert ("harness", "frozen") == (
        chat.chat_messages[0].tool_invocations[0].type,
        chat.chat_messages[0].tool_invocations[0].status,
    )


def test_a_message_is_its_parts():
    message = ChatMessage.model_validate({"status": "ready", "content": [
        {"type": "text", "text": "a"}, {"type": "reasoning", "reasoning": "hm"}, {"type": "image", "image": "u1"},
        {"type": "file", "file": {"uri": "u2"}}, {"type": "text", "text": "b"}, {"type": "text", "error": "e"}, None]})  # fmt: skip

    assert ("a\n\nb", "hm", ("u1", "u2"), ("e",)) == (message.text, message.reasoning, message.files, message.errors)
    assert ["a", "hm", "u1", "u2", "b", "e"] == [part.shown for part in message.content]
    assert "plain" == ChatMessage.model_validate({"content": "plain", "status": "ready"}).text


def test_a_chat_keeps_what_the_agent_keeps():
    chat = read(
        agent_data={
            "plan_steps": [{"index": 1, "title": "t", "status": "in_progress"}],
            "memory": '{"k":"v"}',
        },
        output={"a": 1},
    )

    assert ("t", "in_progress", {"k": "v"}, {"a": 1}) == (
        chat.agent_data.plan_steps[0].title, chat.agent_data.plan_steps[0].status, chat.agent_data.memory, chat.output)  # fmt: skip


BUSYNESS = [
    ("idle", None, False), ("busy", None, True), ("awaiting_input", None, True), ("waiting", None, True), ("completed", None, False),
    ("", None, False), ("new word", None, True), ("idle", "working", True), ("busy", "completed", False), ("busy", "submitted", True),
    ("idle", "input_required", True), ("idle", "auth_required", True), ("busy", "failed", False), ("busy", "canceled", False),
    ("busy", "rejected", False), ("idle", "new word", True), ("busy", "", True),
]  # fmt: skip


@pytest.mark.parametrize(("status", "state", "busy"), BUSYNESS)
def test_a_chat_is_busy_by_its_run_or_else_by_its_status(status, state, busy):
    assert busy == read(status=status, active_run=None if state is None else {"id": "r", "state": state}).busy


SENT = Sent(
    chat_id="c1",
    user_message=ChatMessage(id="u", status="ready"),
    assistant_message=ChatMessage(id="a", status="pending"),
)


def sight(status, answer="pending", run=None, state=None, asked="ready", of=""):
    return read(
        status=status,
        active_run={"id": run, "state": state, "user_message_id": of} if run else None,
        chat_messages=[
            {"id": "u", "order": 1, "role": "user", "status": asked},
            {"id": "a", "order": 2, "status": answer},
        ],
    )


BEFORE = read(status="idle", active_run={"id": "r1", "state": "completed"})
AT_WORK = read(status="busy", active_run={"id": "r1", "state": "working"})
TURNS = {
    "idle as before": (BEFORE, [sight("idle")], False),
    "idle as before, with its run": (BEFORE, [sight("idle", run="r1", state="completed")], False),
    "busy": (BEFORE, [sight("busy")], False),
    "busy, then idle": (BEFORE, [sight("idle"), sight("busy"), sight("idle")], True),
    "the answer is final": (BEFORE, [sight("idle", "ready")], True),
    "the answer failed": (BEFORE, [sight("idle", "failed")], True),
    "the answer is final, but the run goes on": (BEFORE, [sight("busy", "ready", "r2", "working")], False),
    "a run that was not there has ended": (BEFORE, [sight("idle", run="r2", state="failed")], True),
    "the run of this message has ended": (BEFORE, [sight("idle", run="r1", state="completed", of="u")], True),
    "the run of another message has ended": (BEFORE, [sight("idle", run="r2", state="completed", of="x")], False),
    "a new chat, idle yet": (None, [sight("idle")], False),
    "a new chat, its run over": (None, [sight("idle", run="r1", state="completed")], True),
    "waiting for a tool": (BEFORE, [sight("busy", run="r2", state="input_required")], False),
    "queued behind another": (AT_WORK, [sight("busy", run="r1", state="working", asked="queued"), sight("idle", run="r1", state="completed", asked="queued")], False),
    "queued, then answered": (AT_WORK, [sight("busy", run="r1", state="working", asked="queued"), sight("busy", run="r2", state="working"), sight("idle", run="r2", state="completed")], True),
    "queued, then taken back": (AT_WORK, [sight("busy", run="r1", state="working", asked="cancelled")], True),
    "the other's work is not this turn's": (AT_WORK, [sight("busy", run="r1", state="working"), sight("idle", run="r1", state="completed")], False),
}  # fmt: skip


@pytest.mark.parametrize(("before", "sightings", "over"), TURNS.values(), ids=TURNS)
def test_this_turn_is_over(before, sightings, over):
    """And not only the one before it."""
    turn = Turn.of(SENT, before)
    for chat in sightings:
        turn = turn.seeing(chat)

    assert over == turn_over(sightings[-1], turn)


def test_who_comes_later_sees_the_end_of_an_idle_chat():
    assert turn_over(sight("idle"), Turn.under_way(sight("idle")))
    assert not turn_over(sight("busy"), Turn.under_way(sight("busy")))


def test_the_messages_of_a_turn_come_after_its_own():
    chat = read(chat_messages=[{"id": name, "order": order} for order, name in enumerate("xuab")])

    assert ["a", "b"] == [message.id for message in Turn.of(SENT).messages(chat)]
    assert ["x", "u", "a", "b"] == [message.id for message in Turn().messages(chat)]


def waits(call=None, interrupt=None, status="busy", message="pending", **run):
    calls = [{"id": "t1", "function": {"name": "f", "arguments": ARGUMENTS}, **call}] if call else []
    return read(
        status=status,
        active_run=run or None,
        chat_messages=[{"id": "m", "status": message, "tool_invocations": calls}],
        pending_interrupts=[{"id": "i1", "chat_id": "c1", **interrupt}] if interrupt else [],
    )


ASKS = {
    "reason": "tool_approval",
    "status": "pending",
    "resource_id": "t1",
    "meta": {"tool_name": "g", "arguments": {"a": 1}, "tool_invocation_id": "t1"},
}
KINDS = {
    "client tool": (waits({"type": "client", "status": "awaiting_input"}), [ClientTool]),
    "client tool under way": (waits({"type": "client", "status": "in_progress"}), [ClientTool]),
    "client tool under way in a chat that is over": (waits({"type": "client", "status": "in_progress"}, status="idle"), []),
    "client tool of a message that was stopped": (waits({"type": "client", "status": "awaiting_input"}, message="cancelled"), []),
    "client tool answered": (waits({"type": "client", "status": "completed"}), []),
    "another tool under way": (waits({"type": "app", "status": "in_progress"}), []),
    "approval, by the invocation": (waits({"type": "app", "status": "awaiting_approval"}), [Approval]),
    "approval, by both": (waits({"type": "app", "status": "awaiting_approval"}, ASKS), [Approval]),
    "approval, by an interrupt of a pending call": (waits({"type": "app", "status": "pending"}, ASKS), [Approval]),
    "approval, by the interrupt alone": (waits(None, ASKS), [Approval]),
    "approval decided": (waits({"type": "app", "status": "in_progress"}, ASKS), []),
    "approval of an interrupt that is resolved": (waits(None, ASKS | {"status": "resolved"}), []),
    "form": (waits({"type": "internal", "status": "awaiting_input", "widget": {"type": "ui"}}), [Form]),
    "form in a string": (waits({"type": "internal", "status": "awaiting_input", "widget": '{"type": "ui"}'}), [Form]),
    "form, by the interrupt alone": (waits(None, {"reason": "widget", "meta": {"widget": {"type": "ui"}}, "resource_id": "t9"}), [Form]),
    "client tool, by the interrupt alone": (waits(None, {"reason": "client_tool", "resource_id": "t9", "meta": '{"tool_name":"f"}'}), [ClientTool]),
    "client tool, by both": (waits({"type": "client", "status": "awaiting_input"}, {"reason": "client_tool", "resource_id": "t1"}), [ClientTool]),
    "something else's input": (waits({"type": "harness", "status": "awaiting_input"}), [Gate]),
    "sign-in": (waits(None, {"reason": "auth"}), [SignIn]),
    "sign-in, by the run": (waits(None, id="r", state="auth_required", interrupt_meta='{"provider":"google"}'), [SignIn]),
    "sign-in, by both": (waits(None, {"reason": "auth"}, id="r", state="auth_required"), [SignIn]),
    "confirmation": (waits(None, {"reason": "confirmation"}), [Gate]),
    "a new reason": (waits(None, {"reason": "full_moon"}), [Gate]),
    "its own wait": (waits(None, {"reason": "wait"}), []),
    "nothing": (waits(), []),
}  # fmt: skip


@pytest.mark.parametrize(("chat", "kinds"), KINDS.values(), ids=KINDS)
def test_what_waits_is_told_once(chat, kinds):
    assert kinds == [type(one) for one in pending(chat)]


def test_an_approval_tells_what_it_is_about():
    """The invocation's own arguments, else the interrupt's."""
    [own] = pending(
        waits({"type": "app", "status": "awaiting_approval"}, ASKS | {"expires_at": "2026-01-02T03:04:05Z"})
    )
    [alone] = pending(waits(None, ASKS | {"meta": json.dumps(ASKS["meta"])}))

    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert Approval(id="t1", tool_name="f", arguments=ARGUMENTS, chat_id="c1", expires_at=moment) == own
    assert Approval(id="t1", tool_name="g", arguments={"a": 1}, chat_id="c1") == alone


def heard(*told, chat=None):
    conversation = Conversation(chat or Chat(id="c1"))
    conversation.connected()
    for line in told:
        conversation.connected() if line == "reconnected" else conversation.hear(line)
    return conversation.chat


def chats(fields=None, **data):
    return {"event": "chats", "data": {"id": "c1", **data}} | ({"fields": fields} if fields else {})


def message(name, fields=None, **data):
    return {"event": "chat_messages", "data": {"id": name, "chat_id": "c1", **data}} | (
        {"fields": fields} if fields else {}
    )


def run(state, name="r1", **data):
    return {"event": "agent_runs", "data": {"id": name, "chat_id": "c1", "state": state, **data}}


def delta(name, seq, text, **more):
    return {"event": "delta", "data": {"resource_id": name, "seq": seq, "delta": {"response": text, **more}}}


def text(name="m"):
    return lambda chat: chat.message(name).text if chat.message(name) else None


def state(chat):
    return chat.active_run.state if chat.active_run else None


PENDING, READY = {"status": "pending"}, {"status": "ready", "content": [{"type": "text", "text": "whole"}]}
LATER, EARLIER = {"updated_at": "2026-01-02T03:04:06Z"}, {"updated_at": "2026-01-02T03:04:05Z"}
LINES = {
    "pieces make a text": ([delta("m", 1, "a"), delta("m", 2, "b")], text(), "ab"),
    "a piece told twice counts once": ([delta("m", 1, "a"), delta("m", 1, "a"), delta("m", 2, "b")], text(), "ab"),
    "pieces without numbers": ([delta("m", None, "a"), delta("m", None, "b")], text(), "ab"),
    "pieces counted for all messages": ([delta("m", 1, "a"), delta("n", 2, "b"), delta("n", 3, "c")], text("n"), "bc"),
    "pieces from zero": ([delta("m", 0, "a"), delta("m", 1, "b")], text(), "ab"),
    "a plain text as a piece": ([{"event": "delta", "data": {"resource_id": "m", "delta": "a"}}], text(), "a"),
    "pieces told again after a reconnect": ([delta("m", 1, "a"), delta("m", 2, "b"), "reconnected", delta("m", 1, "a"), delta("m", 2, "b"), delta("m", 3, "c")], text(), "abc"),
    "pieces go on after a reconnect": ([delta("m", 1, "a"), "reconnected", delta("m", 2, "b")], text(), "ab"),
    "pieces are missing after a reconnect": ([delta("m", 1, "a"), "reconnected", delta("m", 3, "c"), delta("m", 4, "d")], text(), "a"),
    "pieces without numbers after a reconnect": ([delta("m", None, "a"), "reconnected", delta("m", None, "a")], text(), "a"),
    "pieces from the middle": ([message("m", **PENDING), delta("m", 7, "z")], text(), ""),
    "a piece of nothing": ([{"event": "delta", "data": {"seq": 1, "delta": {"response": "a"}}}], lambda chat: chat.chat_messages, ()),
    "the whole message beats its pieces": ([delta("m", 1, "wh"), message("m", **READY)], text(), "whole"),
    "a shorter whole message too": ([delta("m", 1, "whole and more"), message("m", **READY)], text(), "whole"),
    "a message that lags behind its pieces": ([delta("m", 1, "whole and more"), message("m", **READY | PENDING)], text(), "whole and more"),
    "no piece after the end": ([message("m", **READY), delta("m", 1, "x")], text(), "whole"),
    "reasoning streams too": ([delta("m", 1, "a", reasoning="h"), delta("m", 2, "b", reasoning="m")], lambda chat: chat.message("m").reasoning, "hm"),
    "an old state told again": ([message("m", **READY), message("m", **PENDING)], lambda chat: chat.message("m").status, "ready"),
    "an older state": ([message("m", **READY, **LATER), message("m", status="failed", **EARLIER)], lambda chat: chat.message("m").status, "ready"),
    "a message that was begun anew": ([message("m", **READY, **EARLIER), message("m", **PENDING, **LATER)], lambda chat: chat.message("m").status, "pending"),
    "named fields alone": ([message("m", **READY), message("m", fields=["role"], role="tool", status="failed")], lambda chat: (chat.message("m").role, chat.message("m").status), ("tool", "ready")),
    "messages in their order": ([message("b", order=2), message("a", order=1), delta("z", 1, "x")], lambda chat: [one.id for one in chat.chat_messages], ["a", "b", "z"]),
    "another chat's message": ([{"event": "chat_messages", "data": {"id": "m", "chat_id": "c2"}}], lambda chat: chat.chat_messages, ()),
    "another chat": ([chats(status="busy"), {"event": "chats", "data": {"id": "c2", "status": "idle"}}], lambda chat: chat.status, "busy"),
    "another chat's run": ([run("working"), run("completed", "r9", chat_id="c2")], state, "working"),
    "a run goes on": ([run("submitted"), run("working", error="")], state, "working"),
    "a run in part": ([run("working"), {"event": "agent_runs", "data": {"state": "completed"}, "fields": ["state"]}], lambda chat: (chat.active_run.id, state(chat)), ("r1", "completed")),
    "the next run": ([run("completed"), run("submitted", "r2")], state, "submitted"),
    "the late word of the run before": ([run("working", "r2"), run("completed", "r1")], state, "working"),
    "a whole chat without a run": ([run("working"), chats(status="idle")], state, None),
    "a part of a chat without a run": ([run("working"), chats(name="n")], state, "working"),
    "named fields of a chat": ([chats(status="busy"), chats(fields=["name"], name="n", status="idle")], lambda chat: (chat.status, chat.name), ("busy", "n")),
    "a whole chat without interrupts": ([chats(status="busy", pending_interrupts=[{"id": "i"}]), chats(status="busy")], lambda chat: chat.pending_interrupts, ()),
    "an older chat": ([chats(status="idle", **LATER), chats(status="busy", **EARLIER)], lambda chat: chat.status, "idle"),
    "a chat with messages": ([chats(status="idle", chat_messages=[{"id": "m", **READY}])], text(), "whole"),
    "a chat without an event": ([{"id": "c1", "status": "busy"}], lambda chat: chat.status, "busy"),
    "a chat in an envelope": ([{"data": {"id": "c1", "status": "busy"}}], lambda chat: chat.status, "busy"),
    "something new": ([{"event": "moon", "data": {"id": "c1", "status": "busy"}}, {"x": 1}, {}], lambda chat: chat.status, ""),
    "a heartbeat": ([{"type": "heartbeat"}], lambda chat: chat, Chat(id="c1")),
}  # fmt: skip


@pytest.mark.parametrize(("told", "look", "expected"), LINES.values(), ids=LINES)
def test_a_line_adds_what_it_tells(told, look, expected):
    assert expected == look(heard(*told))


def test_what_changes_nothing_is_no_new_state():
    conversation = Conversation(read(status="idle", chat_messages=[{"id": "m", "chat_id": "c1", "order": 1, **READY}]))
    before = conversation.chat

    conversation.hear(chats(status="idle"))
    conversation.hear(message("m", order=1, **READY))

    assert conversation.chat is before


def test_a_read_has_the_last_word():
    """But messages that it does not hold stay."""
    conversation = Conversation(
        read(status="idle", updated_at="2026-01-02T03:04:06Z", chat_messages=[{"id": "a", "order": 1, **READY}])
    )

    conversation.read(
        {"id": "c1", "status": "busy", "updated_at": "2026-01-02T03:04:05Z", "chat_messages": [{"id": "b", "order": 2}]}
    )

    assert ("busy", ["a", "b"]) == (conversation.chat.status, [one.id for one in conversation.chat.chat_messages])


def event(**content):
    return {"id": "e", "chat_id": "c1", "order": 3, "role": "event", "status": "ready", "agent_run_id": "r1",
            "content": [{"type": "event", **content}]}  # fmt: skip


ASKED = {"id": "u", "chat_id": "c1", "order": 1, "role": "user", "status": "ready", "agent_run_id": "r1"}


@pytest.mark.finding("D3")
@pytest.mark.parametrize(
    ("content", "end"),
    [
        ({"text": "why", "event": {"type": "run_failed", "run": {"run_id": "r1", "state": "failed"}}}, ("failed", "", "why")),
        ({"text": "why", "event": {"type": "run_failed"}}, ("failed", "", "why")),
        ({"error": "why", "event": {"type": "run_failed", "run": "r1"}}, ("failed", "", "why")),
        ({"event": {"type": "run_ended", "run": {"state": "Completed", "reason": "output_limit"}}}, ("completed", "output_limit", "")),
        ({"event": {"type": "run_ended", "run": {"state": "dreaming", "reason": 7}}}, ("dreaming", "", "")),
        ({"event": {"type": "run_ended", "run": {"run_id": "r0", "state": "failed"}}}, None),
        ({"event": {"type": "hook", "hook": {"decision": "deny"}}}, None),
        ({"event": {"type": "comet"}}, None),
        ({"event": "run_failed"}, None),
        ({}, None),
    ],
    ids=str,
)  # fmt: skip
def test_the_end_of_a_turns_run_is_read_from_its_event(content, end):
    """Odd events, and those of other runs, are none; with one, the turn is over however short it was."""
    chat = read(status="idle", chat_messages=[ASKED, event(**content)])
    turn = Turn(user_message_id="u")
    found = turn.end(chat)

    assert end == (found and (found.state, found.reason, found.text))
    assert turn_over(chat, turn) == (end is not None)


@pytest.mark.finding("D3")
def test_the_end_of_the_turn_before_is_not_this_ones():
    """Nor is one that was told while this turn's own message is not heard of yet."""
    failed = event(event={"type": "run_failed"}) | {"order": 2, "agent_run_id": ""}
    later = {**ASKED, "id": "v", "order": 3, "agent_run_id": ""}
    before = read(status="idle", chat_messages=[{**ASKED, "agent_run_id": ""}, failed])

    assert not turn_over(before, Turn(user_message_id="v"))
    assert not turn_over(read(status="idle", chat_messages=[*before.model_dump()["chat_messages"], later]), Turn(user_message_id="v"))  # fmt: skip
    assert turn_over(before, Turn(user_message_id="u"))
