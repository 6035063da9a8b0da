"""A caller's key, which no repr, log line or error shows, and how often it may poll. Pure: no I/O."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import KeyRefused

if TYPE_CHECKING:
    from collections.abc import Generator

POLLS_PER_MINUTE = 600
"""Polls of one key. The platform allows 1,000 reads a minute; the rest is left for the key's other uses."""

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_PEPPER = secrets.token_bytes(32)


class Key:
    """A key of inference.sh. Only `authorization` reveals it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """KeyRefused for text with spaces, line ends or characters outside ASCII."""
        if not _TOKEN.fullmatch(value):
            raise KeyRefused(
                message="the key has characters that are not allowed, such as a space or a line end",
                next_step="Copy the key again and set it as INFERENCE_API_KEY.",
            )
        self._value = value

    @property
    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._value}"

    @property
    def account(self) -> str:
        """A stable name for the key within this process: a hash with a secret of the process, so it reveals nothing (I-9)."""
        return hashlib.blake2b(self._value.encode(), key=_PEPPER, digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return "Key(***)"


class Polling:
    """How many followers poll with each key, and so how long each waits between two polls.

    The platform counts the reads of each key, so all runs and chats that are polled share one number.
    """

    def __init__(self) -> None:
        self._pollers: Counter[str] = Counter()

    @contextmanager
    def by(self, key: Key | None) -> Generator[None]:
        """A block in which one more follower polls with this key."""
        account = key.account if key else ""
        self._pollers[account] += 1
        try:
            yield
        finally:
            self._pollers[account] -= 1
            if not self._pollers[account]:
                del self._pollers[account]

    def interval(self, key: Key | None, shortest: float) -> float:
        """Seconds between two polls: `shortest`, or longer if many followers poll."""
        return max(shortest, self._pollers[key.account if key else ""] * 60 / POLLS_PER_MINUTE)
