"""One request, as often as the policy lets it be sent. No I/O of its own: waiting, chance and the clock are given."""

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
"""One call in all: its attempts, and the pauses between them."""
BUCKETS_LIMIT = 4096
"""Principals whose retries are counted; past it, the one that was quiet longest starts anew."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class GivenUp(Exception):
    """No attempt is left."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class Attempts:
    """Sends again what may be sent again, on a budget of retries for each principal."""

    def __init__(
        self, sleep: Callable[[float], Awaitable[None]], random: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._sleep, self._random, self._clock = sleep, random, clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self.failures = Counter[str]()
        """How often an attempt failed, by the code of its error."""

    async def persist(
        self,
        operation: Operation,
        key: Key | None,
        name: str,
        once: Callable[[float], Awaitable[T | Refusal]],
        *,
        seconds: float | None = None,
    ) -> T | None:
        """What `once`, which is told the seconds that are left, comes to. `name` is for the log.

        `seconds` is for all of it, `CALL_SECONDS` without a word. None when an earlier attempt of a STOP has had its effect.
        Raises GivenUp with the last refusal.
        """
        bucket, sent_before = self._bucket(key), False
        end = self._clock() + (CALL_SECONDS if seconds is None else seconds)
        for attempt in count(1):
            outcome = await once(end - self._clock())
            if not isinstance(outcome, Refusal):
                if attempt == 1:
                    bucket.succeeded()
                return outcome
            self.failures[outcome.error.code] += 1
            if is_done(operation, outcome.failure, sent_before=sent_before):
                return None
            wait = pause(outcome.failure, attempt, self._random)
            # A pause that outlasts the call could only end in the same error, later; and one that was asked for is not cut.
            in_time = wait <= LONGEST_RETRY_AFTER and self._clock() + wait < end
            if not (in_time and may_repeat(operation, outcome.failure, attempt) and bucket.take(outcome.failure)):
                raise GivenUp(outcome) from outcome.error.__cause__
            logger.info("%s: attempt %d failed (%s), again in %.2f s", name, attempt, outcome.error.code, wait)
            sent_before = sent_before or outcome.failure.sent
            await self._sleep(wait)
        raise AssertionError  # pragma: no cover - counting does not end

    def _bucket(self, key: Key | None) -> Bucket:
        """The retries left to this principal, who is known by a keyed hash and never by the key (I-9)."""
        principal = key.account if key else ""
        bucket = self._buckets.setdefault(principal, Bucket())
        self._buckets.move_to_end(principal)
        if len(self._buckets) > BUCKETS_LIMIT:
            self._buckets.popitem(last=False)
        return bucket
