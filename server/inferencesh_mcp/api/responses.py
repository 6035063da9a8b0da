"""An HTTP response: its body, read within limits, and what it is: a value, or the failure of one attempt."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.api.headers import is_encoded
from inferencesh_mcp.api.http_client import Lost
from inferencesh_mcp.api.json import NotJson, parse
from inferencesh_mcp.api.problem_details import Unwrapped, error_payload, is_api_error, problem, unwrap
from inferencesh_mcp.api.retry import Failure, Operation, nothing_started
from inferencesh_mcp.errors import InferenceError, OutcomeUnknown, TimedOut, Unavailable, UpstreamError, WorkerLost

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from datetime import datetime

    from inferencesh_mcp.api.http_client import Response

MAX_BODY_BYTES = 16 * 1024 * 1024
LARGE_BODY = 1024 * 1024
"""An answer of more bytes waits for one of a few slots: only so many large ones are held and parsed at a time."""
MAX_ERROR_BODY_BYTES = 64 * 1024
ERROR_BODY_SECONDS = 5.0


def refuse_encoding(response: Response) -> None:
    """Refuse a compressed body: it was not asked for, and a small one can expand to gigabytes (T-15)."""
    if is_encoded(response.headers):
        message = "inference.sh sent a compressed answer, which was not asked for"
        raise UpstreamError(message=message, status=response.status)


async def read_body(response: Response, take_slot: Callable[[], Awaitable[None]]) -> bytes:
    """The whole body, at most 16 MiB. `take_slot` is awaited once, before a large body is read further.

    Of an error, as much as arrives in time: its status alone is enough of an answer.
    """
    if not response.is_ok:
        return await read_error_body(response)
    body, has_slot = bytearray(), False
    async with aclosing(_chunks(response)) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise UpstreamError(message="inference.sh's answer is larger than 16 MiB", status=response.status)
            if len(body) > LARGE_BODY and not has_slot:
                has_slot = True
                await take_slot()
    return bytes(body)


async def read_error_body(response: Response) -> bytes:
    """As much of a body as arrives within 5 seconds, at most 64 KiB; never an error."""
    body = bytearray()
    with suppress(Lost, UpstreamError), anyio.move_on_after(ERROR_BODY_SECONDS):
        async with aclosing(_chunks(response)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_ERROR_BODY_BYTES:
                    break
    return bytes(body[:MAX_ERROR_BODY_BYTES])


async def body_chunks(response: Response) -> AsyncGenerator[bytes]:
    """The body chunk by chunk; Unavailable or TimedOut if it breaks off, UpstreamError if it is compressed."""
    try:
        async with aclosing(_chunks(response)) as chunks:
            async for chunk in chunks:
                yield chunk
    except Lost as exc:
        raise no_answer(exc).error from exc


def _chunks(response: Response) -> AsyncGenerator[bytes]:
    """The bytes as they came, undecoded. The reader must close the generator: garbage collection does it too late."""
    refuse_encoding(response)
    return response.chunks()


def read_answer(response: Response, body: bytes) -> Unwrapped | Failure:
    """The value in an answer of the API, or the failure that it is."""
    if not response.is_ok:
        return refusal(response, body)
    if not body.strip():
        return Unwrapped(value=None)
    try:
        value = unwrap(parse(body))
    except NotJson as exc:
        text = f"inference.sh answered {response.status} with something that cannot be read: {exc}"
        return Failure(error=UpstreamError(message=text, status=response.status))
    return Failure(error=value, refused=True) if isinstance(value, InferenceError) else value


def refusal(response: Response, body: bytes) -> Failure:
    """The failure that an answer with an error status is."""
    payload = error_payload(body)
    return Failure(error=problem(response.status, response.headers, payload), refused=is_api_error(payload))


def no_answer(exc: TimeoutError | Lost) -> Failure:
    """The failure without a complete answer. The HTTP library's text is never shown: it may quote an address."""
    lost = exc if isinstance(exc, Lost) else Lost(sent=True, in_time=False)
    error: InferenceError
    if not lost.sent:
        error = Unavailable(
            message=lost.reason or "inference.sh could not be reached",
            next_step=lost.next_step or "Check the network, then call again.",
        )
    elif lost.in_time:
        error = Unavailable(message="the connection to inference.sh broke before the answer was complete")
    else:
        error = TimedOut(message="inference.sh did not answer in time")
    error.__cause__ = exc.__cause__ or exc
    return Failure(error=error, sent=lost.sent)


def final_error(operation: Operation, failure: Failure, sent_at: datetime) -> InferenceError:
    """The error of a call without retries left. For START and ANSWER it carries the outcome."""
    error, is_harmless = failure.error, nothing_started(failure)
    if operation is Operation.ANSWER:
        # Nothing is charged, but the answer may have taken effect: the caller must read the state before it answers again.
        return error.replace(outcome="not_started" if is_harmless else "unknown", retry_safe=is_harmless)
    if operation is not Operation.START:
        return error
    # The API says that the session is lost; a run may have started in it.
    if isinstance(error, WorkerLost):
        return error.replace(outcome="started", retry_safe=False)
    if not is_harmless:
        return outcome_unknown(error.message, sent_at, error)
    return error.replace(outcome="not_started", retry_safe=True)


def outcome_unknown(reason: str, sent_at: datetime, error: InferenceError) -> OutcomeUnknown:
    """The error for a start whose reply was lost: it must be looked for, and not be sent again."""
    return OutcomeUnknown(
        message=f"the request was sent, but its result is unknown: {reason}",
        next_step="Do not send it again before looking for it with task_list.",
        outcome="unknown",
        retry_safe=False,
        status=error.status,
        upstream_code=error.upstream_code,
        sent_at=sent_at,
    )
