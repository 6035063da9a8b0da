"""The API's numbers as words. Pure: no I/O."""

from __future__ import annotations

import re
from typing import Any

from inferencesh_mcp.sanitize import clean

STATUSES = (
    "unknown",
    "received",
    "queued",
    "dispatched",
    "preparing",
    "serving",
    "setting_up",
    "running",
    "cancelling",
    "uploading",
    "completed",
    "failed",
    "cancelled",
    "rejected",
)
"""A task's statuses; the position is the number on the wire. Only the newest Python SDK knows 13."""

ENDED = frozenset({"completed", "failed", "cancelled", "rejected"})
"""The statuses after which a task never changes."""

LOG_TYPES = ("build", "run", "serve", "setup", "task")
"""The kinds of log; the position is the number on the wire."""

_NO_WORD = re.compile(r"[^a-z0-9_-]")
# RFC 9110 8.3.1, without quoted values: it becomes a header, and part of a command line.
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:; ?[\w.+-]{1,80}=[\w.+-]{1,80}){0,8}", re.ASCII)


def status_word(value: Any) -> str:
    """A status as one lower-case word: 10 and "Completed" are "completed", 42 is "status 42"; unknown words are kept."""
    return _word(value, STATUSES, "status")


def log_type_word(value: Any) -> str:
    """A log's kind as one lower-case word."""
    return _word(value, LOG_TYPES, "log type")


def is_media_type(text: str) -> bool:
    """Whether a text is a content type such as `image/png` or `text/plain; charset=utf-8`."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def plain_word(value: Any) -> str:
    """A word of the API's in lower case, with letters, digits, `_` and `-` only, so that it is no sentence; empty if it is no text."""
    return _NO_WORD.sub("_", clean(value, 64).lower()) if isinstance(value, str) else ""


def _word(value: Any, words: tuple[str, ...], name: str) -> str:
    number = _number(value)
    if number is None:
        return plain_word(value) or "unknown"
    return words[number] if 0 <= number < len(words) else f"{name} {number}"


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
