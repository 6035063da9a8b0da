"""Text from elsewhere, made safe to show. Pure; imports nothing of ours."""

from __future__ import annotations

import re
import unicodedata

_SPACE = re.compile(r"\s+")


def clean(text: str, limit: int) -> str:
    """One line of at most `limit` characters, without control, bidirectional, zero-width or tag characters."""
    shown = "".join(char for char in text if char in "\n\t\r" or unicodedata.category(char)[0] != "C")
    line = _SPACE.sub(" ", shown).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"
