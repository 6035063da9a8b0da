"""What an agent may do only after a person said so: put to the person, and never decided for them (invariant I-20).

The older protocol asks in mid-call. The newer one has no way back: the tool answers with its question and a sealed
state, and is called again with both. Either way the person's words are carried out once; the platform's own state
refuses a second time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from inferencesh_mcp.api.agents import Chats, WidgetAction, WidgetAnswer
from inferencesh_mcp.api.turns import Approval, Form, Pending, SignIn
from inferencesh_mcp.api.widgets import FormField, WidgetForm, widget_form
from inferencesh_mcp.api.words import clean
from inferencesh_mcp.errors import Forbidden
from inferencesh_mcp.flows import chatting

if TYPE_CHECKING:
    from inferencesh_mcp.caller import Ctx
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.chatting import Heard

PATIENCE = 20.0  # seconds a person has at the least, however long the agent took before it asked
FASTEST = 0.3  # seconds: a host that declines sooner asked nobody
KEY = "decision"
ALWAYS = "always allow in this chat"
MOST_SHOWN = 4_000  # characters of a tool's arguments in a question; beyond, their digest says which they are

logger = logging.getLogger(__name__)

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


async def settled(
    ctx: Ctx, who: Caller, heard: Heard, report: Report, *, seconds: float
) -> Heard | InputRequiredResult:
    """Put what the chat waits for to the person, carry out what they say, and follow on; until nothing is left to ask."""
    end = time.monotonic() + seconds
    answered = _Answered.of(ctx)
    if _needs_page(ctx, heard):
        return await _at_page(ctx, heard)
    while asked := _askable(ctx, heard):
        reply = (answered.take(asked) if answered else None) or await _ask(ctx, asked, heard.chat.id, end)
        if isinstance(reply, InputRequiredResult):
            return reply
        send = _carried_out(asked, reply)
        if send is None:
            return heard
        try:
            heard = await chatting.respond(
                who, heard.chat, asked.id, send, report, seconds=max(end - time.monotonic(), 1)
            )
        except Forbidden as exc:
            if exc.upstream_code != "requires_sign_in":
                raise
            ctx.request_context.lifespan_context.decided_elsewhere.add(who.principal)
            return await _at_page(ctx, heard)
    return heard


async def page_opened(ctx: Ctx, message: str, url: str, chat_id: str = "") -> InputRequiredResult | None:
    """Have the host show the person a page, where it can and has not yet; what they do there, the platform will tell."""
    elicitation = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    if elicitation is None or elicitation.url is None or ctx.request_state:
        return None
    params = ElicitRequestURLParams(message=message, url=url, elicitation_id=secrets.token_hex(8))
    request = ElicitRequest(params=params)
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state = {"chat_id": chat_id, "id": "page", "digest": "", "asked_at": time.time()}
        return InputRequiredResult(input_requests={KEY: request}, request_state=json.dumps(state))
    await _put(ctx, request, PATIENCE)
    return None


async def _at_page(ctx: Ctx, heard: Heard) -> Heard | InputRequiredResult:
    """Send the person to the page where they can act. What they do there is waited for by `chat_get`."""
    chat_id = heard.chat.id
    asked = await page_opened(ctx, "The agent waits for you on this page.", page(ctx, chat_id), chat_id)
    return asked or heard


def _needs_page(ctx: Ctx, heard: Heard) -> bool:
    elsewhere = _principal(ctx) in ctx.request_context.lifespan_context.decided_elsewhere
    return any(isinstance(one, SignIn) or (elsewhere and isinstance(one, Approval)) for one in heard.waits_for)


def resumed_chat(ctx: Ctx) -> str | None:
    """The chat that a second leg goes on with; None on the first, when a message is still to be sent."""
    answered = _Answered.of(ctx)
    return (answered.chat_id or None) if answered else None


@dataclass(frozen=True)
class _Reply:
    result: ElicitResult
    seconds: float
    """How long the answer took."""


@dataclass(frozen=True, kw_only=True)
class _Answered:
    """What comes back on the second leg: the sealed state and the answer."""

    chat_id: str
    id: str
    digest: str
    asked_at: float
    result: ElicitResult | None

    @classmethod
    def of(cls, ctx: Ctx) -> _Answered | None:
        if not ctx.request_state:
            return None
        told = json.loads(ctx.request_state)  # sealed: nobody but this server wrote it
        result = (ctx.input_responses or {}).get(KEY)
        return cls(**told, result=result if isinstance(result, ElicitResult) else None)

    def take(self, asked: Question) -> _Reply | None:
        """The answer to this very question; None where it was about something else, or the thing changed since."""
        if self.result is None or (self.id, self.digest) != (asked.id, asked.digest):
            return None
        return _Reply(self.result, time.time() - self.asked_at)


def can_ask(ctx: Ctx) -> bool:
    """Whether the host can put a question to its person, and the operator wants it to."""
    capabilities = ctx.client_capabilities
    asking = ctx.request_context.lifespan_context.settings.approvals == "ask"
    return asking and capabilities is not None and capabilities.elicitation is not None


def _askable(ctx: Ctx, heard: Heard) -> Question | None:
    shared = ctx.request_context.lifespan_context
    if not can_ask(ctx):
        return None
    for one in heard.waits_for:
        found = question(one, page(ctx, heard.chat.id), always=shared.settings.always_allow)
        if found and not (isinstance(one, Approval) and _principal(ctx) in shared.decided_elsewhere):
            return found
    return None


def _principal(ctx: Ctx) -> str:
    from inferencesh_mcp.caller import caller

    return caller(ctx).principal


def page(ctx: Ctx, chat_id: str) -> str:
    """Where the person can see the chat, and decide."""
    return ctx.request_context.lifespan_context.settings.chat_url.replace("{chat_id}", chat_id)


async def _ask(ctx: Ctx, asked: Question, chat_id: str, end: float) -> _Reply | InputRequiredResult:
    request = ElicitRequest(params=ElicitRequestFormParams(message=asked.message, requested_schema=asked.schema))
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state = {"chat_id": chat_id, "id": asked.id, "digest": asked.digest, "asked_at": time.time()}
        return InputRequiredResult(input_requests={KEY: request}, request_state=json.dumps(state))
    began = time.monotonic()
    result = await _put(ctx, request, max(end - began, PATIENCE))
    return _Reply(result, time.monotonic() - began)


async def _put(ctx: Ctx, request: ElicitRequest, seconds: float) -> ElicitResult:
    """Put a question to the host, for as long as this call may take; no answer, or none it can give, asked nobody."""
    with anyio.move_on_after(seconds):
        try:
            result: ElicitResult = await ctx.session.send_request(request, ElicitResult)
        except MCPError as exc:
            logger.info("the host could not ask: %s", exc)
        else:
            return result
    return ElicitResult(action="cancel")


def _carried_out(asked: Question, reply: _Reply) -> Send | None:
    """What an answer makes us send; None where nobody was asked."""
    if reply.result.action == "accept":
        return asked.accepted(cast("dict[str, Any]", reply.result.content or {}))
    if reply.result.action == "decline" and reply.seconds >= FASTEST:
        return asked.declined
    return None  # dismissed, or declined faster than anybody reads


def _approval(pending: Approval, page: str, *, always: bool) -> Question:
    shown = pending.unread or json.dumps(pending.arguments, ensure_ascii=False, indent=1)
    digest = hashlib.sha256(json.dumps([pending.id, pending.tool_name, shown]).encode()).hexdigest()
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
        message=f"The agent asks to use {clean(pending.tool_name, 120)} with:\n{whole}",
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
