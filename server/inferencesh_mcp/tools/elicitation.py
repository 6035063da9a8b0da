"""Ask the person to decide what an agent may do. Nothing is decided for them (I-20).

The older protocol asks during the call. In the newer one the tool returns its question with a sealed state, and the host
calls it again with the answer. In both an answer is applied once: the platform refuses it a second time.
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
from inferencesh_mcp.tools.elicitation_forms import DECISION_KEY, Answer, Question, Reply, question_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.approval_details import ApprovalDetails, DetailsMemory
    from inferencesh_mcp.flows.chat import TurnResult

MIN_ANSWER_SECONDS = 20.0  # seconds that a person has at least, even if the agent used up the time of the call
NO_LONGER_OFFERED = "not accepted: the chosen option is no longer offered"
BY_PERSON = "the person, asked by this host"
BY_NOBODY = "nobody: the host gave no decision"
PAGE_MESSAGE = "The agent waits for you on this page."

logger = logging.getLogger(__name__)


async def resolve_pending(
    ctx: Ctx, who: Caller, outcome: TurnResult, report: Report, *, seconds: float
) -> TurnResult | InputRequiredResult:
    """Ask the person what the chat waits for, send the answer and follow the chat, until there is nothing to ask."""
    end = time.monotonic() + seconds
    resumed = _ResumedAnswer.of(ctx)
    if resumed:
        outcome = replace(outcome, decisions=resumed.decisions)
    if needs_page(ctx, outcome):
        return await _send_to_page(ctx, outcome)
    while question := next(iter(await open_questions(ctx, who, outcome, only_first=True)), None):
        answer = await _answer_or_ask(ctx, question, resumed, outcome, end)
        if isinstance(answer, InputRequiredResult):
            return answer
        if answer is None:
            return _with_decision(
                outcome, Decision(id=question.id, about=question.about, decision="not decided", by=BY_NOBODY)
            )
        try:
            next_outcome = await chat.answer(
                who, outcome.chat, question.id, answer.send, report, seconds=max(end - time.monotonic(), 1)
            )
        except Forbidden as exc:
            remember_refused_decision(ctx, exc, outcome.waits_for, question.id)
            return await _send_to_page(ctx, outcome)
        except Conflict:
            # Decided elsewhere; or the chosen option is gone, and then the person is asked again, once.
            approval_details(ctx).forget(who, question.id)
            current = await _current_state(who, outcome, report)
            refused = {item.id for item in outcome.decisions if item.decision == NO_LONGER_OFFERED}
            if question.id in refused or current is None or question.id not in {item.id for item in current.waits_for}:
                raise
            not_taken = Decision(id=question.id, about=question.about, decision=NO_LONGER_OFFERED, by=BY_PERSON)
            outcome, resumed = _with_decision(replace(current, decisions=outcome.decisions), not_taken), None
            continue
        decision = Decision(id=question.id, about=question.about, decision=answer.decision, by=BY_PERSON)
        outcome = _with_decision(
            replace(next_outcome, given=outcome.given | next_outcome.given, decisions=outcome.decisions), decision
        )
    return outcome


async def _answer_or_ask(
    ctx: Ctx, question: Question, resumed: _ResumedAnswer | None, outcome: TurnResult, end: float
) -> Answer | InputRequiredResult | None:
    """The person's answer, from this leg or asked for now. If a form comes back empty, ask once more without fields."""
    matched = resumed.matching(question) if resumed else None
    shown, replies = matched or (question, await _ask(ctx, question, outcome, end))
    if isinstance(replies, InputRequiredResult):
        return replies
    answer = shown.decide(replies)
    if answer is None and shown.plain and shown.is_empty_acceptance(replies):
        second_replies = await _ask(ctx, shown.plain, outcome, end)
        return second_replies if isinstance(second_replies, InputRequiredResult) else shown.plain.decide(second_replies)
    return answer


async def _current_state(who: Caller, outcome: TurnResult, report: Report) -> TurnResult | None:
    """The chat's current state; None if it cannot be read."""
    try:
        return await chat.read_turn(who, outcome.chat.id, report, seconds=0)
    except InferenceError:
        return None


