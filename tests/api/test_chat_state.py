"""What a line of its stream, or a read, changes about a chat."""

import pytest

from inferencesh_mcp.api import chat_state
from inferencesh_mcp.api.chat_models import Chat
from inferencesh_mcp.api.chat_state import ChatState


def read(**record):
    return Chat.model_validate({"id": "c1", **record})


def after(*lines):
    state = ChatState(Chat(id="c1"))
    state.begin_connection()
    for line in lines:
        state.begin_connection() if line == "reconnected" else state.apply(line)
    return state.chat


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


def run_state(chat):
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
    "an old state told again": ([message("m", **READY), message("m", **PENDING)], lambda chat: chat.message("m").status, "ready"),
    "an older state": ([message("m", **READY, **LATER), message("m", status="failed", **EARLIER)], lambda chat: chat.message("m").status, "ready"),
    "a message that was begun anew": ([message("m", **READY, **EARLIER), message("m", **PENDING, **LATER)], lambda chat: chat.message("m").status, "pending"),
    "named fields alone": ([message("m", **READY), message("m", fields=["role"], role="tool", status="failed")], lambda chat: (chat.message("m").role, chat.message("m").status), ("tool", "ready")),
    "messages in their order": ([message("b", order=2), message("a", order=1), delta("z", 1, "x")], lambda chat: [message.id for message in chat.chat_messages], ["a", "b", "z"]),
    "another chat's message": ([{"event": "chat_messages", "data": {"id": "m", "chat_id": "c2"}}], lambda chat: chat.chat_messages, ()),
    "another chat": ([chats(status="busy"), {"event": "chats", "data": {"id": "c2", "status": "idle"}}], lambda chat: chat.status, "busy"),
    "another chat's run": ([run("working"), run("completed", "r9", chat_id="c2")], run_state, "working"),
    "a run goes on": ([run("submitted"), run("working", error="")], run_state, "working"),
    "a run in part": ([run("working"), {"event": "agent_runs", "data": {"state": "completed"}, "fields": ["state"]}], lambda chat: (chat.active_run.id, run_state(chat)), ("r1", "completed")),
    "the next run": ([run("completed"), run("submitted", "r2")], run_state, "submitted"),
    "the late word of the run before": ([run("working", "r2"), run("completed", "r1")], run_state, "working"),
    "a whole chat without a run": ([run("working"), chats(status="idle")], run_state, None),
    "a part of a chat without a run": ([run("working"), chats(name="n")], run_state, "working"),
    "named fields of a chat": ([chats(status="busy"), chats(fields=["name"], name="n", status="idle")], lambda chat: (chat.status, chat.name), ("busy", "n")),
    "a whole chat without interrupts": ([chats(status="busy", pending_interrupts=[{"id": "i"}]), chats(status="busy")], lambda chat: chat.pending_interrupts, ()),
    "an older chat": ([chats(status="idle", **LATER), chats(status="busy", **EARLIER)], lambda chat: chat.status, "idle"),
    "a chat with messages": ([chats(status="idle", chat_messages=[{"id": "m", **READY}])], text(), "whole"),
    "a chat without an event": ([{"id": "c1", "status": "busy"}], lambda chat: chat.status, "busy"),
    "a chat in an envelope": ([{"data": {"id": "c1", "status": "busy"}}], lambda chat: chat.status, "busy"),
    "something new": ([{"event": "moon", "data": {"id": "c1", "status": "busy"}}, {"x": 1}, {}], lambda chat: chat.status, ""),
    "a heartbeat": ([{"type": "heartbeat"}], lambda chat: chat, Chat(id="c1")),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "look", "expected"), LINES.values(), ids=LINES)
def test_a_line_adds_its_news_to_the_chat(stream, look, expected):
    assert expected == look(after(*stream))


def test_a_repeated_line_makes_no_new_state():
    state = ChatState(read(status="idle", chat_messages=[{"id": "m", "chat_id": "c1", "order": 1, **READY}]))
    before = state.chat

    state.apply(chats(status="idle"))
    state.apply(message("m", order=1, **READY))

    assert state.chat is before


def test_a_read_replaces_what_the_stream_said():
    """But messages that it does not hold stay."""
    state = ChatState(
        read(status="idle", updated_at="2026-01-02T03:04:06Z", chat_messages=[{"id": "a", "order": 1, **READY}])
    )

    state.apply_read(read(status="busy", updated_at="2026-01-02T03:04:05Z", chat_messages=[{"id": "b", "order": 2}]))

    assert ("busy", ["a", "b"]) == (state.chat.status, [message.id for message in state.chat.chat_messages])


def test_a_read_that_leaves_fields_of_a_message_out_keeps_them():
    state = ChatState(read(status="busy", chat_messages=[{"id": "a", "order": 1, **READY}]))
    before = state.chat.chat_messages

    state.apply_read(read(status="busy", chat_messages=[{"id": "a"}]))

    assert before == state.chat.chat_messages


@pytest.mark.finding("S11")
def test_a_chat_keeps_a_limited_number_and_size_of_messages(monkeypatch):
    """The newest are kept. Fields that no chat and no message has are not."""
    monkeypatch.setattr(chat_state, "MAX_KEPT", 100_000)
    monkeypatch.setattr(chat_state, "MAX_MESSAGES", 50)
    many, large, pieces = (ChatState(Chat(id="c", status="busy")) for _ in range(3))

    for number in range(200):
        name = f"m{number}"
        many.apply({"event": "chat_messages", "data": {"id": name, "order": number, f"odd_{number}": "x" * 1_000}})
        many.apply({"event": "chats", "data": {"id": "c", "status": "busy", f"odd_{number}": "x" * 1_000}})
        text = [{"type": "text", "text": "x" * 30_000}]
        large.apply({"event": "chat_messages", "data": {"id": name, "order": number, "content": text}})
        for piece in (1, 2):
            pieces.apply({"event": "delta", "data": {"resource_id": name, "seq": piece, "delta": "x" * 15_000}})

    assert [f"m{number}" for number in range(150, 200)] == [message.id for message in many.chat.chat_messages]
    assert ["m197", "m198", "m199"] == [message.id for message in large.chat.chat_messages]
    assert sum(len(message.streamed) for message in pieces.chat.chat_messages) <= 100_000
    assert "x" * 30_000 == pieces.chat.chat_messages[-1].streamed
