"""Repeats one request as the retry policy allows. No I/O of its own: sleep, random and clock are passed in."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from inferencesh_mcp.api.responses import Refusal
from inferencesh_mcp.api.retry import LONGEST_RETRY_AFTER, Bucket, Operation, is_done, may_repeat, pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferencesh_mcp.api.keys import Key

CALL_SECONDS = 60.0
"""One call with all its attempts and the pauses between them."""
BUCKETS_LIMIT = 4096
"""Principals whose retry budget is kept; beyond it, the least recently used one gets a fresh budget."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class GivenUp(Exception):
    """No further attempt is allowed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class Attempts:
    """Retries requests, with a retry budget for each principal."""

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
        key: Key | None,
        name: str,
        send_once: Callable[[float], Awaitable[T | Refusal]],
        *,
        seconds: float | None = None,
    ) -> T | None:
        """The result of `send_once`, which is given the seconds that are left. `name` is for the log.

        `seconds` limits all attempts together (default `CALL_SECONDS`). None if an earlier attempt of a STOP took effect.
        Raises GivenUp with the last refusal.
        """
        bucket, sent_before = self._bucket(key), False
        end = self._clock() + (CALL_SECONDS if seconds is None else seconds)
        for attempt in count(1):
            outcome = await send_once(end - self._clock())
            if not isinstance(outcome, Refusal):
                if attempt == 1:
                    bucket.succeeded()
                return outcome
            self.failures[outcome.error.code] += 1
            if is_done(operation, outcome.failure, sent_before=sent_before):
                return None
            wait = pause(outcome.failure, attempt, self._random)
            # A pause longer than the call would only delay the same error; a requested pause is never shortened.
            in_time = wait <= LONGEST_RETRY_AFTER and self._clock() + wait < end
            if not (in_time and may_repeat(operation, outcome.failure, attempt) and bucket.take(outcome.failure)):
                raise GivenUp(outcome) from outcome.error.__cause__
            logger.info("%s: attempt %d failed (%s), again in %.2f s", name, attempt, outcome.error.code, wait)
            sent_before = sent_before or outcome.failure.sent
            await self._sleep(wait)
        raise AssertionError  # pragma: no cover - counting does not end

    def _bucket(self, key: Key | None) -> Bucket:
        """The retry budget of this principal, identified by a keyed hash and never by the key (I-9)."""
        principal = key.account if key else ""
        bucket = self._buckets.setdefault(principal, Bucket())
        self._buckets.move_to_end(principal)
        if len(self._buckets) > BUCKETS_LIMIT:
            self._buckets.popitem(last=False)
        return bucket
