"""The questions that an agent's chat puts to a person, and what each answer makes us send. Pure: nothing is asked here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult

from inferencesh_mcp.api.agents import Chats, WidgetAction, WidgetAnswer
from inferencesh_mcp.api.chat_turn import Approval, Form, McpInput, Pending
from inferencesh_mcp.api.mcp_input import InputRequest, input_result
from inferencesh_mcp.api.widget_form import FormField, WidgetForm
from inferencesh_mcp.api.widgets import widget_form
from inferencesh_mcp.flows.approval_details import ApprovalDetails
from inferencesh_mcp.sanitize import clean, label, neutral, visible
from inferencesh_mcp.tools.truncate import fit

if TYPE_CHECKING:
    from inferencesh_mcp.api.chat_models import AlwaysAllowOption, SecretSend, ToolExplanation

FASTEST = 0.3  # seconds: a host that answers a yes-or-no question sooner asked nobody
KEY = "decision"
"""The key of a question that is one request."""
APPROVE, REJECT = "approve", "reject"
ALWAYS = "always allow in this chat"
"""On platforms that have no options: every use of the tool."""
MOST_OPTIONS = 6  # ways to allow a call for good that a person is offered
MOST_SHOWN = 4_000  # characters of a tool's arguments in a question; beyond, their digest says which they are

Send = Callable[[Chats], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person's answer makes us send, and what it comes to, in words."""

    send: Send
    decision: str


