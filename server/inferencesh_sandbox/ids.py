"""Ids and times in the platform's format."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 26
_SHORT_LENGTH = 8


def fresh_id(now: datetime) -> str:
    """Make an opaque id of 26 characters; ids made later sort later, to the millisecond."""
    return _spelled(int(now.timestamp() * 1000) << 80 | secrets.randbits(80), _ID_LENGTH)


@lru_cache(maxsize=4096)  # the same few names are in every answer
def lasting_id(name: str) -> str:
    """Return the id of a name. It is the same in every sandbox."""
    return _spelled(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16]), _ID_LENGTH)


def short(long_id: str) -> str:
    return long_id[-_SHORT_LENGTH:]


def fingerprint(key: str) -> str:
    """Identify a key without revealing it."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def stamp(moment: datetime) -> str:
    """Write a time as RFC 3339, to the microsecond, so that two events of one task differ."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _spelled(number: int, length: int) -> str:
    letters: list[str] = []
    for _ in range(length):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "".join(reversed(letters))
