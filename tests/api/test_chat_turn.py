"""When a turn of a chat is over, how it ended, and what it waits for."""

import json
from datetime import UTC, datetime

import pytest

from inferencesh_mcp.api.chat_models import Chat, ChatMessage, Sent
from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Form, Gate, SignIn, Turn, pending, turn_over

ARGUMENTS = {"city": "Paris", "n": 1}


def read(**record):
    return Chat.model_validate({"id": "c1", **record})


SENT = Sent(
    chat_id="c1",
    user_message=ChatMessage(id="u", status="ready"),
    assistant_message=ChatMessage(id="a", status="pending"),
)


def seen_chat(status, answer="pending", run=None, state=None, question="ready", of=""):
    return read(
        status=status,
        active_run={"id": run, "state": state, "user_message_id": of} if run else None,
        chat_messages=[
            {"id": "u", "order": 1, "role": "user", "status": question},
            {"id": "a", "order": 2, "status": answer},
        ],
    )


BEFORE = read(status="idle", active_run={"id": "r1", "state": "completed"})
AT_WORK = read(status="busy", active_run={"id": "r1", "state": "working"})
TURNS = {
    "idle as before": (BEFORE, [seen_chat("idle")], False),
    "idle as before, with its run": (BEFORE, [seen_chat("idle", run="r1", state="completed")], False),
    "busy": (BEFORE, [seen_chat("busy")], False),
    "busy, then idle": (BEFORE, [seen_chat("idle"), seen_chat("busy"), seen_chat("idle")], True),
    "the answer is final": (BEFORE, [seen_chat("idle", "ready")], True),
    "the answer failed": (BEFORE, [seen_chat("idle", "failed")], True),
    "the answer is final, but the run goes on": (BEFORE, [seen_chat("busy", "ready", "r2", "working")], False),
    "a run that was not there has ended": (BEFORE, [seen_chat("idle", run="r2", state="failed")], True),
    "the run of this message has ended": (BEFORE, [seen_chat("idle", run="r1", state="completed", of="u")], True),
    "the run of another message has ended": (BEFORE, [seen_chat("idle", run="r2", state="completed", of="x")], False),
    "a new chat, idle yet": (None, [seen_chat("idle")], False),
    "a new chat, its run over": (None, [seen_chat("idle", run="r1", state="completed")], True),
    "waiting for a tool": (BEFORE, [seen_chat("busy", run="r2", state="input_required")], False),
    "queued behind another": (AT_WORK, [seen_chat("busy", run="r1", state="working", question="queued"), seen_chat("idle", run="r1", state="completed", question="queued")], False),
    "queued, then answered": (AT_WORK, [seen_chat("busy", run="r1", state="working", question="queued"), seen_chat("busy", run="r2", state="working"), seen_chat("idle", run="r2", state="completed")], True),
    "queued, then taken back": (AT_WORK, [seen_chat("busy", run="r1", state="working", question="cancelled")], True),
    "the other's work is not this turn's": (AT_WORK, [seen_chat("busy", run="r1", state="working"), seen_chat("idle", run="r1", state="completed")], False),
}  # fmt: skip


@pytest.mark.parametrize(("before", "states", "over"), TURNS.values(), ids=TURNS)
def test_a_turn_is_over_by_its_own_states(before, states, over):
    """And not only the one before it."""
    turn = Turn.of(SENT, before)
    for chat in states:
        turn = turn.seeing(chat)

    assert over == turn_over(states[-1], turn)


def test_the_turn_of_an_idle_chat_is_over():
    assert turn_over(seen_chat("idle"), Turn.under_way(seen_chat("idle")))
    assert not turn_over(seen_chat("busy"), Turn.under_way(seen_chat("busy")))


def test_the_messages_of_a_turn_come_after_its_own():
    chat = read(chat_messages=[{"id": name, "order": order} for order, name in enumerate("xuab")])

    assert ["a", "b"] == [message.id for message in Turn.of(SENT).messages(chat)]
    assert ["x", "u", "a", "b"] == [message.id for message in Turn().messages(chat)]


