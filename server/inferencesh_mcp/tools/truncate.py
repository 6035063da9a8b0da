"""Clean what others made, and cut it to size. Pure.

An output is shown whole if it is small, else by its beginning and end; the rest is read in parts. Claude Code
cuts an answer at 25,000 tokens, and Claude Desktop refuses one over 1 MB.
"""

from __future__ import annotations

import json
import math
import re
import string
from dataclasses import dataclass
from itertools import islice
from typing import Any

from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.redaction import free_name
from inferencesh_mcp.sanitize import address, neutral, visible, without_markers

SHOWN_TOKENS = 4_000  # of an output unless a part is asked for; by the estimate below, some 2,000 tokens of English
PART_TOKENS = 16_000  # of one part of an output
MAX_ANSWER_TOKENS = 20_000  # of the text, and of the structured content
CUT = "[… cut …]"
MAX_LINES = 200  # fields of an output that are written a line each; more are written as JSON, in one go
MAX_NAME_LENGTH = 200  # characters of a field's name, if the value is cut
# Fields whose values come back to us in a later call, so they are never changed.
_REFERENCE_FIELDS = re.compile(r"(?:.*_)?(?:id|uri|url|cursor)")
_PLAIN_ASCII = re.compile(r"[!-;=?-~]{1,4000}")  # ASCII, no spaces, no angle brackets
_ADDRESS = re.compile(r"(?:https?|inf|file|inference)://[!-;=?-~]{1,4000}")
_LETTERS_AND_SPACE = (string.ascii_letters + " ").encode()


def tokens(text: str) -> int:
    """Estimate the number of tokens from above: no tokenizer of today makes more of a text.

    Two letters or spaces count as one token; every byte of any other character counts as one.
    """
    whole = text.encode(errors="replace")
    other_bytes = len(whole.translate(None, _LETTERS_AND_SPACE))
    return (len(whole) - other_bytes) // 2 + other_bytes


@dataclass(frozen=True)
class Shown:
    """An output as an answer shows it."""

    value: Any
    """As JSON, for the structured content."""
    text: str
    """The same to read."""
    field: str
    """The name of the field if `text` is the value of the only one; else empty."""
    characters: int
    """Characters of the whole text."""
    parts: int
    """How many parts the whole text has; 0 if all of it is shown."""


def show(output: Any, limit: int = SHOWN_TOKENS) -> Shown:
    """Clean an output; if it is large, keep its beginning and end."""
    field, whole = _as_text(output)
    parts = 0 if tokens(whole) + tokens(field) <= limit else len(split_parts(whole))
    value = _shorten(output, None, None) if not parts else _cut(output, whole, limit)
    return Shown(value, _as_text(value)[1], _safe(field[:MAX_NAME_LENGTH]), len(whole), parts)


def show_part(output: Any, number: int) -> Shown | None:
    """The part of an output with this number, from 1; None if there is no such part."""
    field, whole = _as_text(output)
    parts = split_parts(whole)
    if not 1 <= number <= len(parts):
        return None
    text = _safe(parts[number - 1])
    return Shown(text, text, _safe(field[:MAX_NAME_LENGTH]), len(whole), len(parts))


def fit(value: Any, limit: int = MAX_ANSWER_TOKENS) -> Any:
    """Clean a JSON value and cut it to so many tokens of JSON: the longest texts and lists first."""
    whole = as_json(value)
    return _shorten(value, None, None) if tokens(whole) <= limit else _cut(value, whole, limit)