def _with_decision(outcome: TurnResult, decision: Decision) -> TurnResult:
    return replace(outcome, decisions=(*outcome.decisions, decision))


async def request_page(ctx: Ctx, message: str, url: str, chat_id: str = "") -> InputRequiredResult | None:
    """Ask the host to show the person a page, if it can and did not do so yet. The platform reports what they do there."""
    request = None if ctx.request_state else page_request(ctx, message, url, secrets.token_hex(8))
    if request is None:
        return None
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state = {"chat_id": chat_id, "id": "page", "digest": "", "asked_at": time.time()}
        return InputRequiredResult(input_requests={DECISION_KEY: request}, request_state=json.dumps(state))
    await _elicit(ctx, request, MIN_ANSWER_SECONDS)
    return None


def page_request(ctx: Ctx, message: str, url: str, name: str) -> ElicitRequest | None:
    """The request to show the person a page; None if the host cannot."""
    if not _can_show(ctx, "url"):
        return None
    return ElicitRequest(params=ElicitRequestURLParams(message=message, url=url, elicitation_id=name))


def remember_refused_decision(ctx: Ctx, exc: Forbidden, waits: Iterable[Pending], invocation_id: str) -> None:
    """Remember that the platform accepts no such answer with this key.

    Raises:
        Forbidden: `exc`, if the platform refused for another reason.
    """
    if exc.upstream_code != "requires_sign_in":
        raise exc
    shared = ctx.request_context.lifespan_context
    for item in waits:
        if item.id == invocation_id:
            shared.decided_elsewhere.add(_refusal_key(ctx, type(item)))


def _refusal_key(ctx: Ctx, kind: type[Pending]) -> str:
    """The key under which a refusal for a caller and a kind of question is remembered."""
    return f"{_principal(ctx)} {kind.__name__}"


def _accepts_decisions(ctx: Ctx, item: Pending) -> bool:
    """Whether the platform accepts an answer to this with the caller's key, as far as is known."""
    return _refusal_key(ctx, type(item)) not in ctx.request_context.lifespan_context.decided_elsewhere


async def _send_to_page(ctx: Ctx, outcome: TurnResult) -> TurnResult | InputRequiredResult:
    """Send the person to the page where they can act. `chat_get` waits for what they do there."""
    chat_id = outcome.chat.id
    request = await request_page(ctx, PAGE_MESSAGE, chat_page(ctx, chat_id), chat_id)
    return request or outcome


def needs_page(ctx: Ctx, outcome: TurnResult) -> bool:
    """Whether the chat waits for something that only a signed-in person can settle."""
    return any(isinstance(item, SignIn) or not _accepts_decisions(ctx, item) for item in outcome.waits_for)


def resumed_chat_id(ctx: Ctx) -> str | None:
    """The chat that a second leg continues; None on the first leg."""
    resumed = _ResumedAnswer.of(ctx)
    return (resumed.chat_id or None) if resumed else None


@dataclass(frozen=True, kw_only=True)
class _ResumedAnswer:
    """The sealed state and the answers that the host sends with the second leg."""

    chat_id: str
    id: str
    digest: str
    asked_at: float
    results: Mapping[str, ElicitResult]
    decisions: tuple[Decision, ...] = ()
    """Decisions of earlier legs."""

    @classmethod
    def of(cls, ctx: Ctx) -> _ResumedAnswer | None:
        if not ctx.request_state:
            return None
        state = json.loads(ctx.request_state)  # sealed: only this server can have written it
        responses = ctx.input_responses or {}
        results = {key: response for key, response in responses.items() if isinstance(response, ElicitResult)}
        decisions = tuple(Decision(**response) for response in state.pop("decisions", ()))
        return cls(**state, results=results, decisions=decisions)

    def matching(self, question: Question) -> tuple[Question, Mapping[str, Reply]] | None:
        """The answers to this question or its plain form; None if they are about another one, or it has changed since."""
        seconds = time.time() - self.asked_at
        for response in (question, question.plain):
            if (
                response
                and (self.id, self.digest) == (response.id, response.digest)
                and self.results.keys() & response.requests.keys()
            ):
                return response, {key: Reply(self.results.get(key), seconds) for key in response.requests}
        return None


