"""What one attempt came to: a value, or a refusal that says what may be tried next. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferencesh_mcp.api.json import NotJson, parse
from inferencesh_mcp.api.problem_details import LASTING, Unwrapped, is_api_error, problem, unwrap
from inferencesh_mcp.api.retry import Failure, Operation, nothing_began
from inferencesh_mcp.errors import InferenceError, OutcomeUnknown, TimedOut, Unavailable, UpstreamError, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer that was read to its end. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A failed attempt: what it means for the next one, and the error if there is no next one."""

    failure: Failure
    error: InferenceError


class Lost(Exception):
    """No whole answer came."""

    def __init__(self, *, sent: bool, in_time: bool) -> None:
        """`sent` unless no byte of the request can have left; `in_time` unless it was waited for in vain."""
        super().__init__()
        self.sent, self.in_time = sent, in_time
        self.reason = self.next_step = ""
        """What is known of why it was never sent, and what to do then: a certificate, or a proxy."""


def judged(answer: Answer) -> Unwrapped | Refusal:
    """The value in an answer of the API, or why there is none."""
    if not 200 <= answer.status < 300:
        return refused(answer)
    if not answer.body.strip():
        return Unwrapped(value=None)
    try:
        found = unwrap(parse(answer.body))
    except NotJson as exc:
        return unreadable(answer.status, str(exc))
    if isinstance(found, Unwrapped):
        return found
    return _refusal(found, refused=True)


def refused(answer: Answer) -> Refusal:
    """An answer with the status of an error."""
    error = problem(answer.status, answer.headers, answer.body)
    return _refusal(error, refused=is_api_error(answer.body))


def _refusal(error: InferenceError, *, refused: bool) -> Refusal:
    lasting = refused and error.upstream_code in LASTING
    failure = Failure(sent=True, status=error.status, retry_after=error.retry_after, refused=refused, lasting=lasting)
    return Refusal(failure=failure, error=error)


def unreadable(status: int, why: str) -> Refusal:
    """An answer that came, but not in a form that can be read."""
    text = f"inference.sh answered {status} with something that cannot be read: {why}"
    return Refusal(failure=Failure(sent=True, status=status), error=UpstreamError(message=text, status=status))


def lost(*, sent: bool, in_time: bool) -> Refusal:
    """No whole answer. The HTTP library's own text is never shown: it may quote an address."""
    error: InferenceError
    if not sent:
        error = Unavailable(
            message="inference.sh could not be reached", next_step="Check the network, then call again."
        )
    elif in_time:
        error = Unavailable(message="the connection to inference.sh broke before the answer was complete")
    else:
        error = TimedOut(message="inference.sh did not answer in time")
    return Refusal(failure=Failure(sent=sent), error=error)


def unanswered(exc: TimeoutError | Lost) -> Refusal:
    """The same, of what was raised instead of an answer."""
    refusal = lost(sent=exc.sent, in_time=exc.in_time) if isinstance(exc, Lost) else lost(sent=True, in_time=False)
    if isinstance(exc, Lost) and exc.reason:
        refusal.error.message, refusal.error.next_step = exc.reason, exc.next_step
    refusal.error.__cause__ = exc.__cause__ or exc
    return refusal


def final(operation: Operation, refusal: Refusal, sent_at: datetime) -> InferenceError:
    """The error of a call that is given up; when it was to START or ANSWER something, with what became of that."""
    error = refusal.error
    if operation is Operation.ANSWER:
        # Nothing is charged, but an answer may have had its effect: the caller has to read the state before the next (O-7).
        error.retry_safe = nothing_began(refusal.failure)
        error.outcome = "not_started" if error.retry_safe else "unknown"
    if operation is not Operation.START:
        return error
    # The API's own word that the session is gone, maybe with a run in it (reliability 4.5).
    if isinstance(error, WorkerLost):
        error.outcome, error.retry_safe = "started", False
        return error
    if not nothing_began(refusal.failure):
        return outcome_unknown(error.message, sent_at, error)
    error.outcome, error.retry_safe = "not_started", True
    return error


def outcome_unknown(why: str, sent_at: datetime, error: InferenceError) -> OutcomeUnknown:
    """What may have been started must be looked for, and not be sent again."""
    return OutcomeUnknown(
        message=f"the request was sent, but what became of it is not known: {why}",
        next_step="Do not send it again before looking for it with task_list.",
        outcome="unknown",
        retry_safe=False,
        status=error.status,
        upstream_code=error.upstream_code,
        sent_at=sent_at,
    )