def waiting_chat(call=None, interrupt=None, status="busy", message="pending", **run):
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
    "client tool": (waiting_chat({"type": "client", "status": "awaiting_input"}), [ClientTool]),
    "client tool under way": (waiting_chat({"type": "client", "status": "in_progress"}), [ClientTool]),
    "client tool under way in a chat that is over": (waiting_chat({"type": "client", "status": "in_progress"}, status="idle"), []),
    "client tool of a message that was stopped": (waiting_chat({"type": "client", "status": "awaiting_input"}, message="cancelled"), []),
    "client tool answered": (waiting_chat({"type": "client", "status": "completed"}), []),
    "another tool under way": (waiting_chat({"type": "app", "status": "in_progress"}), []),
    "approval, by the invocation": (waiting_chat({"type": "app", "status": "awaiting_approval"}), [Approval]),
    "approval, by both": (waiting_chat({"type": "app", "status": "awaiting_approval"}, ASKS), [Approval]),
    "approval, by an interrupt of a pending call": (waiting_chat({"type": "app", "status": "pending"}, ASKS), [Approval]),
    "approval, by the interrupt alone": (waiting_chat(None, ASKS), [Approval]),
    "approval decided": (waiting_chat({"type": "app", "status": "in_progress"}, ASKS), []),
    "approval of an interrupt that is resolved": (waiting_chat(None, ASKS | {"status": "resolved"}), []),
    "form": (waiting_chat({"type": "internal", "status": "awaiting_input", "widget": {"type": "ui"}}), [Form]),
    "form in a string": (waiting_chat({"type": "internal", "status": "awaiting_input", "widget": '{"type": "ui"}'}), [Form]),
    "form, by the interrupt alone": (waiting_chat(None, {"reason": "widget", "meta": {"widget": {"type": "ui"}}, "resource_id": "t9"}), [Form]),
    "client tool, by the interrupt alone": (waiting_chat(None, {"reason": "client_tool", "resource_id": "t9", "meta": '{"tool_name":"f"}'}), [ClientTool]),
    "client tool, by both": (waiting_chat({"type": "client", "status": "awaiting_input"}, {"reason": "client_tool", "resource_id": "t1"}), [ClientTool]),
    "something else's input": (waiting_chat({"type": "harness", "status": "awaiting_input"}), [Gate]),
    "sign-in": (waiting_chat(None, {"reason": "auth"}), [SignIn]),
    "sign-in, by the run": (waiting_chat(None, id="r", state="auth_required", interrupt_meta='{"provider":"google"}'), [SignIn]),
    "sign-in, by both": (waiting_chat(None, {"reason": "auth"}, id="r", state="auth_required"), [SignIn]),
    "confirmation": (waiting_chat(None, {"reason": "confirmation"}), [Gate]),
    "a new reason": (waiting_chat(None, {"reason": "full_moon"}), [Gate]),
    "its own wait": (waiting_chat(None, {"reason": "wait"}), []),
    "nothing": (waiting_chat(), []),
}  # fmt: skip


@pytest.mark.parametrize(("chat", "kinds"), KINDS.values(), ids=KINDS)
def test_each_pending_item_is_listed_once(chat, kinds):
    assert kinds == [type(item) for item in pending(chat)]


def test_an_approval_has_the_tool_and_its_arguments():
    """The invocation's own arguments, else the interrupt's."""
    [own] = pending(
        waiting_chat({"type": "app", "status": "awaiting_approval"}, ASKS | {"expires_at": "2026-01-02T03:04:05Z"})
    )
    [alone] = pending(waiting_chat(None, ASKS | {"meta": json.dumps(ASKS["meta"])}))

    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert Approval(id="t1", tool_name="f", arguments=ARGUMENTS, chat_id="c1", expires_at=moment) == own
    assert Approval(id="t1", tool_name="g", arguments={"a": 1}, chat_id="c1") == alone


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
    run_end = turn.end(chat)

    assert end == (run_end and (run_end.state, run_end.reason, run_end.text))
    assert turn_over(chat, turn) == (end is not None)


@pytest.mark.finding("D3")
def test_the_end_of_the_turn_before_does_not_end_this_turn():
    """Nor is one that was told while this turn's own message is not heard of yet."""
    failed = event(event={"type": "run_failed"}) | {"order": 2, "agent_run_id": ""}
    later = {**ASKED, "id": "v", "order": 3, "agent_run_id": ""}
    before = read(status="idle", chat_messages=[{**ASKED, "agent_run_id": ""}, failed])

    assert not turn_over(before, Turn(user_message_id="v"))
    assert not turn_over(read(status="idle", chat_messages=[*before.model_dump()["chat_messages"], later]), Turn(user_message_id="v"))  # fmt: skip
    assert turn_over(before, Turn(user_message_id="u"))