def split_parts(text: str) -> list[str]:
    """Split a text into parts that each fit one answer, as text and as JSON. Joined, they are the whole text."""
    parts: list[str] = []
    start = 0
    while start < len(text):
        length = min(len(text) - start, 2 * PART_TOKENS)  # the estimate is never below a token for two characters
        while (count := tokens(as_json(text[start : start + length]))) > PART_TOKENS:
            length = max(1, length * PART_TOKENS // count)
        parts.append(text[start : start + length])
        start += length
    return parts or [""]


def as_json(value: Any) -> str:
    """Write a JSON value as text for a model, without ASCII escapes."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _as_text(value: Any) -> tuple[str, str]:
    """An output to read: an only text as it is, with its field's name; fields as `name: value` lines; anything else as JSON."""
    if isinstance(value, str):
        return "", value
    if not is_object(value) or not 0 < len(value) <= MAX_LINES:
        return "", as_json(value)
    match list(value.items()):
        case [(name, str() as text)]:
            return str(name), text
        case fields:
            return "", "\n".join(f"{name}: {item if isinstance(item, str) else as_json(item)}" for name, item in fields)


def _cut(value: Any, whole: str, limit: int) -> Any:
    """A value that is too large, cleaned and cut. `whole` is its text."""
    max_text, max_items = 2 * limit, 1_000  # a token is two letters or less
    while max_text > 40:
        # Counting is cheaper than cleaning and measuring what is too large anyway.
        if _least_tokens(value, max_text, max_items, limit) <= limit:
            smaller = _shorten(value, max_text, max_items)
            if max(tokens(as_json(smaller)), tokens(_as_text(smaller)[1])) <= limit:
                return smaller
        max_text, max_items = max_text * 3 // 4, max(3, max_items // 2)
    return _beginning_and_end(whole, limit // 8)  # characters: none has more than eight tokens here


def _least_tokens(value: Any, max_text: int, max_items: int, limit: int) -> int:
    """Fewer tokens than a value takes when it is cut: one for each value, and one for four characters. Stops at `limit`."""
    count, pending = 1, [value]
    while pending and count <= limit:
        current = pending.pop()
        if isinstance(current, str):
            count += min(len(current), max_text) // 4
        elif is_array(current):
            pending += current[:max_items]
            count += min(len(current), max_items)
        elif is_object(current):
            pending += islice(current.values(), max_items)
            count += min(len(current), max_items)
            count += sum(min(len(str(name)), MAX_NAME_LENGTH) // 4 for name in islice(current, max_items))
    return count


def _shorten(value: Any, max_text: int | None, max_items: int | None) -> Any:
    """Clean a JSON value, and cut its texts, lists and objects unless the limits are None."""
    if isinstance(value, str):
        if max_text is None or len(value) <= max_text:
            return address(value) if _ADDRESS.fullmatch(value) else _safe(value)
        return _beginning_and_end(value, max_text)
    if is_array(value):
        if max_items is None or len(value) <= max_items:
            return [_shorten(item, max_text, max_items) for item in value]
        first, last = max_items - max_items // 3, max_items // 3
        left_out = f"[… {len(value) - first - last} more items …]"
        beginning, end = (
            [_shorten(item, max_text, max_items) for item in part] for part in (value[:first], value[-last:])
        )
        return [*beginning, left_out, *end]
    if is_object(value):
        shortened: dict[str, Any] = {}
        numbers: dict[str, int] = {}
        for name, item in islice(value.items(), max_items):
            unchanged = isinstance(item, str) and _REFERENCE_FIELDS.fullmatch(str(name)) and _is_kept_as_is(item)
            shown_name = free_name(_name(str(name), max_text), shortened, numbers)
            shortened[shown_name] = item if unchanged else _shorten(item, max_text, max_items)
        if max_items is not None and len(value) > max_items:
            shortened["…"] = f"[… {len(value) - max_items} more fields …]"
        return shortened
    if isinstance(value, float) and not math.isfinite(value):
        return None  # strict JSON has no such numbers (I-12)
    return value


def _is_kept_as_is(text: str) -> bool:
    return _PLAIN_ASCII.fullmatch(text) is not None and neutral(text) == text


def _safe(text: str) -> str:
    return without_markers(neutral(visible(text)))


def _name(name: str, max_text: int | None) -> str:
    """A cleaned name of a field. It is cut only if texts are cut."""
    is_cut = max_text is not None and len(name) > MAX_NAME_LENGTH
    return _safe(f"{name[:MAX_NAME_LENGTH]}…" if is_cut else name)


def _beginning_and_end(text: str, limit: int) -> str:
    """Two thirds of `limit` characters from the beginning and the rest from the end, cut at a line, sentence or word if one
    is near. Only what is shown is looked at: the whole may have millions of characters."""
    first, last = limit - limit // 3, limit // 3
    beginning, end = _safe(text[:first])[:first], _safe(text[-last:])[-last:]
    for mark in ("\n", ". ", " "):
        if (at := beginning.rfind(mark)) > first * 3 // 4:
            beginning = beginning[: at + 1]
            break
    for mark in ("\n", ". ", " "):
        if 0 <= (at := end.find(mark)) < last // 4:
            end = end[at + len(mark) :]
            break
    return f"{beginning.rstrip()} {CUT} {end.lstrip()}"


def cut_text(text: str, limit: int) -> str:
    """Cut a cleaned text to so many tokens."""
    length = len(text)
    while tokens(cut := f"{text[:length].rstrip()} {CUT}") > limit:
        length = length * 3 // 4
    return cut
