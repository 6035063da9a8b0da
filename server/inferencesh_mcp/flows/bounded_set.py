"""A bounded memory of what was seen lately."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T", bound="Hashable")
V = TypeVar("V")


class RecentSet(Generic[T]):
    """A set of at most so many things that forgets the oldest first (I-17), and each after so many seconds."""

    def __init__(self, most: int, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._held: OrderedDict[T, float] = OrderedDict()

    def add(self, one: T) -> None:
        self._held[one] = self._clock()
        self._held.move_to_end(one)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def __contains__(self, one: T) -> bool:
        added = self._held.get(one)
        return added is not None and self._clock() - added < self._seconds


class LruCache(Generic[T, V]):
    """What was found lately by its name: at most so many, the one that was not asked for longest goes first (I-17)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[T, V] = OrderedDict()

    def add(self, name: T, found: V) -> None:
        self._held[name] = found
        self._held.move_to_end(name)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def get(self, name: T) -> V | None:
        return self._held.get(name)
