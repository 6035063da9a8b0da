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
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp_types import ElicitRequest, ElicitRequestURLParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.api.chat_turn import Approval, Form, McpInput, Pending, SignIn
from inferencesh_mcp.errors import Conflict, Forbidden, InferenceError
from inferencesh_mcp.flows import chat
from inferencesh_mcp.flows.chat import Decision
from inferencesh_mcp.redaction import without_credentials
from inferencesh_mcp.tools.elicitation_forms import KEY, Answer, Question, Reply, question

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.approval_details import ApprovalDetails, DetailsMemory
    from inferencesh_mcp.flows.chat import TurnResult

PATIENCE = 20.0  # seconds a person has at the least, however long the agent took before it asked
NOT_TAKEN = "not taken: what was chosen is no longer offered"
BY_PERSON = "the person, asked by this host"
BY_NOBODY = "nobody: the host gave no decision"
AT_PAGE = "The agent waits for you on this page."

logger = logging.getLogger(__name__)


async def settled(
    ctx: Ctx, who: Caller, heard: TurnResult, report: Report, *, seconds: float
) -> TurnResult | InputRequiredResult:
    """Put what the chat waits for to the person, carry out what they say, and follow on; until nothing is left to ask."""
    end = time.monotonic() + seconds
    answered = _Answered.of(ctx)
    if answered:
        heard = replace(heard, decisions=answered.decisions)
    if needs_page(ctx, heard):
        return await _at_page(ctx, heard)
    while asked := next(iter(await askable(ctx, who, heard, only_first=True)), None):
        given = await _answer_to(ctx, asked, answered, heard, end)
        if isinstance(given, InputRequiredResult):
            return given
        if given is None:
            return _with(heard, Decision(id=asked.id, about=asked.about, decision="not decided", by=BY_NOBODY))
        try:
            after = await chat.answer(
                who, heard.chat, asked.id, given.send, report, seconds=max(end - time.monotonic(), 1)
            )
        except Forbidden as exc:
            decided_elsewhere(ctx, exc, heard.waits_for, asked.id)
            return await _at_page(ctx, heard)
        except Conflict:
            # Settled elsewhere; or the option that was chosen is none any more, and then it is asked about anew, once.
            details_of(ctx).forget(who, asked.id)
            now = await _standing(who, heard, report)
            refused = {one.id for one in heard.decisions if one.decision == NOT_TAKEN}
            if asked.id in refused or now is None or asked.id not in {one.id for one in now.waits_for}:
                raise
            not_taken = Decision(id=asked.id, about=asked.about, decision=NOT_TAKEN, by=BY_PERSON)
            heard, answered = _with(replace(now, decisions=heard.decisions), not_taken), None
            continue
        done = Decision(id=asked.id, about=asked.about, decision=given.decision, by=BY_PERSON)
        heard = _with(replace(after, given=heard.given | after.given, decisions=heard.decisions), done)
    return heard


async def _answer_to(
    ctx: Ctx, asked: Question, answered: _Answered | None, heard: TurnResult, end: float
) -> Answer | InputRequiredResult | None:
    """What the person answers, or has answered on this leg; a form that comes back empty is put once more, plainly."""
    taken = answered.take(asked) if answered else None
    shown, replies = taken or (asked, await _ask(ctx, asked, heard, end))
    if isinstance(replies, InputRequiredResult):
        return replies
    given = shown.answered(replies)
    if given is None and shown.plain and shown.came_empty(replies):
        again = await _ask(ctx, shown.plain, heard, end)
        return again if isinstance(again, InputRequiredResult) else shown.plain.answered(again)
    return given


async def _standing(who: Caller, heard: TurnResult, report: Report) -> TurnResult | None:
    """How the chat stands now; None where it cannot be read."""
    try:
        return await chat.read_turn(who, heard.chat.id, report, seconds=0)
    except InferenceError:
        return None


def _with(heard: TurnResult, decision: Decision) -> TurnResult:
    return replace(heard, decisions=(*heard.decisions, decision))


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
    if not _can_show(ctx, "url"):
        return None
    return ElicitRequest(params=ElicitRequestURLParams(message=message, url=url, elicitation_id=name))


def decided_elsewhere(ctx: Ctx, exc: Forbidden, waits: Iterable[Pending], invocation_id: str) -> None:
    """Note that the platform takes no such answer from this key; where it refused for another reason, let that through."""
    if exc.upstream_code != "requires_sign_in":
        raise exc
    shared = ctx.request_context.lifespan_context
    for one in waits:
        if one.id == invocation_id:
            shared.decided_elsewhere.add(_elsewhere(ctx, type(one)))


def _elsewhere(ctx: Ctx, kind: type[Pending]) -> str:
    """By what it is remembered that a caller's key answers nothing of a kind."""
    return f"{_principal(ctx)} {kind.__name__}"


def _takes_answers(ctx: Ctx, one: Pending) -> bool:
    """Whether the platform takes an answer to this from the caller's key, as far as is known."""
    return _elsewhere(ctx, type(one)) not in ctx.request_context.lifespan_context.decided_elsewhere


async def _at_page(ctx: Ctx, heard: TurnResult) -> TurnResult | InputRequiredResult:
    """Send the person to the page where they can act. What they do there is waited for by `chat_get`."""
    chat_id = heard.chat.id
    asked = await page_opened(ctx, AT_PAGE, page(ctx, chat_id), chat_id)
    return asked or heard


def needs_page(ctx: Ctx, heard: TurnResult) -> bool:
    """Whether what the chat waits for can only be settled where the person is signed in."""
    return any(isinstance(one, SignIn) or not _takes_answers(ctx, one) for one in heard.waits_for)


