"""Ask the person, through their host, what an agent waits for, or whether a run may cost more than the operator's limit.

Nothing is decided for them (I-20). The older protocol asks during the call. In the newer one the tool returns its question
with a sealed state, and the host calls it again with the answer.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp_types import ElicitRequest, ElicitRequestURLParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.api.chat_turn import Approval, Form, McpInput, SignIn
from inferencesh_mcp.context import shared_state
from inferencesh_mcp.flows.approvals import CannotAsk, NeedsResume, NotDecided
from inferencesh_mcp.flows.chat import DecisionRecord
from inferencesh_mcp.flows.spend_limit import Agreement
from inferencesh_mcp.redaction import without_credentials
from inferencesh_mcp.tools.define import ResumeLater
from inferencesh_mcp.tools.elicitation_forms import (
    DECISION_KEY,
    MIN_HUMAN_SECONDS,
    NO_FIELDS,
    Question,
    Reply,
    form_request,
    question_for,
)
from inferencesh_mcp.tools.units import usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferencesh_mcp.api.chat_turn import Pending
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.approvals import Decision
    from inferencesh_mcp.flows.chat import TurnResult
    from inferencesh_mcp.flows.spend_limit import SpendQuestion

MIN_ANSWER_SECONDS = 20.0  # seconds that a person has at least, even if the agent used up the time of the call
PAGE_MESSAGE = "The agent waits for you on this page."
PAGE_ID = "page"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _EarlierRound:
    """The sealed state and the answers that the host sends with a later round of a call."""

    chat_id: str
    id: str
    digest: str
    asked_at: float
    results: Mapping[str, ElicitResult]
    records: tuple[DecisionRecord, ...] = ()
    """Decisions of earlier rounds."""

    @classmethod
    def of(cls, ctx: Ctx) -> _EarlierRound | None:
        state: dict[str, Any] = json.loads(ctx.request_state or "{}")  # sealed: only this server wrote it
        if "chat_id" not in state:
            return None
        responses = ctx.input_responses or {}
        results = {key: response for key, response in responses.items() if isinstance(response, ElicitResult)}
        records = tuple(DecisionRecord(**record) for record in state.pop("records"))
        return cls(**state, results=results, records=records)

    def replies_to(self, question: Question) -> Mapping[str, Reply] | None:
        """The replies to this question; None if they are about another one, or it has changed since."""
        is_about_it = (self.id, self.digest) == (question.id, question.digest)
        if not is_about_it or not self.results.keys() & question.requests.keys():
            return None
        seconds = time.time() - self.asked_at
        return {key: Reply(self.results.get(key), seconds) for key in question.requests}


class Elicitation:
    """Asks the person of one request, if their host can."""

    def __init__(self, ctx: Ctx, caller: Caller) -> None:
        self._ctx = ctx
        self._caller = caller
        self._settings = shared_state(ctx).settings
        self._earlier = _EarlierRound.of(ctx)
        self._page_was_shown = self._earlier is not None and self._earlier.id == PAGE_ID
        self.resumed_chat_id = self._earlier.chat_id if self._earlier else ""
        """The chat that a later round continues; empty in the first."""
        self.records: Sequence[DecisionRecord] = self._earlier.records if self._earlier else ()
        """Decisions of earlier rounds."""

    def can_ask_anything(self) -> bool:
        """Whether the host can ask its person anything, and the operator wants it to."""
        return self._settings.approvals == "ask" and (can_show(self._ctx, "form") or can_show(self._ctx, "url"))

    def can_ask(self, item: Pending) -> bool:
        """Whether the host can ask the person this, the operator wants it to, and the platform would accept the answer."""
        if not isinstance(item, Approval | Form | McpInput) or self._caller.approvals.is_sign_in_only(
            self._caller, item
        ):
            return False
        modes = {request.mode for request in item.requests} if isinstance(item, McpInput) else {"form"}
        return self._settings.approvals == "ask" and all(can_show(self._ctx, mode) for mode in modes)

    def may_decide(self, item: Pending) -> bool:
        """Whether the operator lets the model decide this, and the platform accepts its decision."""
        return self._settings.approvals == "host" and not self._caller.approvals.is_sign_in_only(self._caller, item)

    def why_not_asked(self, item: Pending) -> str:
        """Why the person is not asked about this here, in a sentence."""
        if self._caller.approvals.is_sign_in_only(self._caller, item):
            return "Only the person can decide this, signed in to inference.sh."
        if self._settings.approvals == "host":
            return "Only the person can decide this."
        return "This host cannot ask the person."

    def page(self, chat_id: str) -> str:
        """The address where the person can see the chat and decide."""
        return self._settings.chat_url.replace("{chat_id}", chat_id)

    async def question(self, chat_id: str, item: Pending) -> Question | None:
        """The question about an item; None if this host cannot ask it."""
        if not self.can_ask(item):
            return None
        details = None
        if isinstance(item, Approval):
            always_allow = self._settings.always_allow
            details = await self._caller.approvals.read_approval_details(self._caller, item, always_allow=always_allow)
        return question_for(item, self.page(chat_id), details)

    async def ask(
        self, turn: TurnResult, item: Pending, seconds: float
    ) -> Decision | NotDecided | CannotAsk | NeedsResume[InputRequiredResult]:
        """Ask the person about an item. An answer of this round counts once, and only for the question that was shown.

        If the form comes back empty, ask once more without fields. If only a signed-in person can decide, show the page.
        """
        if self.needs_page(item):
            request = await self.show_page(PAGE_MESSAGE, self.page(turn.chat.id), turn)
            return NeedsResume(result=request) if request else CannotAsk()
        question = await self.question(turn.chat.id, item)
        if question is None:
            return CannotAsk()
        end = time.monotonic() + seconds
        shown, replies = self._earlier_replies(question) or (question, await self._ask(question, turn, end))
        if isinstance(replies, NeedsResume):
            return replies
        plain = shown.plain if shown.is_empty_acceptance(replies) else None
        if plain is None:
            return shown.decide(replies) or NotDecided()
        replies = await self._ask(plain, turn, end)
        return replies if isinstance(replies, NeedsResume) else plain.decide(replies) or NotDecided()

    def _earlier_replies(self, question: Question) -> tuple[Question, Mapping[str, Reply]] | None:
        """What the host sends in this round about a question or its plain form. It counts once."""
        for shown in (question, question.plain):
            if self._earlier and shown and (replies := self._earlier.replies_to(shown)):
                self._earlier = None
                return shown, replies
        return None

    def needs_page(self, item: Pending) -> bool:
        """Whether only a signed-in person can settle this."""
        return isinstance(item, SignIn) or self._caller.approvals.is_sign_in_only(self._caller, item)

    def page_request(self, message: str, url: str, name: str) -> ElicitRequest | None:
        """The request to show the person a page; None if the host cannot."""
        if not can_show(self._ctx, "url"):
            return None
        return ElicitRequest(params=ElicitRequestURLParams(message=message, url=url, elicitation_id=name))

    async def show_page(self, message: str, url: str, turn: TurnResult | None = None) -> InputRequiredResult | None:
        """Ask the host to show the person a page, once in a call. The platform reports what they do there."""
        request = None if self._page_was_shown else self.page_request(message, url, secrets.token_hex(8))
        if request is None:
            return None
        self._page_was_shown = True
        if self._ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return _resumable({DECISION_KEY: request}, turn, PAGE_ID, "")
        await elicit(self._ctx, request, MIN_ANSWER_SECONDS)
        return None

    async def _ask(
        self, question: Question, turn: TurnResult, end: float
    ) -> Mapping[str, Reply] | NeedsResume[InputRequiredResult]:
        """Send all requests of a question: in one result in the newer protocol, one after another in the older one."""
        if self._ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return NeedsResume(result=_resumable(question.requests, turn, question.id, question.digest))
        replies: dict[str, Reply] = {}
        for key, request in question.requests.items():
            began = time.monotonic()
            result = await elicit(self._ctx, request, max(end - began, MIN_ANSWER_SECONDS))
            replies[key] = Reply(result, time.monotonic() - began)
            if not replies[key].action:  # nobody answers, so the rest would not be answered either
                break
        return {key: replies.get(key, Reply(None, 0)) for key in question.requests}


def can_show(ctx: Ctx, mode: str) -> bool:
    """Whether the host can show a form, or a page. A host that declares elicitation without a kind shows forms."""
    elicitation = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    if elicitation is None:
        return False
    if mode == "url":
        return elicitation.url is not None
    return elicitation.form is not None or elicitation.url is None


async def elicit(ctx: Ctx, request: ElicitRequest, seconds: float) -> ElicitResult | None:
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


def _resumable(
    requests: Mapping[str, ElicitRequest], turn: TurnResult | None, question_id: str, digest: str
) -> InputRequiredResult:
    state = {
        "chat_id": turn.chat.id if turn else "",
        "id": question_id,
        "digest": digest,
        "asked_at": time.time(),
        "records": [asdict(record) for record in turn.records] if turn else [],
    }
    return InputRequiredResult(input_requests=dict(requests), request_state=json.dumps(state))


async def ask_about_cost(ctx: Ctx, caller: Caller, question: SpendQuestion) -> Agreement:
    """Ask the person, or read the answer that came in this round of the call. It counts once, and only for the runs shown.

    Raises:
        ResumeLater: the host has to ask, and to call again with the answer.
    """
    if not can_show(ctx, "form"):
        return Agreement.CANNOT_ASK
    if reply := await _reply_about_cost(ctx, caller, question):
        return _agreement(reply)
    request = form_request(_cost_message(question), NO_FIELDS)
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state = {"spend": question.digest, "nonce": secrets.token_hex(16), "asked_at": time.time()}
        raise ResumeLater(InputRequiredResult(input_requests={DECISION_KEY: request}, request_state=json.dumps(state)))
    began = time.monotonic()
    result = await elicit(ctx, request, caller.wait_seconds)
    return _agreement(Reply(result, time.monotonic() - began))


async def _reply_about_cost(ctx: Ctx, caller: Caller, question: SpendQuestion) -> Reply | None:
    """The host's reply to this very question; None if there is none, or it was used before."""
    state: dict[str, Any] = json.loads(ctx.request_state or "{}")  # sealed by this server
    result = (ctx.input_responses or {}).get(DECISION_KEY)
    if state.get("spend") != question.digest or not isinstance(result, ElicitResult):
        return None
    if not await caller.spend_limit.use_once(state["nonce"]):
        return None
    return Reply(result, time.time() - state["asked_at"])


def _agreement(reply: Reply) -> Agreement:
    match reply.action:
        case "accept" if reply.seconds >= MIN_HUMAN_SECONDS:
            return Agreement.AGREED
        case "accept":
            return Agreement.CANNOT_ASK  # the host asked nobody
        case "":
            return Agreement.CANNOT_ASK
        case _:
            return Agreement.DECLINED


def _cost_message(question: SpendQuestion) -> str:
    runs = f"{question.app} {question.runs} times" if question.runs > 1 else question.app
    cost = f"It may cost up to {usd(question.most)}." if question.most else "Its cost is not known."
    if question.most and question.unknown:
        cost += f" The cost of {question.unknown} of the runs is not known."
    live = f" Runs that are live now may cost {usd(question.live)} more." if question.live else ""
    return f"Run {runs}? {cost}{live} The limit without asking is {usd(question.limit)}. Accept to start it."
