"""Check a model's reply against what the agent waits for. A wrong, late or repeated reply sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.api.agents import WidgetAction, WidgetAnswer
from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Form, McpInput, pending
from inferencesh_mcp.api.mcp_input import input_result
from inferencesh_mcp.api.widgets import WidgetForm, widget_form
from inferencesh_mcp.errors import Conflict, Forbidden, InvalidInput, NotFound
from inferencesh_mcp.flows.chat import Decision
from inferencesh_mcp.sanitize import clean, label
from inferencesh_mcp.tools.elicitation import chat_page, may_decide
from inferencesh_mcp.tools.elicitation_forms import missing_fields

if TYPE_CHECKING:
    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.api.mcp_input import InputRequest
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.tools.elicitation_forms import Send

BY_MODEL = "the model, as INFERENCE_APPROVALS=host allows"


def reply_for(
    ctx: Ctx,
    chat: Chat,
    invocation_id: str,
    *,
    result: str,
    form_data: dict[str, Any],
    action: str,
    decision: str,
    reason: str,
) -> Send:
    """What to send for a reply.

    Raises:
        NotFound: the chat has nothing of that id.
        Conflict: the chat no longer waits for it.
        Forbidden: only the person may decide.
        InvalidInput: the reply has the wrong kind.
    """
    item = next((item for item in pending(chat) if item.id == invocation_id), None)
    match item:
        case None if chat.invocation(invocation_id) is None:
            raise NotFound(
                message=f"Chat {chat.id} waits for nothing with this id.",
                next_step="Read with chat_get what it waits for.",
                outcome="not_started",
            )
        case None:
            raise Conflict(
                message="This was answered already, or the chat no longer waits for it.",
                next_step="Read the chat with chat_get.",
                outcome="not_started",
            )
        case ClientTool():
            if not result:
                raise InvalidInput(message="Give `result`, a text, for a client tool.", outcome="not_started")
            return lambda chats: chats.tool_result(invocation_id, result)
        case Form():
            answer = _form_reply(item, form_data, action)
            return lambda chats: chats.tool_result(invocation_id, answer)
        case Approval():
            return _approval_reply(ctx, chat, item, decision, reason)
        case McpInput():
            return _input_reply(ctx, chat, item, form_data)
        case _:
            raise Forbidden(
                message="Only the person can settle this.",
                next_step=f"They can do it at {chat_page(ctx, chat.id)}.",
                outcome="not_started",
            )


def model_decisions(chat: Chat, invocation_id: str, decision: str) -> tuple[Decision, ...]:
    """What a model decided about an approval, if the operator allows it."""
    outcome_word = {"accept": "approved", "reject": "rejected"}.get(decision, "")
    approvals = [
        item for item in pending(chat) if isinstance(item, Approval) and item.id == invocation_id and outcome_word
    ]
    return tuple(
        Decision(id=item.id, about=clean(item.tool_name, 120), decision=outcome_word, by=BY_MODEL) for item in approvals
    )


def _input_reply(ctx: Ctx, chat: Chat, item: McpInput, answers: dict[str, Any]) -> Send:
    """The answers to an MCP server's requests. Only the person gives them, unless the operator allows the model to."""
    if not may_decide(ctx, item):
        raise Forbidden(
            message="Only the person may answer what an MCP server asks.",
            next_step=f"The person can answer at {chat_page(ctx, chat.id)}.",
            outcome="not_started",
        )
    keys = [item.key for item in item.requests]
    problem = next(
        (found_problem for item in item.requests if (found_problem := _answer_problem(item, answers.get(item.key)))), ""
    )
    if sorted(answers) != sorted(keys):
        problem = f"`form_data` needs one answer for each of {clean(', '.join(keys), 300)}"
    if problem:
        raise InvalidInput(
            message=f"{problem}.",
            next_step="Give {action: accept|decline|cancel, content}; content only for an accepted form.",
            outcome="not_started",
        )
    result = input_result(answers)
    return lambda chats: chats.tool_result(item.id, result)


def _answer_problem(request: InputRequest, answer: Any) -> str:
    """What is wrong with one answer; empty if it is right."""
    key = clean(request.key, 80)
    fields = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    action, content = fields.get("action"), fields.get("content")
    if action not in ("accept", "decline", "cancel"):  # not a set: a list is not hashable
        return f"`{key}` needs an action"
    if action != "accept" or request.mode == "url":
        return f"`{key}` takes no content" if content else ""
    content_fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    missing = missing_fields({"required": request.required}, content_fields)
    unknown = [name for name in content_fields if name not in request.fields]
    if missing:
        return f"`{key}` needs '{clean(missing[0], 80)}'"
    return f"`{key}` has no field '{clean(unknown[0], 80)}'" if unknown else ""


def _form_reply(item: Form, form_data: dict[str, Any], action: str) -> WidgetAnswer:
    """The filled-in form. An empty form, or one with other fields, is refused: the agent would accept it as an answer."""
    form = widget_form(item.invocation.widget)
    if not form_data and not action:
        raise InvalidInput(message="Give `form_data` or an `action` for a form.", outcome="not_started")
    widget_action = _action(form, action)
    submits = form and any(item.submits for item in form.actions if item.type == widget_action.type)
    if form:
        names = [field.name for field in form.fields]
        required = [field.name for field in form.fields if field.required and submits]
        problems = [f"has no field '{clean(name, 80)}'" for name in form_data if name not in names]
        problems += [f"needs '{clean(name, 80)}'" for name in required if name not in form_data]
        if problems:
            raise InvalidInput(
                message=f"The form {' and '.join(problems[:5])}.",
                next_step=f"Its fields are {', '.join(map(label, names)) or 'none'}.",
                outcome="not_started",
            )
    return WidgetAnswer(action=widget_action, form_data=form_data or None)


def _action(form: WidgetForm | None, action_type: str) -> WidgetAction:
    actions = form.actions if form else ()
    for item in actions:
        if item.type == action_type or (not action_type and item.submits):
            return WidgetAction(type=item.type, payload=item.payload)
    if action_type and actions:
        raise InvalidInput(
            message=f"The form has no action '{action_type[:80]}'.",
            next_step=f"It has {', '.join(label(item.type) for item in actions)}.",
            outcome="not_started",
        )
    return WidgetAction(type=action_type or "submit")


def _approval_reply(ctx: Ctx, chat: Chat, item: Approval, decision: str, reason: str) -> Send:
    if not may_decide(ctx, item):
        raise Forbidden(
            message="Only the person may decide an approval.",
            next_step=f"The person can decide at {chat_page(ctx, chat.id)}.",
            outcome="not_started",
        )
    if decision == "accept":
        return lambda chats: chats.invoke(item.id)
    if decision == "reject":
        return lambda chats: chats.reject(item.id, reason)
    raise InvalidInput(message='Give decision="accept" or "reject" for an approval.', outcome="not_started")
