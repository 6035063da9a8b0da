"""Check a model's reply against what the agent waits for. A wrong, late or repeated reply sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.chat_turn import Approval, ClientTool, Form, McpInput, Pending
from inferencesh_mcp.api.json import as_object
from inferencesh_mcp.api.widgets import FormAction, WidgetForm, widget_form
from inferencesh_mcp.errors import Conflict, Forbidden, InvalidInput, NotFound
from inferencesh_mcp.flows.approvals import Approve, ClientResult, Decision, FormData, McpInputResult, Reject
from inferencesh_mcp.sanitize import label, named
from inferencesh_mcp.tools.elicitation_forms import missing_fields

if TYPE_CHECKING:
    from inferencesh_mcp.api.mcp_input import InputRequest
    from inferencesh_mcp.flows.chat import TurnResult
    from inferencesh_mcp.tools.elicitation import Elicitation


def decision_of_reply(
    host: Elicitation,
    turn: TurnResult,
    item: Pending,
    *,
    result: str,
    form_data: dict[str, Any],
    action: str,
    decision: str,
    reason: str,
) -> Decision:
    """The decision in a model's reply.

    Raises:
        Forbidden: only the person may decide.
        InvalidInput: the reply has the wrong kind.
    """
    page = host.page(turn.chat.id)
    match item:
        case ClientTool():
            if not result:
                raise InvalidInput(message="Give `result`, a text, for a client tool.", outcome="not_started")
            return ClientResult(text=result)
        case Form():
            return _form_reply(item, form_data, action)
        case Approval():
            if not host.may_decide(item):
                raise _only_person(f"You cannot decide an approval. {host.why_not_asked(item)}", page)
            if decision == "accept":
                return Approve()
            if decision == "reject":
                return Reject(reason=reason)
            raise InvalidInput(message='Give decision="accept" or "reject" for an approval.', outcome="not_started")
        case McpInput():
            if not host.may_decide(item):
                raise _only_person(f"You cannot answer an MCP server. {host.why_not_asked(item)}", page)
            return _input_reply(item, form_data)
        case _:
            raise _only_person("Only the person can settle this.", page)


def pending_item(turn: TurnResult, invocation_id: str) -> Pending:
    """The item that the chat waits for under this id.

    Raises:
        NotFound: the chat has nothing of that id.
        Conflict: the chat no longer waits for it.
    """
    item = next((item for item in turn.waits_for if item.id == invocation_id), None)
    if item:
        return item
    if turn.chat.invocation(invocation_id):
        raise Conflict(
            message="This was answered already, or the chat no longer waits for it.",
            next_step="Read the chat with chat_get.",
            outcome="not_started",
        )
    raise NotFound(
        message=f"Chat {turn.chat.id} waits for nothing with this id.",
        next_step="Read with chat_get what it waits for.",
        outcome="not_started",
    )


def _only_person(message: str, page: str) -> Forbidden:
    return Forbidden(message=message, next_step=f"They can decide at {page}.", outcome="not_started")


def _input_reply(item: McpInput, answers: dict[str, Any]) -> McpInputResult:
    """The answers to an MCP server's requests."""
    keys = [request.key for request in item.requests]
    problems = [problem for request in item.requests if (problem := _answer_problem(request, answers.get(request.key)))]
    if sorted(answers) != sorted(keys):
        problems = [f"`form_data` needs one answer for each of {', '.join(map(label, keys))}"]
    if problems:
        raise InvalidInput(
            message=f"{problems[0]}.",
            next_step="Give {action: accept|decline|cancel, content}; content only for an accepted form.",
            outcome="not_started",
        )
    return McpInputResult(answers=answers)


def _answer_problem(request: InputRequest, answer: Any) -> str:
    """What is wrong with one answer; empty if it is right."""
    key = named(request.key)
    fields = as_object(answer)
    action, content = fields.get("action"), as_object(fields.get("content"))
    if action not in ("accept", "decline", "cancel"):  # not a set: a list is not hashable
        return f"{key} needs an action"
    if action != "accept" or request.mode == "url":
        return f"{key} takes no content" if fields.get("content") else ""
    missing = missing_fields(request.required, content)
    unknown = [name for name in content if name not in request.fields]
    if missing:
        return f"{key} needs {named(missing[0])}"
    return f"{key} has no field {named(unknown[0])}" if unknown else ""


def _form_reply(item: Form, form_data: dict[str, Any], action: str) -> FormData:
    """The filled-in form. An empty form, or one with other fields, is refused: the agent would accept it as an answer."""
    form = widget_form(item.invocation.widget)
    if not form_data and not action:
        raise InvalidInput(message="Give `form_data` or an `action` for a form.", outcome="not_started")
    widget_action = _action(form, action)
    submits = form and any(item.submits for item in form.actions if item.type == widget_action.type)
    if form:
        names = [field.name for field in form.fields]
        required = [field.name for field in form.fields if field.required and submits]
        problems = [f"has no field {named(name)}" for name in form_data if name not in names]
        problems += [f"needs {named(name)}" for name in required if name not in form_data]
        if problems:
            raise InvalidInput(
                message=f"The form {' and '.join(problems[:5])}.",
                next_step=f"Its fields are {', '.join(map(label, names)) or 'none'}.",
                outcome="not_started",
            )
    return FormData(action=widget_action, values=form_data or None)


def _action(form: WidgetForm | None, action_type: str) -> FormAction:
    actions = form.actions if form else ()
    for item in actions:
        if item.type == action_type or (not action_type and item.submits):
            return item
    if action_type and actions:
        raise InvalidInput(
            message=f"The form has no action {named(action_type)}.",
            next_step=f"It has {', '.join(label(item.type) for item in actions)}.",
            outcome="not_started",
        )
    return FormAction(type=action_type or "submit")