def resumed_chat(ctx: Ctx) -> str | None:
    """The chat that a second leg goes on with; None on the first, when a message is still to be sent."""
    answered = _Answered.of(ctx)
    return (answered.chat_id or None) if answered else None


@dataclass(frozen=True, kw_only=True)
class _Answered:
    """What comes back on the second leg: the sealed state and the answers."""

    chat_id: str
    id: str
    digest: str
    asked_at: float
    results: Mapping[str, ElicitResult]
    decisions: tuple[Decision, ...] = ()
    """What was decided on the legs before."""

    @classmethod
    def of(cls, ctx: Ctx) -> _Answered | None:
        if not ctx.request_state:
            return None
        told = json.loads(ctx.request_state)  # sealed: nobody but this server wrote it
        responses = ctx.input_responses or {}
        results = {key: one for key, one in responses.items() if isinstance(one, ElicitResult)}
        decisions = tuple(Decision(**one) for one in told.pop("decisions", ()))
        return cls(**told, results=results, decisions=decisions)

    def take(self, asked: Question) -> tuple[Question, Mapping[str, Reply]] | None:
        """The answers to this very question, or to its plain form; None where they were about something else, or the
        thing changed since."""
        seconds = time.time() - self.asked_at
        for one in (asked, asked.plain):
            if one and (self.id, self.digest) == (one.id, one.digest) and self.results.keys() & one.requests.keys():
                return one, {key: Reply(self.results.get(key), seconds) for key in one.requests}
        return None


def can_ask(ctx: Ctx, waits: Pending) -> bool:
    """Whether this can be put to the person through the host, the operator wants it to, and the answer would be taken."""
    if not isinstance(waits, Approval | Form | McpInput) or not _takes_answers(ctx, waits):
        return False
    modes = {one.mode for one in waits.requests} if isinstance(waits, McpInput) else {"form"}
    asks = ctx.request_context.lifespan_context.settings.approvals == "ask"
    return asks and all(_can_show(ctx, mode) for mode in modes)


def is_asked(ctx: Ctx) -> bool:
    """Whether the host can put anything at all to its person, and the operator wants it to."""
    asks = ctx.request_context.lifespan_context.settings.approvals == "ask"
    return asks and (_can_show(ctx, "form") or _can_show(ctx, "url"))


def _can_show(ctx: Ctx, mode: str) -> bool:
    """Whether the host can show its person a form, or a page. One that names neither can show forms."""
    elicitation = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    if elicitation is None:
        return False
    if mode == "url":
        return elicitation.url is not None
    return elicitation.form is not None or elicitation.url is None


def may_decide(ctx: Ctx, waits: Pending) -> bool:
    """Whether the operator lets the model decide about this, and the platform takes its decision."""
    return ctx.request_context.lifespan_context.settings.approvals == "host" and _takes_answers(ctx, waits)


async def askable(ctx: Ctx, who: Caller, heard: TurnResult, *, only_first: bool = False) -> list[Question]:
    """The questions of a chat that can be put to the person through this host, oldest first."""
    always = ctx.request_context.lifespan_context.settings.always_allow
    found: list[Question] = []
    for one in heard.waits_for:
        if not can_ask(ctx, one):
            continue
        details: ApprovalDetails | None = None
        if isinstance(one, Approval):
            details = await details_of(ctx).read(who, one, always=always)
        asked = question(one, page(ctx, heard.chat.id), details)
        found += [asked] if asked else []
        if found and only_first:
            break
    return found


def details_of(ctx: Ctx) -> DetailsMemory:
    """What was read about calls that wait for approval, for as long as this server lives."""
    return ctx.request_context.lifespan_context.approval_details


def _principal(ctx: Ctx) -> str:
    from inferencesh_mcp.context import caller

    return caller(ctx).principal


def page(ctx: Ctx, chat_id: str) -> str:
    """Where the person can see the chat, and decide."""
    return ctx.request_context.lifespan_context.settings.chat_url.replace("{chat_id}", chat_id)


async def _ask(ctx: Ctx, asked: Question, heard: TurnResult, end: float) -> Mapping[str, Reply] | InputRequiredResult:
    """Put all requests of a question: at once where the protocol answers with them, else one after another."""
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state: dict[str, Any] = {
            "chat_id": heard.chat.id,
            "id": asked.id,
            "digest": asked.digest,
            "asked_at": time.time(),
            "decisions": [asdict(one) for one in heard.decisions],
        }
        return InputRequiredResult(input_requests=dict(asked.requests), request_state=json.dumps(state))
    replies: dict[str, Reply] = {}
    for key, request in asked.requests.items():
        began = time.monotonic()
        result = await _put(ctx, request, max(end - began, PATIENCE))
        replies[key] = Reply(result, time.monotonic() - began)
        if not replies[key].action:  # nobody is there: the rest would be asked of nobody, too
            break
    return {key: replies.get(key, Reply(None, 0)) for key in asked.requests}


async def _put(ctx: Ctx, request: ElicitRequest, seconds: float) -> ElicitResult | None:
    """Put a question to the host, for as long as this call may take; None where nobody was asked, or nobody answered."""
    with anyio.move_on_after(seconds):
        try:
            clean = without_credentials(request.model_dump(by_alias=True, mode="json", exclude_none=True))
            result: ElicitResult = await ctx.session.send_request(ElicitRequest.model_validate(clean), ElicitResult)
        except (MCPError, ValidationError) as exc:  # or what it said is no answer
            logger.info("the host could not ask: %s", type(exc).__name__)
        else:
            return result
    return None
