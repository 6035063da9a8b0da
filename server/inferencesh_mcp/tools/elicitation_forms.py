"""The questions of an agent's chat as elicitation requests, and the decision in each answer. Pure: nothing is asked here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult

from inferencesh_mcp.api.chat_turn import Approval, Form, McpInput, Pending
from inferencesh_mcp.api.json import without_none
from inferencesh_mcp.api.mcp_input import InputRequest
from inferencesh_mcp.api.widgets import FormAction, FormField, WidgetForm, widget_form
from inferencesh_mcp.flows.approval_memory import ApprovalDetails
from inferencesh_mcp.flows.approvals import AlwaysAllow, Approve, Decision, FormData, McpInputResult, Reject
from inferencesh_mcp.sanitize import clean, label, neutral, quoted, visible
from inferencesh_mcp.tools.truncate import fit

if TYPE_CHECKING:
    from inferencesh_mcp.api.chat_models import AlwaysAllowOption, SecretSend, ToolExplanation

MIN_HUMAN_SECONDS = 0.3  # no person answers a yes-or-no question faster: the host asked nobody
DECISION_KEY = "decision"
"""The key of the only request of a question."""
NO_FIELDS: dict[str, Any] = {"type": "object", "properties": {}}
APPROVE, REJECT = "approve", "reject"
REJECTED = "rejected by the person"
"""The reason if the person gives none."""
ALWAYS_ALLOW = "always allow in this chat"
"""For platforms without options: allows every use of the tool."""
MAX_SECRETS = 20  # names of secrets in a question
MAX_OPTIONS = 6  # options to always allow that a person is offered
MAX_ARGUMENTS_LENGTH = 4_000
"""Characters of a tool's arguments in a question. A longer text is cut and identified by its digest."""


