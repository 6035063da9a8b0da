"""A start whose reply was lost is looked for: while its caller waits, and for a while after they left.

Nobody knows an idempotency key of this API. So a start is never sent again once it may have arrived.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.ownership import Start

LAST_LOOK = 3.0  # seconds; with the cancel after it, within what a process has for its end
LOOKS_AFTERWARDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds between the looks once the caller has left: a list may lag behind, and a run that nobody found costs all the same."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidates(Generic[T]):
    """What one look found: each thing that the lost start may have made, by its id."""

    found: dict[str, T] = field(default_factory=dict[str, T])
    complete: bool = False
    """Whether everything recent was looked through."""


@dataclass(frozen=True, kw_only=True)
class LostStart(Generic[T]):
    """One lost start: how it is looked for, and what becomes of it when its caller has left."""

    caller: Caller
    start: Start
    looks: Sequence[float]
    """Seconds between the looks while the caller waits."""
    look: Callable[[], Awaitable[Candidates[T]]]
    leave: Callable[[T], Awaitable[None]]
    """What is done with the one thing that it certainly made, and nobody waits for."""
    leave_unknown: Callable[[Sequence[str]], None]
    """What is done where that cannot be known: the candidates are logged."""

    async def find(self) -> T | list[str]:
        """What it made; or the candidates, where that cannot be known. A caller who leaves meanwhile is looked after."""
        sight = Candidates[T]()
        try:
            for pause in self.looks:
                with self.caller.runs.drain.deadline(math.inf):
                    await self.caller.api.sleep(pause)
                sight = await self._looked(sight)
                if sight.found and self.start.is_only:
                    break
        except anyio.get_cancelled_exc_class():
            await self._left()
            raise
        if (made := self._adopted(sight)) is not None:
            return made
        self.start.give_up()
        return list(sight.found)

    async def _looked(self, before: Candidates[T]) -> Candidates[T]:
        try:
            return await self.look()
        except InferenceError as exc:
            logger.info("what was started lately could not be listed: %s", exc.code)
            return before

    def _adopted(self, sight: Candidates[T]) -> T | None:
        candidates = list(sight.found)
        if not self.start.may_adopt(candidates, complete=sight.complete):
            return None
        self.start.made(candidates[0])
        return sight.found[candidates[0]]

    async def _left(self) -> None:
        """The caller went: look once more at once, and then in the background, so that nothing runs, and costs, for nobody."""
        sight = Candidates[T]()
        with anyio.move_on_after(LAST_LOOK, shield=True):
            sight = await self._looked(sight)
        if (made := self._adopted(sight)) is not None:
            await self.leave(made)
        elif self._is_settled(sight) or not self.caller.runs.in_background(lambda: self._look_on(sight)):
            self._give_up(sight)

    async def _look_on(self, sight: Candidates[T]) -> None:
        drain, made = self.caller.runs.drain, None
        try:
            for pause in LOOKS_AFTERWARDS:
                with drain.deadline(math.inf):
                    await self.caller.api.sleep(pause)
                if drain.started:
                    break
                sight = await self._looked(sight)
                if (made := self._adopted(sight)) is not None:
                    await self.leave(made)
                    return
                if self._is_settled(sight):
                    break
        finally:
            if made is None:  # also where the server ends
                self._give_up(sight)

    def _is_settled(self, sight: Candidates[T]) -> bool:
        """Whether another look could tell nothing more: there are candidates, and nothing will ever choose between them."""
        return bool(sight.found) and self.start.is_only

    def _give_up(self, sight: Candidates[T]) -> None:
        self.start.give_up()
        self.leave_unknown(list(sight.found))
