"""Which requests may be retried, when, and the loop that does it. No I/O of its own: sleep, random and clock are passed in.

The numbers are those of the AWS SDKs' standard mode (botocore 1.44): 3 attempts, full jitter, a budget of 500 tokens.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from inferencesh_mcp.api.problem_details import LASTING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferencesh_mcp.errors import InferenceError

ATTEMPTS = 3
"""Most attempts of one request."""
TRANSIENT_BASE = 0.05
"""First back-off, in seconds, after a broken connection or a server error."""
THROTTLED_BASE = 1.0
"""First back-off, in seconds, after 429."""
MAX_PAUSE_SECONDS = 20.0
MAX_RETRY_AFTER_SECONDS = 60.0
"""Longest `Retry-After`, in seconds, that is waited for."""
CALL_SECONDS = 60.0
"""One call with all its attempts and the pauses between them."""
MAX_BUCKETS = 4096
"""Accounts whose retry budget is kept; beyond it, the least recently used one gets a fresh budget."""

_TRANSIENT = frozenset({500, 502, 503, 504})
_THROTTLED = 429

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Operation(Enum):
    """What a request does, as far as a retry is concerned."""

    READ = "read"
    """Any GET, a list by POST, an upload's record (an unused one costs nothing)."""
    START = "start"
    """Starts something that costs money."""
    STOP = "stop"
    """Cancels or ends; idempotent in effect."""
    EXTEND = "extend"
    """Keeps a session alive."""
    ANSWER = "answer"
    """Answers, approves or rejects a tool call."""
    PUT = "put"
    """Sends a file's bytes, which can be read again."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How one attempt failed: what decides about a retry, and the error if there is none."""

    error: InferenceError
    sent: bool = True
    """Whether a byte of the request may have left this process."""
    refused: bool = False
    """The answer had the form of the API's own errors, so it came from the API and not from a proxy."""
    already_done: bool = False
    """It is the second answer to a STOP that has taken effect: no error."""

    @property
    def status(self) -> int | None:
        """The HTTP status; None if no complete answer was read."""
        return self.error.status

    @property
    def retry_after(self) -> float | None:
        """Seconds the API asked to wait."""
        return self.error.retry_after

    @property
    def lasting(self) -> bool:
        """The API named a lasting state: nothing was started, and a retry would not help."""
        return self.refused and self.error.upstream_code in LASTING


def may_repeat(operation: Operation, failure: Failure, attempt: int) -> bool:
    """Whether to retry after attempt number `attempt` (from 1) failed like this."""
    if attempt >= ATTEMPTS or failure.lasting:
        return False
    if not failure.sent:
        return True
    if operation is Operation.ANSWER:
        return False
    if operation is Operation.START:
        return _was_refused_for_load(failure)
    if operation is Operation.EXTEND and failure.status is None:
        return attempt == 1
    return failure.status is None or failure.status in _TRANSIENT or failure.status == _THROTTLED


def nothing_started(failure: Failure) -> bool:
    """Whether a START that failed like this certainly started nothing."""
    if not failure.sent or failure.lasting or _was_refused_for_load(failure):
        return True
    return failure.status is not None and 300 <= failure.status < 500


def is_done(operation: Operation, failure: Failure, *, sent_before: bool) -> bool:
    """Whether a STOP has taken effect although its last answer is an error: an earlier attempt may have done it."""
    return operation is Operation.STOP and sent_before and failure.status in {404, 409, 410}


def pause(failure: Failure, attempt: int, random: Callable[[], float]) -> float:
    """Seconds to wait after attempt number `attempt` (from 1). `random` gives numbers in [0, 1).

    `Retry-After` is respected, but at least half a back-off is waited: it may be zero or in the past.
    """
    if failure.retry_after is not None:
        return max(failure.retry_after, (THROTTLED_BASE + backoff(attempt - 1, random, THROTTLED_BASE)) / 2)
    base = THROTTLED_BASE if failure.status == _THROTTLED else TRANSIENT_BASE
    return backoff(attempt - 1, random, base)


def backoff(doublings: int, random: Callable[[], float], base: float = TRANSIENT_BASE) -> float:
    """Random seconds from 0 to `base` doubled `doublings` times, at most `MAX_PAUSE_SECONDS` (full jitter)."""
    return random() * min(base * 2.0 ** min(doublings, 32), MAX_PAUSE_SECONDS)


def _was_refused_for_load(failure: Failure) -> bool:
    """The documented refusals before anything starts: 429, and 503 with Retry-After in the API's own error form."""
    if failure.status == _THROTTLED:
        return True
    return failure.status == 503 and failure.retry_after is not None and failure.refused


class Bucket:
    """The retry budget of one account; when it is empty, requests fail at their first error."""

    CAPACITY = 500
    TRANSIENT_COST = 14
    THROTTLED_COST = 5

    def __init__(self) -> None:
        self.tokens = self.CAPACITY

    def take(self, failure: Failure) -> bool:
        """Pay for one retry; False if the budget is too low."""
        cost = self.THROTTLED_COST if failure.status == _THROTTLED else self.TRANSIENT_COST
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True

    def refill(self) -> None:
        """Add a token, because a request succeeded at its first attempt."""
        self.tokens = min(self.CAPACITY, self.tokens + 1)


class Retrier:
    """Retries requests, with a retry budget for each account: `Key.account`, never the key itself (I-9)."""

    def __init__(
        self, sleep: Callable[[float], Awaitable[None]], random: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._sleep, self._random, self._clock = sleep, random, clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self.failures = Counter[str]()
        """Failed attempts by the code of their error."""

    async def run(
        self,
        operation: Operation,
        account: str,
        name: str,
        send_once: Callable[[float], Awaitable[T | Failure]],
        *,
        seconds: float | None = None,
    ) -> T | Failure:
        """The result of `send_once`, which is given the seconds that are left, or its last failure. `name` is for the log.

        `seconds` limits all attempts together (default `CALL_SECONDS`).
        """
        bucket, sent_before = self._bucket(account), False
        end = self._clock() + (CALL_SECONDS if seconds is None else seconds)
        for attempt in count(1):
            result = await send_once(end - self._clock())
            if not isinstance(result, Failure):
                if attempt == 1:
                    bucket.refill()
                return result
            self.failures[result.error.code] += 1
            if is_done(operation, result, sent_before=sent_before):
                return replace(result, already_done=True)
            wait = pause(result, attempt, self._random)
            # A pause longer than the call would only delay the same error; a requested pause is never shortened.
            in_time = wait <= MAX_RETRY_AFTER_SECONDS and self._clock() + wait < end
            if not (in_time and may_repeat(operation, result, attempt) and bucket.take(result)):
                return result
            logger.info("%s: attempt %d failed (%s), again in %.2f s", name, attempt, result.error.code, wait)
            sent_before = sent_before or result.sent
            await self._sleep(wait)
        raise AssertionError  # pragma: no cover - counting does not end

    def _bucket(self, account: str) -> Bucket:
        bucket = self._buckets.setdefault(account, Bucket())
        self._buckets.move_to_end(account)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return bucket