@dataclass(frozen=True)
class Reply:
    """The host's reply to one request."""

    result: ElicitResult | None
    """None if the host could not ask, or nobody answered in time."""
    seconds: float
    """How long the answer took."""

    @property
    def action(self) -> str:
        """`accept`, `decline` or `cancel`; empty if nobody was asked."""
        if self.result is None or (self.result.action != "accept" and self.seconds < MIN_HUMAN_SECONDS):
            return ""
        return self.result.action

    @property
    def content(self) -> Mapping[str, Any]:
        """The values of the form."""
        return (self.result.content if self.result else None) or {}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question for the person: what is shown, and how the reply is read."""

    id: str
    requests: Mapping[str, ElicitRequest]
    """The requests to the host, by key. Together they give one answer."""
    digest: str
    """Hash of everything that was shown. An answer counts only for this."""
    decide: Callable[[Mapping[str, Reply]], Decision | None]
    """Reads the replies to all requests; None if nothing was decided."""
    plain: Question | None = None
    """The same question without fields, for a host that accepts the form and sends it empty."""

    def is_empty_acceptance(self, replies: Mapping[str, Reply]) -> bool:
        """Whether the host accepted the form and sent no values."""
        return self.plain is not None and any(
            reply.action == "accept" and not reply.content for reply in replies.values()
        )


def question_for(pending: Pending, page: str, details: ApprovalDetails | None = None) -> Question | None:
    """The question for a pending item; None if no form can ask it."""
    match pending:
        case Approval():
            return _approval_question(pending, page, details or ApprovalDetails())
        case Form():
            form = widget_form(pending.invocation.widget)
            return _form_question(pending, form) if form and form.fields else None
        case McpInput():
            return _input_question(pending)
        case _:
            return None


def missing_fields(required: Iterable[str], content: Mapping[str, Any]) -> list[str]:
    """The required fields that were not filled in."""
    return [name for name in required if content.get(name) is None]


def form_request(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _digest(*shown: Any) -> str:
    return hashlib.sha256(json.dumps(shown, default=str).encode()).hexdigest()


def _approval_question(pending: Approval, page: str, details: ApprovalDetails) -> Question:
    shown = pending.unread or json.dumps(pending.arguments, ensure_ascii=False, indent=1)
    tool = label(pending.tool_name, 120)
    always = _always_choices(details)
    secrets = _secret_lines(pending.secret_send or details.secret_send)
    choices = [(choice, option.key, option.scope, option.description) for choice, option in always.items()]
    digest = _digest(pending.id, pending.tool_name, shown, secrets, choices, details.by_name)
    text = neutral(visible(shown))
    if len(text) > MAX_ARGUMENTS_LENGTH:
        text = f"{text[:MAX_ARGUMENTS_LENGTH]}…\n(cut; sha256 {digest}; all of it: {page})"
    message = "\n".join(
        [f"The agent asks to use {tool} with:\n{text}", *secrets, *_explanation_lines(details.explanation)]
    )

    def decide_from_form(content: Mapping[str, Any]) -> Decision | None:
        choice = str(content.get("decision") or "").strip().casefold()
        if choice == APPROVE:
            return Approve()
        if choice == REJECT:
            return Reject(reason=clean(str(content.get("reason") or ""), 500) or REJECTED)
        if details.by_name and choice == ALWAYS_ALLOW:
            return AlwaysAllow(chat_id=pending.chat_id, label=f"every use of {tool}", tool_name=pending.tool_name)
        option = next((option for name, option in always.items() if name.casefold() == choice), None)
        if option is None:
            return None
        return AlwaysAllow(chat_id=pending.chat_id, label=quoted(option.label, 200), option=option.key)

    def decide(replies: Mapping[str, Reply]) -> Decision | None:
        reply = replies[DECISION_KEY]
        if reply.action == "accept":
            return decide_from_form(reply.content)
        return Reject(reason=REJECTED) if reply.action == "decline" else None

    def decide_plainly(replies: Mapping[str, Reply]) -> Decision | None:
        reply = replies[DECISION_KEY]
        if reply.action == "accept":
            return Approve() if reply.seconds >= MIN_HUMAN_SECONDS else None
        return Reject(reason=REJECTED) if reply.action == "decline" else None

    plain = Question(
        id=pending.id,
        requests={DECISION_KEY: form_request(f"{message}\nAccept to allow it. Decline to refuse it.", NO_FIELDS)},
        digest=_digest(digest, "plain"),
        decide=decide_plainly,
    )
    schema = {
        "type": "object",
        "properties": {
            "decision": {
                "type": "string",
                "title": "Decision",
                **_choices_description(tool, details, always),
                "enum": [APPROVE, REJECT, *([ALWAYS_ALLOW] if details.by_name else ()), *always],
            },
            "reason": {"type": "string", "title": "Reason, if rejected", "maxLength": 500},
        },
        "required": ["decision"],
    }
    return Question(
        id=pending.id,
        requests={DECISION_KEY: form_request(message, schema)},
        digest=digest,
        decide=decide,
        plain=plain,
    )


def _always_choices(details: ApprovalDetails) -> dict[str, AlwaysAllowOption]:
    """The platform's options, by the text that the person chooses from."""
    options_by_word: dict[str, AlwaysAllowOption] = {}
    for option in (details.options or ())[:MAX_OPTIONS]:
        choice = f"always allow: {clean(option.label or option.scope or option.key, 120)}"
        if choice in options_by_word:
            choice = f"{choice} ({clean(option.scope or option.key, 40)})"
        options_by_word[choice] = option
    return options_by_word


def _choices_description(
    tool: str, details: ApprovalDetails, always: Mapping[str, AlwaysAllowOption]
) -> dict[str, str]:
    """The description of the options to always allow."""
    if details.by_name:
        return {"description": f"'{ALWAYS_ALLOW}' allows every use of {tool} in this chat."}
    lines = [
        f"'{choice}' is for this chat ({clean(option.scope, 40)}). {clean(option.description, 200)}".strip()
        for choice, option in always.items()
    ]
    return {"description": " ".join(lines)} if lines else {}


def _secret_lines(secret_send: SecretSend | None) -> list[str]:
    if secret_send is None or not secret_send.secrets:
        return []
    names = list(map(label, secret_send.secrets[:MAX_SECRETS]))
    if left_out := len(secret_send.secrets) - len(names):
        names.append(f"{left_out} more")
    host = label(secret_send.host, 200) if secret_send.host else "an unknown host"
    return [f"It sends your secrets {', '.join(names)} to {host}."]


