"""What a model gives an agent, checked against what the agent waits for: wrong, late or double answers send nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.api.agents import WidgetAction, WidgetAnswer
from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Form, McpInput, pending
from inferencesh_mcp.api.mcp_input import input_result
from inferencesh_mcp.api.widget_form import WidgetForm
from inferencesh_mcp.api.widgets import widget_form
from inferencesh_mcp.errors import Conflict, Forbidden, InvalidInput, NotFound
from inferencesh_mcp.flows.chat import Decision
from inferencesh_mcp.sanitize import clean, label
from inferencesh_mcp.tools.elicitation import may_decide, page
from inferencesh_mcp.tools.elicitation_forms import unfilled

if TYPE_CHECKING:
    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.api.mcp_input import InputRequest
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.tools.elicitation_forms import Send

BY_MODEL = "the model, as INFERENCE_APPROVALS=host allows"


def reply(
    ctx: Ctx, chat: Chat, invocation_id: str, *, result: str, form_data: dict[str, Any], action: str, decision: str, reason: str
) -> Send:  # fmt: skip
    """What is to be sent for an answer.

    Raises:
        NotFound: the chat has nothing of that id.
        Conflict: it is not waited for any more.
        Forbidden: an approval, which is the person's.
        InvalidInput: an answer of the wrong kind.
    """
    waits = next((one for one in pending(chat) if one.id == invocation_id), None)
    match waits:
        case None if chat.invocation(invocation_id) is None:
            raise NotFound(
                message=f"Chat {chat.id} waits for nothing of that id.",
                next_step="chat_get shows what it waits for.",
                outcome="not_started",
            )
        case None:
            raise Conflict(
                message="That was answered already, or is not waited for any more.",
                next_step="chat_get shows where the chat stands.",
                outcome="not_started",
            )
        case ClientTool():
            if not result:
                raise InvalidInput(message="A client tool is answered with `result`, a text.", outcome="not_started")
            return lambda chats: chats.tool_result(invocation_id, result)
        case Form():
            answer = _filled_in(waits, form_data, action)
            return lambda chats: chats.tool_result(invocation_id, answer)
        case Approval():
            return _decision(ctx, chat, waits, decision, reason)
        case McpInput():
            return _input(ctx, chat, waits, form_data)
        case _:
            raise Forbidden(
                message="That is for the person to settle.",
                next_step=f"They can do so at {page(ctx, chat.id)}.",
                outcome="not_started",
            )


def decisions(chat: Chat, invocation_id: str, decision: str) -> tuple[Decision, ...]:
    """What a model decided about an approval, where the operator lets it."""
    word = {"accept": "approved", "reject": "rejected"}.get(decision, "")
    found = [one for one in pending(chat) if isinstance(one, Approval) and one.id == invocation_id and word]
    return tuple(Decision(id=one.id, about=clean(one.tool_name, 120), decision=word, by=BY_MODEL) for one in found)


def _input(ctx: Ctx, chat: Chat, waits: McpInput, answers: dict[str, Any]) -> Send:
    """The answers to what an MCP server asks: the person's, unless the operator lets the model give them."""
    if not may_decide(ctx, waits):
        raise Forbidden(
            message="What an MCP server asks is the person's to answer.",
            next_step=f"The person can answer at {page(ctx, chat.id)}.",
            outcome="not_started",
        )
    keys = [one.key for one in waits.requests]
    wrong = next((said for one in waits.requests if (said := _wrong(one, answers.get(one.key)))), "")
    if sorted(answers) != sorted(keys):
        wrong = f"`form_data` has an answer for each of {clean(', '.join(keys), 300)}, and no other"
    if wrong:
        raise InvalidInput(
            message=f"{wrong}.",
            next_step="Each answer is {action: accept|decline|cancel, content}, content only of an accepted form.",
            outcome="not_started",
        )
    sent = input_result(answers)
    return lambda chats: chats.tool_result(waits.id, sent)


def _wrong(asked: InputRequest, answer: Any) -> str:
    """What is wrong with one answer; empty for a right one."""
    key = clean(asked.key, 80)
    told = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    action, content = told.get("action"), told.get("content")
    if action not in ("accept", "decline", "cancel"):  # not a set, in which a list cannot be looked for
        return f"`{key}` needs an action"
    if action != "accept" or asked.mode == "url":
        return f"`{key}` takes no content" if content else ""
    given = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    missing = unfilled({"required": asked.required}, given)
    unknown = [name for name in given if name not in asked.fields]
    if missing:
        return f"`{key}` needs '{clean(missing[0], 80)}'"
    return f"`{key}` has no field '{clean(unknown[0], 80)}'" if unknown else ""


def _filled_in(waits: Form, form_data: dict[str, Any], action: str) -> WidgetAnswer:
    """A form as it was filled in; one that is empty, or of other fields, is not sent: the agent would take it for an answer."""
    form = widget_form(waits.invocation.widget)
    if not form_data and not action:
        raise InvalidInput(message="A form is answered with `form_data`, or with an `action`.", outcome="not_started")
    pressed = _action(form, action)
    submits = form and any(one.submits for one in form.actions if one.type == pressed.type)
    if form:
        names = [field.name for field in form.fields]
        needed = [field.name for field in form.fields if field.required and submits]
        wrong = [f"has no field '{clean(name, 80)}'" for name in form_data if name not in names]
        wrong += [f"needs '{clean(name, 80)}'" for name in needed if name not in form_data]
        if wrong:
            raise InvalidInput(
                message=f"The form {' and '.join(wrong[:5])}.",
                next_step=f"Its fields are {', '.join(map(label, names)) or 'none'}.",
                outcome="not_started",
            )
    return WidgetAnswer(action=pressed, form_data=form_data or None)


def _action(form: WidgetForm | None, wanted: str) -> WidgetAction:
    actions = form.actions if form else ()
    for one in actions:
        if one.type == wanted or (not wanted and one.submits):
            return WidgetAction(type=one.type, payload=one.payload)
    if wanted and actions:
        raise InvalidInput(
            message=f"The form has no action '{wanted[:80]}'.",
            next_step=f"It has {', '.join(label(one.type) for one in actions)}.",
            outcome="not_started",
        )
    return WidgetAction(type=wanted or "submit")


def _decision(ctx: Ctx, chat: Chat, waits: Approval, decision: str, reason: str) -> Send:
    if not may_decide(ctx, waits):
        raise Forbidden(
            message="Approvals are the person's: a model cannot decide them.",
            next_step=f"The person can decide at {page(ctx, chat.id)}.",
            outcome="not_started",
        )
    if decision == "accept":
        return lambda chats: chats.invoke(waits.id)
    if decision == "reject":
        return lambda chats: chats.reject(waits.id, reason)
    raise InvalidInput(message='An approval is answered with decision="accept" or "reject".', outcome="not_started")
