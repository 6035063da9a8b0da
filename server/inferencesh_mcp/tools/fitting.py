"""Answers cut to what every known host can take, and cleaned of what no host should show. Pure.

Limits (promise 6): a text of at most 20,000 tokens, and as much again of structured content; Claude Code cuts at
25,000 tokens, Claude Desktop refuses a result over 1 MB.
"""

from __future__ import annotations

import json
import math
import re
import string
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

MOST_TOKENS = 16_000  # for an output; the rest of the answer around it is small
MOST_OF_AN_ANSWER = 20_000  # tokens of its text, and of its structured content
# Control characters, lone surrogates, and what hides or reorders text: bidi controls, zero-width, tags (threat T-17).
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_LIGHT = (string.ascii_letters + " ").encode()


def visible(text: str) -> str:
    """Return the text without characters that hide, reorder or break; its lines stay."""
    return _UNSEEN.sub("", text)


def tokens(text: str) -> int:
    """Estimate from above: no tokenizer of today makes more of a text than this.

    Letters and spaces seldom stand alone; every other character may be a token of its own, or one for each byte.
    """
    whole = text.encode(errors="replace")
    heavy = len(whole.translate(None, _LIGHT))
    return (len(whole) - heavy) // 2 + heavy


@dataclass(frozen=True)
class Fitted:
    value: Any
    cut: int
    """Characters that the whole has as JSON, where it was cut; else 0."""


def fitted(value: Any, most: int = MOST_TOKENS) -> Fitted:
    """Return a JSON value small enough, cleaned; the longest texts and lists give way first, and say how long they were."""
    whole = as_json(value)
    if tokens(whole) <= most:
        return Fitted(_shorter(value, None, None), 0)
    texts, items = 16_000, 1_000
    while texts > 40:
        # One with more values than this does not fit anyway: to look through it each time would take others' time.
        if _values(value, items, most) <= most:
            smaller = _shorter(value, texts, items)
            if tokens(as_json(smaller)) <= most:
                return Fitted(smaller, len(whole))
        texts, items = texts // 2, max(3, items // 2)
    return Fitted({"cut": f"{len(whole)} characters of JSON"}, len(whole))


def as_json(value: Any, indent: int | None = None) -> str:
    """Write a JSON value as text for a model: every script as it is."""
    return json.dumps(value, ensure_ascii=False, default=str, indent=indent)


def parts(text: str) -> list[str]:
    """Split a text into parts that each fit one answer, as they are and as JSON."""
    whole, found, start = visible(text), list[str](), 0
    while start < len(whole):
        length = min(len(whole) - start, 2 * MOST_TOKENS)  # two letters a token is the best there is
        while (much := tokens(as_json(whole[start : start + length]))) > MOST_TOKENS:
            length = max(1, length * MOST_TOKENS // much)
        found.append(whole[start : start + length])
        start += length
    return found


def _values(value: Any, items: int, most: int) -> int:
    """How many values there are where no list or object has more than `items`; counted no further than to `most`."""
    count, inside = 1, [value]
    while inside and count <= most:
        one = inside.pop()
        if isinstance(one, list):
            parts = cast("list[Any]", one)[:items]
        elif isinstance(one, dict):
            parts = list(islice(cast("dict[str, Any]", one).values(), items))
        else:
            continue
        count += len(parts)
        inside += parts
    return count


def _shorter(value: Any, texts: int | None, items: int | None) -> Any:
    match value:
        case str():
            return _shorter_text(value, texts)
        case list():
            found = cast("list[Any]", value)
            kept = [_shorter(item, texts, items) for item in found[:items]]
            return kept if len(kept) == len(found) else [*kept, f"… [cut: {len(found)} items in all]"]
        case dict():
            fields = cast("dict[str, Any]", value)
            told = islice(fields.items(), items)
            kept_fields = {visible(str(key))[:200]: _shorter(item, texts, items) for key, item in told}
            return (
                kept_fields
                if items is None or len(fields) <= items
                else {**kept_fields, "…": f"cut: {len(fields)} fields in all"}
            )
        case float() if not math.isfinite(value):
            return None  # strict JSON has no such numbers (I-12)
        case _:
            return value


def _shorter_text(text: str, most: int | None) -> str:
    if most is None or len(text) <= most:
        return visible(text)
    kept = visible(text[: 2 * most])[:most]  # not all of it, which may be millions, and is looked at several times
    end = max(kept.rfind(mark) for mark in (". ", ".\n", "\n", "! ", "? "))
    kept = kept[: end + 1] if end > most // 2 else kept  # at a sentence or a line, where one ends nearby
    return f"{kept.rstrip()} … [cut: {len(text)} characters in all]"
