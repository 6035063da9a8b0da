"""What really happened: the ground truth that tests ask."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferencesh_mcp.sandbox.paths import fits

if TYPE_CHECKING:
    from datetime import datetime

_KEPT = 20_000
"""Entries of each kind that are remembered, the newest: a sandbox that runs for weeks stays small."""


@dataclass(kw_only=True)
class Asked:
    """One request as it came; its status is 0 until an answer has begun."""

    at: datetime
    caller: str
    """Fingerprint of the key, never the key; empty for none."""
    method: str
    path: str
    digest: str
    """SHA-256 of the body; empty where the body streams by."""
    status: int = 0


@dataclass(frozen=True, kw_only=True)
class Started:
    """One task that was made."""

    at: datetime
    task_id: str
    app: str
    caller: str


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One step of a task from status to status."""

    at: datetime
    task_id: str
    status: int


@dataclass(frozen=True, kw_only=True)
class CancelAsked:
    """One cancellation that reached a live task."""

    at: datetime
    task_id: str
    caller: str


class Ledger:
    """A bounded record of every request and everything it did."""

    def __init__(self) -> None:
        self._requests: deque[Asked] = deque(maxlen=_KEPT)
        self._starts: deque[Started] = deque(maxlen=_KEPT)
        self._cancels: deque[CancelAsked] = deque(maxlen=_KEPT)
        self._changes: deque[Changed] = deque(maxlen=_KEPT)

    @property
    def starts(self) -> tuple[Started, ...]:
        return tuple(self._starts)

    @property
    def cancels(self) -> tuple[CancelAsked, ...]:
        return tuple(self._cancels)

    @property
    def changes(self) -> tuple[Changed, ...]:
        return tuple(self._changes)

    def requests(self, method: str | None = None, path: str | None = None) -> tuple[Asked, ...]:
        """Every request so far, or those of one method and a path like `/tasks/*/stream`."""
        return tuple(
            asked
            for asked in self._requests
            if method in {None, asked.method} and (path is None or fits(asked.path, path))
        )

    def note(self, entry: Asked | Started | CancelAsked | Changed) -> None:
        match entry:
            case Asked():
                self._requests.append(entry)
            case Started():
                self._starts.append(entry)
            case CancelAsked():
                self._cancels.append(entry)
            case Changed():
                self._changes.append(entry)