def _explanation_lines(explanation: ToolExplanation | None) -> list[str]:
    """A model's explanation of the call, shown as an opinion: the agent's text may have influenced it."""
    if explanation is None:
        return []
    risk = f"{clean(explanation.risk_level, 20)} risk. " if explanation.risk_level else ""
    more = f" {clean(explanation.risk, 200)}" if explanation.risk else ""
    return [
        f"Explanation by a model of the platform (it can be wrong): {risk}{clean(explanation.explanation, 500)}{more}"
    ]


def _input_question(pending: McpInput) -> Question | None:
    """The requests of an MCP server, forwarded unchanged. The person sees who asks, and the answers go back unchanged."""
    tool = label(pending.invocation.name, 120)
    requests_by_key = {f"{DECISION_KEY}.{number}": request for number, request in enumerate(pending.requests, start=1)}
    elicitations = {
        key: _forwarded_request(tool, request, f"{pending.id}-{key}") for key, request in requests_by_key.items()
    }
    if not all(elicitations.values()):
        return None

    def decide(replies: Mapping[str, Reply]) -> Decision | None:
        answers = {request.key: _input_answer(request, replies.get(key)) for key, request in requests_by_key.items()}
        return McpInputResult(answers=answers) if all(answers.values()) else None

    shown = [(request.key, request.mode, request.message, request.schema, request.url) for request in pending.requests]
    return Question(
        id=pending.id,
        requests={key: request for key, request in elicitations.items() if request},
        digest=_digest(pending.id, pending.round, shown),
        decide=decide,
    )


def _forwarded_request(tool: str, request: InputRequest, name: str) -> ElicitRequest | None:
    """A server's request for the host; None if cleaning would change the name of a field."""
    message = (
        f"An MCP server that the agent uses asks (tool {tool}):\n{visible(request.message)[:MAX_ARGUMENTS_LENGTH]}"
    )
    if request.mode == "url":
        return ElicitRequest(params=ElicitRequestURLParams(message=message, url=request.url, elicitation_id=name))
    shown: dict[str, Any] = fit(request.schema)
    schema = NO_FIELDS | shown
    return form_request(message, schema) if list(schema["properties"]) == list(request.fields) else None


def _input_answer(request: InputRequest, reply: Reply | None) -> dict[str, Any]:
    """A person's answer for the server; empty if there is none, or a required field is missing."""
    if reply is None or not reply.action:
        return {}
    action = reply.action
    if action != "accept" or request.mode == "url":
        return {"action": action}
    content = {name: value for name, value in reply.content.items() if name in request.fields}
    return {} if missing_fields(request.required, content) else {"action": action, "content": content}


def _form_question(pending: Form, form: WidgetForm) -> Question:
    action = next((button for button in form.actions if button.submits), FormAction(type="submit"))
    heading = "\n".join(clean(line, 500) for line in (form.title, *form.text.splitlines()) if line)
    required = [field.name for field in form.fields if field.required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in form.fields},
        "required": required,
    }

    def decide(replies: Mapping[str, Reply]) -> Decision | None:
        """If the person declines, nothing is sent and the form keeps waiting."""
        reply = replies[DECISION_KEY]
        if reply.action != "accept" or missing_fields(required, reply.content):
            return None
        return FormData(action=action, values=reply.content)

    return Question(
        id=pending.id,
        requests={DECISION_KEY: form_request(heading or "The agent asks:", schema)},
        digest=_digest(pending.id, heading, schema),
        decide=decide,
    )


def _field_schema(field: FormField) -> dict[str, Any]:
    """A field as a flat schema of elicitation."""
    schema: dict[str, Any] = {"title": clean(field.label, 200)}
    if field.hint:
        schema["description"] = clean(field.hint, 300)
    options = [choice.value for choice in field.options]
    match field.kind:
        case "number":
            schema |= {"type": "number", "minimum": field.minimum, "maximum": field.maximum}
        case "boolean":
            schema |= {"type": "boolean"}
        case "choice":
            schema |= {"type": "string", "enum": options, "enumNames": [choice.label for choice in field.options]}
        case "choices":
            schema |= {"type": "array", "items": {"type": "string", "enum": options}}
        case "date":
            schema |= {"type": "string", "format": "date-time" if field.with_time else "date"}
        case _:
            schema |= {"type": "string"}
    if field.default is not None:
        schema["default"] = field.default  # a tuple for `choices`, which JSON writes as a list
    return without_none(**schema)
