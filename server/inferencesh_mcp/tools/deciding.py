"""What an agent may do only after a person said so: put to the person, and never decided for them (invariant I-20).

The older protocol asks in mid-call. The newer one has no way back: the tool answers with its question and a sealed
state, and is called again with both. Either way the person's words are carried out once; the platform's own state
refuses a second time.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
from mcp import MCPError
from mcp_types import ElicitRequest, ElicitRequestURLParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.api.turns import Approval, SignIn
from inferencesh_mcp.errors import Forbidden
from inferencesh_mcp.flows import chatting
from inferencesh_mcp.redaction import without_credentials
from inferencesh_mcp.tools.questioning import Question, Reply, carried_out, question

if TYPE_CHECKING:
    from inferencesh_mcp.caller import Ctx
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.chatting import Heard

PATIENCE = 20.0  # seconds a person has at the least, however long the agent took before it asked
KEY = "decision"
AT_PAGE = "The agent waits for you on this page."

logger = logging.getLogger(__name__)


async def settled(
    ctx: Ctx, who: Caller, heard: Heard, report: Report, *, seconds: float
) -> Heard | InputRequiredResult:
    """Put what the chat waits for to the person, carry out what they say, and follow on; until nothing is left to ask."""
    end = time.monotonic() + seconds
    answered = _Answered.of(ctx)
    if needs_page(ctx, heard):
        return await _at_page(ctx, heard)
    while asked := next(iter(askable(ctx, heard)), None):
        reply = (answered.take(asked) if answered else None) or await _ask(ctx, asked, heard.chat.id, end)
        if isinstance(reply, InputRequiredResult):
            return reply
        send = carried_out(asked, reply)
        if send is None:
            return heard
        try:
            after = await chatting.respond(
                who, heard.chat, asked.id, send, report, seconds=max(end - time.monotonic(), 1)
            )
        except Forbidden as exc:
            decided_elsewhere(ctx, exc)
            return await _at_page(ctx, heard)
        heard = replace(after, given=heard.given | after.given)
    return heard


async def page_opened(ctx: Ctx, message: str, url: str, chat_id: str = "") -> InputRequiredResult | None:
    """Have the host show the person a page, where it can and has not yet; what they do there, the platform will tell."""
    request = None if ctx.request_state else page_request(ctx, message, url, secrets.token_hex(8))
    if request is None:
        return None
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state = {"chat_id": chat_id, "id": "page", "digest": "", "asked_at": time.time()}
        return InputRequiredResult(input_requests={KEY: request}, request_state=json.dumps(state))
    await _put(ctx, request, PATIENCE)
    return None


def page_request(ctx: Ctx, message: str, url: str, name: str) -> ElicitRequest | None:
    """The request to show the person a page; None where the host cannot."""
    elicitation = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    if elicitation is None or elicitation.url is None:
        return None
    return ElicitRequest(params=ElicitRequestURLParams(message=message, url=url, elicitation_id=name))


def decided_elsewhere(ctx: Ctx, exc: Forbidden) -> None:
    """Note that the platform takes no decision from this key; where it refused for another reason, let that through."""
    if exc.upstream_code != "requires_sign_in":
        raise exc
    ctx.request_context.lifespan_context.decided_elsewhere.add(_principal(ctx))


async def _at_page(ctx: Ctx, heard: Heard) -> Heard | InputRequiredResult:
    """Send the person to the page where they can act. What they do there is waited for by `chat_get`."""
    chat_id = heard.chat.id
    asked = await page_opened(ctx, AT_PAGE, page(ctx, chat_id), chat_id)
    return asked or heard


def needs_page(ctx: Ctx, heard: Heard) -> bool:
    """Whether what the chat waits for can only be settled where the person is signed in."""
    elsewhere = _principal(ctx) in ctx.request_context.lifespan_context.decided_elsewhere
    return any(isinstance(one, SignIn) or (elsewhere and isinstance(one, Approval)) for one in heard.waits_for)


def resumed_chat(ctx: Ctx) -> str | None:
    """The chat that a second leg goes on with; None on the first, when a message is still to be sent."""
    answered = _Answered.of(ctx)
    return (answered.chat_id or None) if answered else None


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

    def take(self, asked: Question) -> Reply | None:
        """The answer to this very question; None where it was about something else, or the thing changed since."""
        if self.result is None or (self.id, self.digest) != (asked.id, asked.digest):
            return None
        return Reply(self.result, time.time() - self.asked_at)


def can_ask(ctx: Ctx) -> bool:
    """Whether the host can put a question to its person, and the operator wants it to."""
    capabilities = ctx.client_capabilities
    asking = ctx.request_context.lifespan_context.settings.approvals == "ask"
    return asking and capabilities is not None and capabilities.elicitation is not None


def may_decide(ctx: Ctx) -> bool:
    """Whether the operator lets the model decide, and the platform takes its decisions."""
    shared = ctx.request_context.lifespan_context
    return shared.settings.approvals == "host" and _principal(ctx) not in shared.decided_elsewhere


def askable(ctx: Ctx, heard: Heard) -> list[Question]:
    """The questions of a chat that can be put to the person through this host, oldest first."""
    shared = ctx.request_context.lifespan_context
    if not can_ask(ctx):
        return []
    elsewhere = _principal(ctx) in shared.decided_elsewhere
    waits = [one for one in heard.waits_for if not (elsewhere and isinstance(one, Approval))]
    found = (question(one, page(ctx, heard.chat.id), always=shared.settings.always_allow) for one in waits)
    return [one for one in found if one]


def _principal(ctx: Ctx) -> str:
    from inferencesh_mcp.caller import caller

    return caller(ctx).principal


def page(ctx: Ctx, chat_id: str) -> str:
    """Where the person can see the chat, and decide."""
    return ctx.request_context.lifespan_context.settings.chat_url.replace("{chat_id}", chat_id)


async def _ask(ctx: Ctx, asked: Question, chat_id: str, end: float) -> Reply | InputRequiredResult:
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state = {"chat_id": chat_id, "id": asked.id, "digest": asked.digest, "asked_at": time.time()}
        return InputRequiredResult(input_requests={KEY: asked.request}, request_state=json.dumps(state))
    began = time.monotonic()
    result = await _put(ctx, asked.request, max(end - began, PATIENCE))
    return Reply(result, time.monotonic() - began)


async def _put(ctx: Ctx, request: ElicitRequest, seconds: float) -> ElicitResult:
    """Put a question to the host, for as long as this call may take; no answer, or none it can give, asked nobody."""
    with anyio.move_on_after(seconds):
        try:
            clean = without_credentials(request.model_dump(by_alias=True, mode="json", exclude_none=True))
            result: ElicitResult = await ctx.session.send_request(ElicitRequest.model_validate(clean), ElicitResult)
        except (MCPError, ValidationError) as exc:  # or what it said is no answer
            logger.info("the host could not ask: %s", type(exc).__name__)
        else:
            return result
    return ElicitResult(action="cancel")
