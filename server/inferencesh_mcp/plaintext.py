"""Text from elsewhere, made safe to show. Pure; imports nothing of ours."""

from __future__ import annotations

import re
import unicodedata

LOOKED_AT = 50  # times the characters that are shown: a text from elsewhere may have millions
_SPACE = re.compile(r"\s+")
# Keys of inference.sh, tokens of our gateway, signed tokens (JWT), and whatever stands behind the word that says so.
_KEY = re.compile(r"\b(?:inf|igw)_[\w-]+|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*|(?i:\bbearer\s+\S+)")
# What is behind `?` or `#` may be missing: a pattern that has to find it reads on from every address, to no avail.
_URL_TAIL = re.compile(r"(https?://[^\s?#\"'<>]+)(?:[?#][^\s\"'<>]*)?", re.IGNORECASE)


def clean(text: str, limit: int) -> str:
    """One line of at most `limit` characters, without control, bidirectional, zero-width or tag characters."""
    read = text[: LOOKED_AT * limit]
    shown = read if read.isprintable() else "".join(filter(_is_shown, read))
    line = _SPACE.sub(" ", shown).strip()
    return line if len(line) <= limit and len(read) == len(text) else line[: limit - 1] + "…"


def _is_shown(char: str) -> bool:
    return char in "\n\t\r" or unicodedata.category(char)[0] != "C"


def without_secrets(text: str) -> str:
    """The text without anything that looks like a key, or like the signature in an address."""
    return _KEY.sub("[key]", _URL_TAIL.sub(r"\1", text))
