"""The questions that an agent's chat puts to a person, and what each answer makes us send. Pure: nothing is asked here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult

from inferencesh_mcp.api.agents import Chats, WidgetAction, WidgetAnswer
from inferencesh_mcp.api.forms import FormField, WidgetForm
from inferencesh_mcp.api.turns import Approval, Form, Pending
from inferencesh_mcp.api.widgets import widget_form
from inferencesh_mcp.plaintext import clean, label, neutral, visible

FASTEST = 0.3  # seconds: a host that declines sooner asked nobody
ALWAYS = "always allow in this chat"
MOST_SHOWN = 4_000  # characters of a tool's arguments in a question; beyond, their digest says which they are

Send = Callable[[Chats], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something to put to the person: what is shown, what can be answered, and what the answer makes us send."""

    id: str
    message: str
    schema: dict[str, Any]
    digest: str
    """Of everything that was shown: an answer counts for exactly this."""
    accepted: Callable[[dict[str, Any]], Send]
    declined: Send | None
    """What a person's "no" makes us send; None where saying no sends nothing."""

    @property
    def request(self) -> ElicitRequest:
        """As it is put to a host."""
        return ElicitRequest(params=ElicitRequestFormParams(message=self.message, requested_schema=self.schema))


def question(pending: Pending, page: str, *, always: bool = False) -> Question | None:
    """The question that something pending puts to the person; None where there is none that fits a form."""
    match pending:
        case Approval():
            return _approval(pending, page, always=always)
        case Form():
            form = widget_form(pending.invocation.widget)
            return _form(pending, form) if form and form.fields else None
        case _:
            return None


@dataclass(frozen=True)
class Reply:
    """What came back on a question."""

    result: ElicitResult
    seconds: float
    """How long the answer took."""


def carried_out(asked: Question, reply: Reply) -> Send | None:
    """What an answer makes us send; None where nobody was asked."""
    if reply.result.action == "accept":
        return asked.accepted(cast("dict[str, Any]", reply.result.content or {}))
    if reply.result.action == "decline" and reply.seconds >= FASTEST:
        return asked.declined
    return None  # dismissed, or declined faster than anybody reads


def _approval(pending: Approval, page: str, *, always: bool) -> Question:
    shown = pending.unread or json.dumps(pending.arguments, ensure_ascii=False, indent=1)
    digest = hashlib.sha256(json.dumps([pending.id, pending.tool_name, shown]).encode()).hexdigest()
    shown = neutral(visible(shown))
    whole = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…\n(cut; sha256 {digest}; all of it: {page})"

    def accepted(content: dict[str, Any]) -> Send:
        reason = clean(str(content.get("reason") or ""), 500)
        if content.get("decision") == "approve":
            return lambda chats: chats.invoke(pending.id)
        if always and content.get("decision") == ALWAYS:
            return lambda chats: chats.always_allow(pending.chat_id, pending.id, pending.tool_name)
        return lambda chats: chats.reject(pending.id, reason or "rejected by the person")

    return Question(
        id=pending.id,
        message=f"The agent asks to use {label(pending.tool_name, 120)} with:\n{whole}",
        schema={
            "type": "object",
            "properties": {
                "decision": {
                    "type": "string",
                    "title": "Decision",
                    "enum": ["approve", "reject", *([ALWAYS] if always else [])],
                },
                "reason": {"type": "string", "title": "Reason, if rejected", "maxLength": 500},
            },
            "required": ["decision"],
        },
        digest=digest,
        accepted=accepted,
        declined=lambda chats: chats.reject(pending.id, "rejected by the person"),
    )


def _form(pending: Form, form: WidgetForm) -> Question:
    action = next((one for one in form.actions if one.submits), None)
    pressed = WidgetAction(type=action.type if action else "submit", payload=action.payload if action else None)
    head = "\n".join(clean(line, 500) for line in (form.title, *form.text.splitlines()) if line)
    schema = {
        "type": "object",
        "properties": {field.name: _asked(field) for field in form.fields},
        "required": [field.name for field in form.fields if field.required],
    }

    def accepted(content: dict[str, Any]) -> Send:
        answer = WidgetAnswer(action=pressed, form_data=content)
        return lambda chats: chats.tool_result(pending.id, answer)

    return Question(
        id=pending.id,
        message=head or "The agent asks:",
        schema=schema,
        digest=hashlib.sha256(json.dumps([pending.id, head, schema], default=str).encode()).hexdigest(),
        accepted=accepted,
        declined=None,
    )


def _asked(field: FormField) -> dict[str, Any]:
    """A field as the flat schema that elicitation takes."""
    told: dict[str, Any] = {"title": clean(field.label, 200)}
    if field.hint:
        told["description"] = clean(field.hint, 300)
    options = [choice.value for choice in field.options]
    match field.kind:
        case "number":
            told |= {"type": "number", "minimum": field.minimum, "maximum": field.maximum}
        case "boolean":
            told |= {"type": "boolean"}
        case "choice":
            told |= {"type": "string", "enum": options, "enumNames": [choice.label for choice in field.options]}
        case "choices":
            told |= {"type": "array", "items": {"type": "string", "enum": options}}
        case "date":
            told |= {"type": "string", "format": "date-time" if field.with_time else "date"}
        case _:
            told |= {"type": "string"}
    if field.default is not None:
        told["default"] = list(cast("tuple[str, ...]", field.default)) if field.kind == "choices" else field.default
    return {name: value for name, value in told.items() if value is not None}
