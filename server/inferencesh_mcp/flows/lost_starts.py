"""Starts whose reply was lost: which task or message they made, and the search for it (promise 1, reliability 4.1).

A start is never sent again if it may have arrived, because this API knows no idempotency keys. So what it made is looked for
among what is recent, while its caller waits and for two minutes after they left. A task shows its upstream account and nothing
else about who started it. All callers who share a key share its tasks, and an identical run of another caller looks the same.
So this is the rule:

1. An id in an answer to one call belongs to that call. No other call of this process takes it, whatever its key.
2. A lost start may have made a task only if the task is newer than the sending and of the same app, function, session and
   input.
3. That task is adopted only if it is the only one, all recent tasks were searched, and nobody else can have started it: no
   other identical start of this process waits for its answer, is searched for, or was given up in the last minutes; and
   this server has no other replicas, because what they start with the same key looks the same.
4. Otherwise each such task is a candidate. Candidates are named to the caller or in the log. They are never followed as the
   caller's run, and never cancelled.

The same rule holds for messages to agents; there the chat, or the message, is searched for.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from inferencesh_mcp.bounded import RecentSet
from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from inferencesh_mcp.flows import Caller

LAST_LOOK = 3.0  # seconds; with the cancel after it this fits into the time that a process has to end
LOOKS_AFTERWARDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds before each search after the caller left: a list may lag behind, and a run that is not found costs money."""

OWNED_LIMIT = 16_384
"""Ids remembered as some call's own: more than are made in the minutes in which a lost start is searched for."""
GIVEN_UP_LIMIT = 4_096
GIVEN_UP_SECONDS = 600.0
"""How long the task of a start that was given up may still appear: a queue before the API may hold it back."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class StartRegistry:
    """The starts of this process whose tasks are not known yet, and the ids of those whose tasks are."""

    def __init__(self, *, replicated: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """`replicated`: other processes may start runs with the same keys."""
        self.replicated = replicated
        self._open = Counter[str]()
        self._given_up = RecentSet[str](GIVEN_UP_LIMIT, GIVEN_UP_SECONDS, clock)
        self._owned = RecentSet[str](OWNED_LIMIT)

    def begin(self, fingerprint: str) -> Start:
        """Register a start before it is sent. `fingerprint` is equal for starts whose tasks could be confused."""
        digest = hashlib.sha256(fingerprint.encode()).hexdigest()  # the input itself may be large
        self._open[digest] += 1
        return Start(self, digest)

    def is_owned(self, made_id: str) -> bool:
        """Whether a task, a chat or a message belongs to some call."""
        return made_id in self._owned

    def is_only(self, digest: str) -> bool:
        """Whether only one start of this process can have made a task with this fingerprint."""
        return self._open[digest] == 1 and digest not in self._given_up

    def end(self, digest: str, *, made_id: str = "", given_up: bool = False) -> None:
        """Remove a start from the open ones."""
        self._open[digest] -= 1
        if not self._open[digest]:
            del self._open[digest]
        if made_id:
            self._owned.add(made_id)
        if given_up:
            self._given_up.add(digest)


class Start:
    """One start, from before it is sent until it is known what it made, or that this cannot be known."""

    def __init__(self, registry: StartRegistry, digest: str) -> None:
        self._registry, self._digest = registry, digest

    @property
    def is_only(self) -> bool:
        """Whether no other start of this process can have made what this one did."""
        return self._registry.is_only(self._digest)

    def may_adopt(self, candidates: Sequence[str], *, complete: bool) -> bool:
        """Whether the candidate certainly is what this start made (rule 3). `complete`: everything recent was searched."""
        return len(candidates) == 1 and complete and self.is_only and not self._registry.replicated

    def made(self, made_id: str) -> None:
        """Record what it made: the id belongs to this call from now on."""
        self._registry.end(self._digest, made_id=made_id)

    def refused(self) -> None:
        """Record that it made nothing."""
        self._registry.end(self._digest)

    def give_up(self) -> None:
        """Record that it may have made something that will not be found."""
        self._registry.end(self._digest, given_up=True)


@dataclass(frozen=True)
class Candidates(Generic[T]):
    """The result of one search: what the lost start may have made, by id."""

    by_id: dict[str, T] = field(default_factory=dict[str, T])
    complete: bool = False
    """Whether everything recent was searched."""


@dataclass(frozen=True, kw_only=True)
class LostStart(Generic[T]):
    """One lost start: how to look for it, and what to do with it if its caller has left."""

    caller: Caller
    start: Start
    pauses: Sequence[float]
    """Seconds before each search while the caller waits."""
    search: Callable[[], Awaitable[Candidates[T]]]
    cancel: Callable[[T], Awaitable[None]]
    """Called with what it certainly made, if nobody waits for that any more."""
    log_candidates: Callable[[Sequence[str]], None]
    """Called with what it may have made, if nobody waits and it cannot be known."""

    async def find(self) -> T | list[str]:
        """Return what it made, or the ids of the candidates. If the caller leaves, the search goes on without them."""
        candidates = Candidates[T]()
        try:
            for pause in self.pauses:
                with self.caller.runs.drain.deadline(math.inf):
                    await self.caller.api.sleep(pause)
                candidates = await self._search_again(candidates)
                if candidates.by_id and self.start.is_only:
                    break
        except anyio.get_cancelled_exc_class():
            await self._search_after_leaving()
            raise
        if (made := self._adopt(candidates)) is not None:
            return made
        self.start.give_up()
        return list(candidates.by_id)

    async def _search_again(self, previous: Candidates[T]) -> Candidates[T]:
        try:
            return await self.search()
        except InferenceError as exc:
            logger.info("what was started lately could not be listed: %s", exc.code)
            return previous

    def _adopt(self, candidates: Candidates[T]) -> T | None:
        ids = list(candidates.by_id)
        if not self.start.may_adopt(ids, complete=candidates.complete):
            return None
        self.start.made(ids[0])
        return candidates.by_id[ids[0]]

    async def _search_after_leaving(self) -> None:
        """The caller left: search at once, then in the background, so that nothing runs and costs for nobody."""
        candidates = Candidates[T]()
        with anyio.move_on_after(LAST_LOOK, shield=True):
            candidates = await self._search_again(candidates)
        if (made := self._adopt(candidates)) is not None:
            await self.cancel(made)
        elif self._is_final(candidates) or not self.caller.runs.in_background(
            lambda: self._search_in_background(candidates)
        ):
            self._give_up(candidates)

    async def _search_in_background(self, candidates: Candidates[T]) -> None:
        drain, made = self.caller.runs.drain, None
        try:
            for pause in LOOKS_AFTERWARDS:
                with drain.deadline(math.inf):
                    await self.caller.api.sleep(pause)
                if drain.started:
                    break
                candidates = await self._search_again(candidates)
                if (made := self._adopt(candidates)) is not None:
                    await self.cancel(made)
                    return
                if self._is_final(candidates):
                    break
        finally:
            if made is None:  # also if the server ends
                self._give_up(candidates)

    def _is_final(self, candidates: Candidates[T]) -> bool:
        """Whether another search cannot help: there are candidates, and nothing will ever choose between them."""
        return bool(candidates.by_id) and self.start.is_only

    def _give_up(self, candidates: Candidates[T]) -> None:
        self.start.give_up()
        self.log_candidates(list(candidates.by_id))
