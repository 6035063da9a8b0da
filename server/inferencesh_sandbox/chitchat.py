"""Fixed rules that answer where a real agent would ask a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MAX_COUNTED = 10_000
_MAX_WORDS = 50_000
_SLOWLY = 0.4
_LINE = (
    "the sandbox writes words that mean nothing in particular so that a long answer can be seen to grow while it "
    "comes and can be cut where a host takes no more of it"
)
_WORDS = tuple(_LINE.split())


@dataclass(frozen=True)
class Reply:
    """A text, and the seconds between two of its words. None means the usual pace."""

    text: str
    pace: float | None = None


def reply(text: str, earlier: Sequence[str] = (), context: Mapping[str, str] | None = None) -> Reply:
    """Answer a message by the first rule that matches. `earlier` holds the chat's earlier messages."""
    lowered = text.lower()
    if match := re.search(r"\bcount to (\d{1,6})", lowered):
        numbers = " ".join(str(number) for number in range(1, min(int(match[1]), _MAX_COUNTED) + 1))
        return Reply(numbers, _SLOWLY if "slow" in lowered else None)
    if match := re.search(r"\bwrite (\d{1,6}) words", lowered):
        count = min(int(match[1]), _MAX_WORDS)
        return Reply(" ".join(_WORDS[number % len(_WORDS)] for number in range(count)))
    if "what is my name" in lowered or "who am i" in lowered:
        name = next((name for earlier_text in reversed(earlier) if (name := _name_in(earlier_text))), "")
        return Reply(f"Your name is {name}." if name else "You have not told me your name in this chat.")
    if name := _name_in(text):
        return Reply(f"Hello {name}. I remember your name for as long as this chat lasts.")
    if "context" in lowered:
        pairs = ", ".join(f"{name} = {value}" for name, value in (context or {}).items())
        return Reply(f"The context of this chat: {pairs}." if pairs else "This chat has no context.")
    return Reply(f"You said: {text[:500]!r}. I am a script of the sandbox, and no model has read it.")


def _name_in(text: str) -> str:
    match = re.search(r"\bmy name is\s+([\w'-]+)", text, re.IGNORECASE)
    return match[1] if match else ""
