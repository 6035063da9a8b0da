"""Collections of bounded size: a set that forgets, and a cache (I-17)."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class RecentSet(Generic[K]):
    """A set of at most `limit` keys that forgets the oldest first, and each after `seconds`."""

    def __init__(self, limit: int, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._seconds, self._clock = limit, seconds, clock
        self._added: OrderedDict[K, float] = OrderedDict()

    def add(self, key: K) -> None:
        self._added[key] = self._clock()
        self._added.move_to_end(key)
        if len(self._added) > self._limit:
            self._added.popitem(last=False)

    def __contains__(self, key: K) -> bool:
        added = self._added.get(key)
        return added is not None and self._clock() - added < self._seconds


class RecentCache(Generic[K, V]):
    """The values of at most `limit` keys; the one that was added first is dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()

    def add(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def get(self, key: K) -> V | None:
        return self._values.get(key)