@dataclass(frozen=True)
class Reply:
    """What came back on one request."""

    result: ElicitResult | None
    """None where the host could not ask, or nobody answered in time."""
    seconds: float
    """How long the answer took."""

    @property
    def action(self) -> str:
        """`accept`, or what the person chose instead; empty where nobody was asked."""
        if self.result is None or (self.result.action != "accept" and self.seconds < FASTEST):
            return ""
        return self.result.action

    @property
    def content(self) -> dict[str, Any]:
        """What was filled in."""
        return cast("dict[str, Any]", (self.result and self.result.content) or {})


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something to put to the person: what is shown, and what the answer makes us send."""

    id: str
    about: str
    """The tool, or what asks."""
    requests: Mapping[str, ElicitRequest]
    """As they are put to a host, by key; all of them belong to one answer."""
    digest: str
    """Of everything that was shown: an answer counts for exactly this."""
    answered: Callable[[Mapping[str, Reply]], Answer | None]
    """What replies to all requests come to; None where nothing was decided."""
    plain: Question | None = None
    """The same with nothing to fill in, for a host that accepts the form and sends it empty."""

    def came_empty(self, replies: Mapping[str, Reply]) -> bool:
        """Whether the host accepted and told nothing of what it was to ask."""
        return self.plain is not None and any(
            reply.action == "accept" and not reply.content for reply in replies.values()
        )


def question(pending: Pending, page: str, details: ApprovalDetails | None = None) -> Question | None:
    """The question that something pending puts to the person; None where there is none that can be put."""
    match pending:
        case Approval():
            return _approval(pending, page, details or ApprovalDetails())
        case Form():
            form = widget_form(pending.invocation.widget)
            return _form(pending, form) if form and form.fields else None
        case McpInput():
            return _mcp_input(pending)
        case _:
            return None


def unfilled(schema: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    """The fields that a form needs and that were not filled in."""
    return [name for name in cast("list[str]", schema.get("required") or []) if content.get(name) is None]


def _asked_by(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _digest(*shown: Any) -> str:
    return hashlib.sha256(json.dumps(shown, default=str).encode()).hexdigest()


def _approval(pending: Approval, page: str, details: ApprovalDetails) -> Question:
    shown = pending.unread or json.dumps(pending.arguments, ensure_ascii=False, indent=1)
    tool = label(pending.tool_name, 120)
    always = _choices(details)
    secrets = _secrets(pending.secret_send or details.secret_send)
    about = [pending.id, pending.tool_name, shown, secrets]
    digest = _digest(
        *about, [(word, one.key, one.scope, one.description) for word, one in always.items()], details.by_name
    )
    shown = neutral(visible(shown))
    whole = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…\n(cut; sha256 {digest}; all of it: {page})"
    message = "\n".join([f"The agent asks to use {tool} with:\n{whole}", *secrets, *_explained(details.explanation)])
    rejected = Answer(send=lambda chats: chats.reject(pending.id, "rejected by the person"), decision="rejected")
    approved = Answer(send=lambda chats: chats.invoke(pending.id), decision="approved")

    def chosen(content: dict[str, Any]) -> Answer | None:
        word = str(content.get("decision") or "").strip().casefold()
        if word == APPROVE:
            return approved
        if word == REJECT:
            reason = clean(str(content.get("reason") or ""), 500)
            return (
                Answer(send=lambda chats: chats.reject(pending.id, reason), decision="rejected") if reason else rejected
            )
        if details.by_name and word == ALWAYS:
            return Answer(
                send=lambda chats: chats.always_allow(pending.chat_id, pending.id, tool_name=pending.tool_name),
                decision=f"always allowed: every use of {tool}",
            )
        option = next((one for name, one in always.items() if name.casefold() == word), None)
        if option is None:
            return None
        key, chosen_label = option.key, clean(option.label, 200)
        return Answer(
            send=lambda chats: chats.always_allow(pending.chat_id, pending.id, option=key),
            decision=f"always allowed: {chosen_label}",
        )

    def answered(replies: Mapping[str, Reply]) -> Answer | None:
        reply = replies[KEY]
        if reply.action == "accept":
            return chosen(reply.content)
        return rejected if reply.action == "decline" else None

    def confirmed(replies: Mapping[str, Reply]) -> Answer | None:
        reply = replies[KEY]
        if reply.action == "accept":
            return approved if reply.seconds >= FASTEST else None
        return rejected if reply.action == "decline" else None

    plain = Question(
        id=pending.id,
        about=tool,
        requests={
            KEY: _asked_by(
                f"{message}\nAccept to allow it. Decline to refuse it.", {"type": "object", "properties": {}}
            )
        },
        digest=_digest(digest, "plain"),
        answered=confirmed,
    )
    schema = {
        "type": "object",
        "properties": {
            "decision": {
                "type": "string",
                "title": "Decision",
                **_described(tool, details, always),
                "enum": [APPROVE, REJECT, *([ALWAYS] if details.by_name else ()), *always],
            },
            "reason": {"type": "string", "title": "Reason, if rejected", "maxLength": 500},
        },
        "required": ["decision"],
    }
    return Question(
        id=pending.id,
        about=tool,
        requests={KEY: _asked_by(message, schema)},
        digest=digest,
        answered=answered,
        plain=plain,
    )


def _choices(details: ApprovalDetails) -> dict[str, AlwaysAllowOption]:
    """The platform's options, by the words that the person chooses from."""
    found: dict[str, AlwaysAllowOption] = {}
    for option in details.options[:MOST_OPTIONS]:
        word = f"always allow: {clean(option.label or option.scope or option.key, 120)}"
        found[word if word not in found else f"{word} ({clean(option.scope or option.key, 40)})"] = option
    return found


def _described(tool: str, details: ApprovalDetails, always: Mapping[str, AlwaysAllowOption]) -> dict[str, str]:
    """What the choices for good mean, beside what they are called."""
    if details.by_name:
        return {"description": f"'{ALWAYS}' allows every use of {tool} in this chat."}
    lines = [
        f"'{word}' is for this chat ({clean(one.scope, 40)}). {clean(one.description, 200)}".strip()
        for word, one in always.items()
    ]
    return {"description": " ".join(lines)} if lines else {}


def _secrets(told: SecretSend | None) -> list[str]:
    if told is None or not told.secrets:
        return []
    names = clean(", ".join(told.secrets), 300)
    return [f"It sends your secrets {names} to {clean(told.host, 200) or 'a place that is not told'}."]


