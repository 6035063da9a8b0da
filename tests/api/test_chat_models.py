"""Records of chats, and that no odd value loses one."""

import json

import pytest

from inferencesh_mcp.api.chat_models import Chat, ChatMessage, ContentPart, Interrupt, ToolInvocation
from inferencesh_mcp.api.chat_state import ChatState
from inferencesh_mcp.api.chat_turn import pending

ARGUMENTS = {"city": "Paris", "n": 1}


def read(**record):
    return Chat.model_validate({"id": "c1", **record})


@pytest.mark.parametrize("arguments", [ARGUMENTS, json.dumps(ARGUMENTS)])
def test_arguments_are_an_object_in_either_form(arguments):
    call = ToolInvocation.model_validate({"id": "t", "function": {"name": "f", "arguments": arguments}})

    assert ("f", ARGUMENTS, "") == (call.name, call.arguments, call.function.unread)


@pytest.mark.parametrize("arguments", ['{"city": "Par', "[1]", "3", ""])
def test_unreadable_arguments_are_kept_unchanged(arguments):
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
    [(message.text, message.files, message.errors) for message in chat.chat_messages]
    chat_state = ChatState(Chat(id="c1"))
    for event in ("chats", "chat_messages", "agent_runs", "delta", "new"):
        chat_state.apply(
            {"event": event, "data": {"id": "m", "resource_id": "m", "delta": {"response": "x"}, name: odd}}
        )
        chat_state.apply({"event": event, "data": odd, "fields": [name]})
    assert "c1" == chat_state.chat.id


def test_unknown_words_are_kept_in_lower_case():
    part = ContentPart.model_validate({"type": "Hologram", "hologram": {}})
    chat = read(
        status="Dreaming", chat_messages=[{"id": "m", "tool_invocations": [{"type": "harness", "status": "frozen"}]}]
    )

    assert ("hologram", "dreaming", True) == (part.type, chat.status, chat.busy)
    assert ("harness", "frozen") == (
        chat.chat_messages[0].tool_invocations[0].type,
        chat.chat_messages[0].tool_invocations[0].status,
    )


def test_a_message_has_text_files_and_errors_from_its_parts():
    message = ChatMessage.model_validate({"status": "ready", "content": [
        {"type": "text", "text": "a"}, {"type": "reasoning", "reasoning": "hm"}, {"type": "image", "image": "u1"},
        {"type": "file", "file": {"uri": "u2"}}, {"type": "text", "text": "b"}, {"type": "text", "error": "e"}, None]})  # fmt: skip

    assert ("a\n\nb", ("u1", "u2"), ("e",)) == (message.text, message.files, message.errors)
    assert "plain" == ChatMessage.model_validate({"content": "plain", "status": "ready"}).text


def test_a_chat_has_the_agents_plan_and_output():
    chat = read(agent_data={"plan_steps": [{"title": "t", "status": "in_progress"}]}, output={"a": 1})

    assert [("t", "in_progress")] == [(step.title, step.status) for step in chat.agent_data.plan_steps]
    assert {"a": 1} == chat.output


BUSYNESS = [
    ("idle", None, False), ("busy", None, True), ("awaiting_input", None, True), ("waiting", None, True), ("completed", None, False),
    ("", None, False), ("new word", None, True), ("idle", "working", True), ("busy", "completed", False), ("busy", "submitted", True),
    ("idle", "input_required", True), ("idle", "auth_required", True), ("busy", "failed", False), ("busy", "canceled", False),
    ("busy", "rejected", False), ("idle", "new word", True), ("busy", "", True),
]  # fmt: skip


@pytest.mark.parametrize(("status", "state", "busy"), BUSYNESS)
def test_a_chat_is_busy_by_its_run_or_else_by_its_status(status, state, busy):
    assert busy == read(status=status, active_run=None if state is None else {"id": "r", "state": state}).busy
