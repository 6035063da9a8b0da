"""The search for a start whose reply was lost: while its caller waits, and for two minutes after they left.

The rule: a start is never sent again if it may have arrived, because this API knows no idempotency keys. So the task, or the
message, is looked for among the recent ones. `ownership` decides whether one of them certainly is it. If so, it is returned,
or cancelled if the caller has left; if not, the candidates are named and left alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.ownership import Start

LAST_SEARCH_SECONDS = 3.0  # seconds; with the cancel after it this fits into the time that a process has to end
BACKGROUND_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds before each search after the caller left: a list may lag behind, and a run that is not found costs money."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


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
    delays: Sequence[float]
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
            for delay in self.delays:
                with self.caller.runs.drain.deadline():
                    await self.caller.api.sleep(delay)
                candidates = await self._search_again(candidates)
                if candidates.by_id and self.start.has_no_rivals:
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
        with anyio.move_on_after(LAST_SEARCH_SECONDS, shield=True):
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
            for delay in BACKGROUND_DELAYS:
                with drain.deadline():
                    await self.caller.api.sleep(delay)
                if drain.is_stopping:
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
        return bool(candidates.by_id) and self.start.has_no_rivals

    def _give_up(self, candidates: Candidates[T]) -> None:
        self.start.give_up()
        self.log_candidates(list(candidates.by_id))