def _explained(told: ToolExplanation | None) -> list[str]:
    """A model's reading of the call. It has read the agent's words, so it is told as one opinion."""
    if told is None:
        return []
    risk = f"{clean(told.risk_level, 20)} risk. " if told.risk_level else ""
    more = f" {clean(told.risk, 200)}" if told.risk else ""
    return [f"How a model of the platform reads it (it can be wrong): {risk}{clean(told.explanation, 500)}{more}"]


def _mcp_input(pending: McpInput) -> Question | None:
    """All that an MCP server asks for, passed on as it came: the person sees who asks, and each answer goes back unchanged."""
    tool = clean(pending.invocation.name, 120)
    keys = {f"{KEY}.{number}": one for number, one in enumerate(pending.requests, start=1)}
    requests = {key: _passed_on(tool, one, f"{pending.id}-{key}") for key, one in keys.items()}
    if not all(requests.values()):
        return None

    def answered(replies: Mapping[str, Reply]) -> Answer | None:
        given = {one.key: _given(one, replies.get(key)) for key, one in keys.items()}
        answers = {key: one for key, one in given.items() if one}
        if len(answers) < len(given):
            return None
        actions = ", ".join(dict.fromkeys(one["action"] for one in answers.values()))
        result = input_result(answers)
        return Answer(send=lambda chats: chats.tool_result(pending.id, result), decision=f"answered ({actions})")

    shown = [(one.key, one.mode, one.message, one.schema, one.url) for one in pending.requests]
    return Question(
        id=pending.id,
        about=tool,
        requests={key: one for key, one in requests.items() if one},
        digest=_digest(pending.id, pending.round, shown),
        answered=answered,
    )


def _passed_on(tool: str, one: InputRequest, name: str) -> ElicitRequest | None:
    """A server's request as it is put to a host; None where cleaning would change what a field is called."""
    message = f"An MCP server that the agent uses asks (tool {tool}):\n{visible(one.message)[:MOST_SHOWN]}"
    if one.mode == "url":
        return ElicitRequest(params=ElicitRequestURLParams(message=message, url=one.url, elicitation_id=name))
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    schema = empty | cast("dict[str, Any]", fit(one.schema).value)
    return _asked_by(message, schema) if list(schema["properties"]) == list(one.fields) else None


def _given(one: InputRequest, reply: Reply | None) -> dict[str, Any]:
    """A person's answer as the server is told it; empty where there is none, or a field that is needed is missing."""
    action = reply.action if reply else ""
    if reply is None or action != "accept":
        return {"action": action} if action else {}
    if one.mode == "url":
        return {"action": action}
    content = {name: value for name, value in reply.content.items() if name in one.fields}
    return {} if unfilled({"required": one.required}, content) else {"action": action, "content": content}


def _form(pending: Form, form: WidgetForm) -> Question:
    action = next((one for one in form.actions if one.submits), None)
    pressed = WidgetAction(type=action.type if action else "submit", payload=action.payload if action else None)
    head = "\n".join(clean(line, 500) for line in (form.title, *form.text.splitlines()) if line)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: _asked(field) for field in form.fields},
        "required": [field.name for field in form.fields if field.required],
    }

    def answered(replies: Mapping[str, Reply]) -> Answer | None:
        """A person who declines sends nothing: the form waits."""
        reply = replies[KEY]
        if reply.action != "accept" or unfilled(schema, reply.content):
            return None
        answer = WidgetAnswer(action=pressed, form_data=reply.content)
        return Answer(send=lambda chats: chats.tool_result(pending.id, answer), decision="filled in")

    return Question(
        id=pending.id,
        about=clean(form.title, 120) or "a form",
        requests={KEY: _asked_by(head or "The agent asks:", schema)},
        digest=_digest(pending.id, head, schema),
        answered=answered,
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
