"""How often may be polled: the platform counts the reads of each key, and many runs polled at once share that number."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from inferencesh_mcp.api.keys import Key

POLLS_PER_MINUTE = 600
"""Of one key. The platform takes 1,000 reads a minute: the rest is for whatever else the key is used for."""


class Polling:
    """Who polls now, for each key; and how long each of them waits between two polls."""

    def __init__(self) -> None:
        self._pollers: Counter[str] = Counter()

    @contextmanager
    def by(self, key: Key | None) -> Generator[None]:
        """A block in which one more run, or chat, is polled with this key."""
        account = key.account if key else ""
        self._pollers[account] += 1
        try:
            yield
        finally:
            self._pollers[account] -= 1
            if not self._pollers[account]:
                del self._pollers[account]

    def interval(self, key: Key | None, wanted: float) -> float:
        """Seconds between two polls: what is wanted, or longer where many poll."""
        return max(wanted, self._pollers[key.account if key else ""] * 60 / POLLS_PER_MINUTE)
