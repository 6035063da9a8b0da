"""The result of one attempt: a value, or a refusal that says whether to retry. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferencesh_mcp.api.json import NotJson, parse
from inferencesh_mcp.api.problem_details import LASTING, Unwrapped, is_api_error, problem, unwrap
from inferencesh_mcp.api.retry import Failure, Operation, nothing_started
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
    """A failed attempt: what decides about a retry, and the error if there is none."""

    failure: Failure
    error: InferenceError


class Lost(Exception):
    """No complete answer arrived."""

    def __init__(self, *, sent: bool, in_time: bool, reason: str = "", next_step: str = "") -> None:
        """`sent`: a byte of the request may have left this process. `in_time`: it failed before the time limit.

        `reason`, `next_step`: why the request was never sent and what to do, if known: a certificate or a proxy.
        """
        super().__init__()
        self.sent, self.in_time = sent, in_time
        self.reason, self.next_step = reason, next_step


def read_answer(answer: Answer) -> Unwrapped | Refusal:
    """The value in an answer of the API, or the refusal that it is."""
    if not 200 <= answer.status < 300:
        return read_refusal(answer)
    if not answer.body.strip():
        return Unwrapped(value=None)
    try:
        unwrapped = unwrap(parse(answer.body))
    except NotJson as exc:
        return unreadable(answer.status, str(exc))
    if isinstance(unwrapped, Unwrapped):
        return unwrapped
    return _refusal(unwrapped, refused=True)


def read_refusal(answer: Answer) -> Refusal:
    """The refusal in an answer with an error status."""
    error = problem(answer.status, answer.headers, answer.body)
    return _refusal(error, refused=is_api_error(answer.body))


def _refusal(error: InferenceError, *, refused: bool) -> Refusal:
    lasting = refused and error.upstream_code in LASTING
    failure = Failure(sent=True, status=error.status, retry_after=error.retry_after, refused=refused, lasting=lasting)
    return Refusal(failure=failure, error=error)


def unreadable(status: int, reason: str) -> Refusal:
    """A refusal for an answer that is not usable JSON."""
    text = f"inference.sh answered {status} with something that cannot be read: {reason}"
    return Refusal(failure=Failure(sent=True, status=status), error=UpstreamError(message=text, status=status))


def no_answer(*, sent: bool, in_time: bool) -> Refusal:
    """A refusal without a complete answer. The HTTP library's text is never shown: it may quote an address."""
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


def no_answer_from(exc: TimeoutError | Lost) -> Refusal:
    """The same, from the exception that was raised."""
    refusal = (
        no_answer(sent=exc.sent, in_time=exc.in_time) if isinstance(exc, Lost) else no_answer(sent=True, in_time=False)
    )
    error = refusal.error
    if isinstance(exc, Lost) and exc.reason:
        error = error.replace(message=exc.reason, next_step=exc.next_step)
    error.__cause__ = exc.__cause__ or exc
    return Refusal(failure=refusal.failure, error=error)


def final_error(operation: Operation, refusal: Refusal, sent_at: datetime) -> InferenceError:
    """The error of a call without retries left. For START and ANSWER it carries the outcome."""
    error = refusal.error
    if operation is Operation.ANSWER:
        # Nothing is charged, but the answer may have taken effect: the caller must read the state before it answers again (O-7).
        without_effect = nothing_started(refusal.failure)
        return error.replace(outcome="not_started" if without_effect else "unknown", retry_safe=without_effect)
    if operation is not Operation.START:
        return error
    # The API says that the session is lost; a run may have started in it (reliability 4.5).
    if isinstance(error, WorkerLost):
        return error.replace(outcome="started", retry_safe=False)
    if not nothing_started(refusal.failure):
        return outcome_unknown(error.message, sent_at, error)
    return error.replace(outcome="not_started", retry_safe=True)


def outcome_unknown(reason: str, sent_at: datetime, error: InferenceError) -> OutcomeUnknown:
    """The error for a start whose reply was lost: it must be looked for, and not be sent again."""
    return OutcomeUnknown(
        message=f"the request was sent, but what became of it is not known: {reason}",
        next_step="Do not send it again before looking for it with task_list.",
        outcome="unknown",
        retry_safe=False,
        status=error.status,
        upstream_code=error.upstream_code,
        sent_at=sent_at,
    )
