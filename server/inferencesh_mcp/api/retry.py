"""Which requests may be sent again, and when. Pure: the clock and chance are the caller's.

The numbers are those of the AWS SDKs' standard mode (botocore 1.44): 3 attempts, full jitter, a budget of 500 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS = 3
"""How often one request is sent at most."""
TRANSIENT_BASE = 0.05
"""First back-off, in seconds, after a break."""
THROTTLED_BASE = 1.0
"""First back-off, in seconds, after a refusal for load."""
LONGEST_PAUSE = 20.0
LONGEST_RETRY_AFTER = 60.0
"""The API is not waited for longer than this, in seconds, whatever it asks."""

_TRANSIENT = frozenset({500, 502, 503, 504})
_THROTTLED = 429


class Operation(Enum):
    """What a request does, as far as sending it twice is concerned."""

    READ = "read"
    """O-1, O-8, O-10: any GET, a list by POST, an upload's record (an unused one costs nothing)."""
    START = "start"
    """O-3, O-4: starts something that costs money."""
    STOP = "stop"
    """O-5: cancels or ends; idempotent in effect."""
    EXTEND = "extend"
    """O-6: keeps a session alive."""
    ANSWER = "answer"
    """O-7: answers, approves or rejects a tool call."""
    PUT = "put"
    """O-9: sends a file's bytes, which can be read again."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How one attempt failed. Without a status no whole answer was read."""

    sent: bool
    """Whether a byte of the request may have left this process."""
    status: int | None = None
    retry_after: float | None = None
    """Seconds the API asked to wait."""
    refused: bool = False
    """The answer had the shape of the API's own error: it was the API that spoke, not something before it."""
    lasting: bool = False
    """The API named a state that lasts: nothing was started, and sending again at once would not help."""


def may_repeat(operation: Operation, failure: Failure, attempt: int) -> bool:
    """Whether the request may be sent again after attempt number `attempt` (from 1) failed like this."""
    if attempt >= ATTEMPTS or failure.lasting:
        return False
    if not failure.sent:
        return True
    if operation is Operation.ANSWER:
        return False
    if operation is Operation.START:
        return _was_turned_away(failure)
    if operation is Operation.EXTEND and failure.status is None:
        return attempt == 1
    return failure.status is None or failure.status in _TRANSIENT or failure.status == _THROTTLED


def nothing_began(failure: Failure) -> bool:
    """Whether a START that failed like this has certainly started nothing."""
    if not failure.sent or failure.lasting or _was_turned_away(failure):
        return True
    return failure.status is not None and 300 <= failure.status < 500


def is_done(operation: Operation, failure: Failure, *, sent_before: bool) -> bool:
    """Whether a STOP has had its effect although the last answer is an error: an earlier attempt may have done it."""
    return operation is Operation.STOP and sent_before and failure.status in {404, 409, 410}


def pause(failure: Failure, attempt: int, random: Callable[[], float]) -> float:
    """Seconds to wait after attempt number `attempt` (from 1). `random` gives numbers in [0, 1).

    What the API asks for is kept, and never less than half a back-off: it may ask for none at all, or for a time that is over.
    """
    if failure.retry_after is not None:
        return max(failure.retry_after, (THROTTLED_BASE + backoff(attempt - 1, random, THROTTLED_BASE)) / 2)
    base = THROTTLED_BASE if failure.status == _THROTTLED else TRANSIENT_BASE
    return backoff(attempt - 1, random, base)


def backoff(doublings: int, random: Callable[[], float], base: float = TRANSIENT_BASE) -> float:
    """Seconds: anything between nothing and `base` doubled so often, at most `LONGEST_PAUSE` (full jitter)."""
    return random() * min(base * 2.0 ** min(doublings, 32), LONGEST_PAUSE)


class Bucket:
    """The retries that one principal may still cause at one origin; empty means: fail at once."""

    CAPACITY = 500
    TRANSIENT_COST = 14
    THROTTLED_COST = 5

    def __init__(self) -> None:
        self.tokens = self.CAPACITY

    def take(self, failure: Failure) -> bool:
        """Pay for one retry; False when there is not enough left."""
        cost = self.THROTTLED_COST if failure.status == _THROTTLED else self.TRANSIENT_COST
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True

    def succeeded(self) -> None:
        """A request went through at its first attempt."""
        self.tokens = min(self.CAPACITY, self.tokens + 1)


def _was_turned_away(failure: Failure) -> bool:
    """The documented refusals before anything starts: 429, and 503 with Retry-After in the API's own error shape."""
    if failure.status == _THROTTLED:
        return True
    return failure.status == 503 and failure.retry_after is not None and failure.refused
