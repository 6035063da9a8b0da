"""Ask the person, through their host, whether a run may cost more than the operator's limit."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from inferencesh_mcp.flows.spend_limit import Agreement
from inferencesh_mcp.tools.define import ResumeLater
from inferencesh_mcp.tools.elicitation import can_show, elicit
from inferencesh_mcp.tools.elicitation_forms import DECISION_KEY, MIN_HUMAN_SECONDS, Reply
from inferencesh_mcp.tools.times import usd

if TYPE_CHECKING:
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.spend_limit import SpendQuestion


async def ask_about_cost(ctx: Ctx, who: Caller, question: SpendQuestion) -> Agreement:
    """Ask the person, or read the answer that came with this leg of the call. It counts once, and only for the runs shown.

    Raises:
        ResumeLater: the host has to ask, and to call again with the answer.
    """
    if not can_show(ctx, "form"):
        return Agreement.CANNOT_ASK
    if reply := _earlier_reply(ctx, who, question):
        return _agreement(reply)
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    request = ElicitRequest(params=ElicitRequestFormParams(message=_message(question), requested_schema=schema))
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        state = {"spend": question.digest, "nonce": secrets.token_hex(16), "asked_at": time.time()}
        raise ResumeLater(InputRequiredResult(input_requests={DECISION_KEY: request}, request_state=json.dumps(state)))
    began = time.monotonic()
    result = await elicit(ctx, request, who.wait_seconds)
    return _agreement(Reply(result, time.monotonic() - began))


def _earlier_reply(ctx: Ctx, who: Caller, question: SpendQuestion) -> Reply | None:
    """The host's reply to this very question; None if there is none, or it was used before."""
    state: dict[str, Any] = json.loads(ctx.request_state or "{}")  # sealed by this server
    result = (ctx.input_responses or {}).get(DECISION_KEY)
    if state.get("spend") != question.digest or not isinstance(result, ElicitResult):
        return None
    return Reply(result, time.time() - state["asked_at"]) if who.spend_limit.use_once(state["nonce"]) else None


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


def _message(question: SpendQuestion) -> str:
    runs = f"{question.app} {question.runs} times" if question.runs > 1 else question.app
    cost = f"It may cost up to {usd(question.most)}." if question.most else "Its cost is not known."
    if question.most and question.unknown:
        cost += f" The cost of {question.unknown} of the runs is not known."
    live = f" Runs that are live now may cost {usd(question.live)} more." if question.live else ""
    return f"Run {runs}? {cost}{live} The limit without asking is {usd(question.limit)}. Accept to start it."
