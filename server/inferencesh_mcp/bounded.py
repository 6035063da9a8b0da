"""Collections of bounded size: a dict that drops its oldest entries, and a set that forgets (I-17). Pure: imports no other module of the package."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class BoundedDict(OrderedDict[K, V]):
    """A dict of at most `limit` entries. The one that was set first is dropped first."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)


class RecentSet(Generic[K]):
    """A set of at most `limit` keys that forgets the oldest first, and each after `seconds`."""

    def __init__(self, limit: int, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._added: BoundedDict[K, float] = BoundedDict(limit)

    def add(self, key: K) -> None:
        self._added[key] = self._clock()

    def __contains__(self, key: K) -> bool:
        added = self._added.get(key)
        return added is not None and self._clock() - added < self._seconds
