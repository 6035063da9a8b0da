"""Owners of data, and the bounded stores that hold it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from inferencesh_sandbox.facts import Facts
from inferencesh_sandbox.ids import fingerprint, lasting_id, short, stamp
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

Item = TypeVar("Item")


@dataclass(eq=False)
class Owner:
    """Who owns a task, a file, a session or a chat: the person or the team of one key."""

    key: str = field(repr=False)
    facts: Facts = field(default_factory=Facts)

    @property
    def caller(self) -> str:
        return fingerprint(self.key)

    @property
    def user_id(self) -> str:
        return lasting_id(f"user {self.key}")

    @property
    def team_id(self) -> str:
        return lasting_id(f"team {self.key}")

    def record_fields(self, record_id: str, created_at: datetime, updated_at: datetime) -> Json:
        """The fields that every record of this owner has in the API."""
        return {
            "id": record_id,
            "short_id": short(record_id),
            "created_at": stamp(created_at),
            "updated_at": stamp(updated_at),
            "user_id": self.user_id,
            "team_id": self.team_id,
            "visibility": "private",
        }


class BoundedStore(Generic[Item]):
    """Items by id, up to a limit. A new item evicts the oldest that may be evicted."""

    def __init__(self, limit: int, is_evictable: Callable[[Item], bool] = lambda _: True) -> None:
        self._limit = limit
        self._is_evictable = is_evictable
        self._items: OrderedDict[str, Item] = OrderedDict()

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items.values()))

    def get(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    def put(self, item_id: str, item: Item) -> Item:
        if len(self._items) >= self._limit:
            self._evict_oldest()
        self._items[item_id] = item
        return item

    def remove(self, item_id: str) -> None:
        self._items.pop(item_id, None)

    def _evict_oldest(self) -> None:
        oldest = next((item_id for item_id, item in self._items.items() if self._is_evictable(item)), None)
        if oldest is None:
            raise Problem(402, "limit_exceeded", "the sandbox is full of items that are still in use")
        del self._items[oldest]
