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

from inferencesh_mcp.redaction import free_name
from inferencesh_mcp.sanitize import address, neutral, visible, without_markers

MOST_TOKENS = 16_000  # for an output; the rest of the answer around it is small
MOST_OF_AN_ANSWER = 20_000  # tokens of its text, and of its structured content
# Fields whose values are handed back to us as they are.
_KEPT_FIELDS = re.compile(r"(?:.*_)?(?:id|uri|url|cursor)")
_KEPT = re.compile(r"[!-;=?-~]{1,4000}")  # ASCII, no spaces, no angle brackets
_ADDRESS = re.compile(r"(?:https?|inf|file|inference)://[!-;=?-~]{1,4000}")
LONGEST_NAME = 200  # characters of a field's name where an answer has to be made smaller
_LIGHT = (string.ascii_letters + " ").encode()


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
    """Split a text into parts that each fit one answer, as they are and as JSON; together they are the whole text."""
    whole, found, start = text, list[str](), 0
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


def shown(value: Any) -> Any:
    """A JSON value as it may be shown, whole."""
    return _shorter(value, None, None)


def _shorter(value: Any, texts: int | None, items: int | None) -> Any:
    match value:
        case str():
            return _shown_text(value, texts)
        case list():
            found = cast("list[Any]", value)
            kept = [_shorter(item, texts, items) for item in found[:items]]
            return kept if len(kept) == len(found) else [*kept, f"… [cut: {len(found)} items in all]"]
        case dict():
            fields = cast("dict[str, Any]", value)
            kept_fields: dict[str, Any] = {}
            for name, item in islice(fields.items(), items):
                as_it_is = isinstance(item, str) and _KEPT_FIELDS.fullmatch(str(name)) and _is_kept(item)
                kept_fields[_name(name, texts, kept_fields)] = item if as_it_is else _shorter(item, texts, items)
            return (
                kept_fields
                if items is None or len(fields) <= items
                else {**kept_fields, "…": f"cut: {len(fields)} fields in all"}
            )
        case float() if not math.isfinite(value):
            return None  # strict JSON has no such numbers (I-12)
        case _:
            return value


def _shown_text(text: str, most: int | None) -> str:
    """A text that may be shown; of one that is cut, no more is looked at than what is shown."""
    if most is None or len(text) <= most:
        return address(text) if _ADDRESS.fullmatch(text) else _safe(text)
    return _shorter_text(_safe(text[: most + 1]), most, whole=len(text))


def _is_kept(text: str) -> bool:
    return _KEPT.fullmatch(text) is not None and neutral(text) == text


def _safe(text: str) -> str:
    return without_markers(neutral(visible(text)))


def _name(given: Any, texts: int | None, taken: dict[str, Any]) -> str:
    """A field's name, cut only where texts are, and never so that two fields become one."""
    name = _safe(str(given))
    if texts is not None and len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}…"
    return free_name(name, taken)


def _shorter_text(text: str, most: int | None, whole: int | None = None) -> str:
    if most is None or len(text) <= most:
        return visible(text)
    kept = visible(text[: 2 * most])[:most]  # not all of it, which may be millions, and is looked at several times
    end = max(kept.rfind(mark) for mark in (". ", ".\n", "\n", "! ", "? "))
    kept = kept[: end + 1] if end > most // 2 else kept  # at a sentence or a line, where one ends nearby
    return f"{kept.rstrip()} … [cut: {whole or len(text)} characters in all]"


def cut_text(text: str, most: int) -> str:
    """A text cut to so many tokens."""
    length = len(text)
    while tokens(cut := _shorter_text(text, length)) > most:
        length //= 2
    return cut