def can_ask(ctx: Ctx, waits: Pending) -> bool:
    """Whether the host can ask the person this, the operator wants it to, and the platform would accept the answer."""
    if not isinstance(waits, Approval | Form | McpInput) or not _accepts_decisions(ctx, waits):
        return False
    modes = {item.mode for item in waits.requests} if isinstance(waits, McpInput) else {"form"}
    asks = ctx.request_context.lifespan_context.settings.approvals == "ask"
    return asks and all(_can_show(ctx, mode) for mode in modes)


def host_can_ask(ctx: Ctx) -> bool:
    """Whether the host can ask its person anything, and the operator wants it to."""
    asks = ctx.request_context.lifespan_context.settings.approvals == "ask"
    return asks and (_can_show(ctx, "form") or _can_show(ctx, "url"))


def _can_show(ctx: Ctx, mode: str) -> bool:
    """Whether the host can show a form, or a page. A host that declares neither can show forms."""
    elicitation = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    if elicitation is None:
        return False
    if mode == "url":
        return elicitation.url is not None
    return elicitation.form is not None or elicitation.url is None


def may_decide(ctx: Ctx, waits: Pending) -> bool:
    """Whether the operator lets the model decide this, and the platform accepts its decision."""
    return ctx.request_context.lifespan_context.settings.approvals == "host" and _accepts_decisions(ctx, waits)


async def open_questions(ctx: Ctx, who: Caller, outcome: TurnResult, *, only_first: bool = False) -> list[Question]:
    """The questions of a chat that this host can ask its person, oldest first."""
    always_allow = ctx.request_context.lifespan_context.settings.always_allow
    questions: list[Question] = []
    for item in outcome.waits_for:
        if not can_ask(ctx, item):
            continue
        details: ApprovalDetails | None = None
        if isinstance(item, Approval):
            details = await approval_details(ctx).read(who, item, always=always_allow)
        question = question_for(item, chat_page(ctx, outcome.chat.id), details)
        questions += [question] if question else []
        if questions and only_first:
            break
    return questions


def approval_details(ctx: Ctx) -> DetailsMemory:
    """The cached details of calls that wait for approval."""
    return ctx.request_context.lifespan_context.approval_details


def _principal(ctx: Ctx) -> str:
    from inferencesh_mcp.context import caller

    return caller(ctx).principal


def chat_page(ctx: Ctx, chat_id: str) -> str:
    """The address where the person can see the chat and decide."""
    return ctx.request_context.lifespan_context.settings.chat_url.replace("{chat_id}", chat_id)


async def _ask(
    ctx: Ctx, question: Question, outcome: TurnResult, end: float
) -> Mapping[str, Reply] | InputRequiredResult:
    """Send all requests of a question: in one result in the newer protocol, one after another in the older one."""
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state: dict[str, Any] = {
            "chat_id": outcome.chat.id,
            "id": question.id,
            "digest": question.digest,
            "asked_at": time.time(),
            "decisions": [asdict(decision) for decision in outcome.decisions],
        }
        return InputRequiredResult(input_requests=dict(question.requests), request_state=json.dumps(state))
    replies: dict[str, Reply] = {}
    for key, request in question.requests.items():
        began = time.monotonic()
        result = await _elicit(ctx, request, max(end - began, MIN_ANSWER_SECONDS))
        replies[key] = Reply(result, time.monotonic() - began)
        if not replies[key].action:  # nobody answers, so the rest would not be answered either
            break
    return {key: replies.get(key, Reply(None, 0)) for key in question.requests}


async def _elicit(ctx: Ctx, request: ElicitRequest, seconds: float) -> ElicitResult | None:
    """Ask the host and wait so many seconds; None if it cannot ask, or nobody answers."""
    with anyio.move_on_after(seconds):
        try:
            clean = without_credentials(request.model_dump(by_alias=True, mode="json", exclude_none=True))
            result: ElicitResult = await ctx.session.send_request(ElicitRequest.model_validate(clean), ElicitResult)
        except (MCPError, ValidationError) as exc:  # or its answer is invalid
            logger.info("the host could not ask: %s", type(exc).__name__)
        else:
            return result
    return None
