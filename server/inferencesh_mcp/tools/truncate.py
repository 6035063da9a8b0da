"""Clean results and cut them to a size that every known host accepts. Pure.

Limits (promise 6): at most 20,000 tokens of text, and as many of structured content. Claude Code cuts at 25,000 tokens;
Claude Desktop refuses a result over 1 MB.
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

MAX_OUTPUT_TOKENS = 16_000  # of an output; the rest of the result is small
MAX_ANSWER_TOKENS = 20_000  # of the text, and of the structured content
# Fields whose values come back to us in a later call, so they are never changed.
_REFERENCE_FIELDS = re.compile(r"(?:.*_)?(?:id|uri|url|cursor)")
_PLAIN_ASCII = re.compile(r"[!-;=?-~]{1,4000}")  # ASCII, no spaces, no angle brackets
_ADDRESS = re.compile(r"(?:https?|inf|file|inference)://[!-;=?-~]{1,4000}")
MAX_NAME_LENGTH = 200  # characters of a field's name, if the value is cut
_LETTERS_AND_SPACE = (string.ascii_letters + " ").encode()


def tokens(text: str) -> int:
    """Estimate the number of tokens from above: no tokenizer of today makes more of a text.

    Two letters or spaces count as one token; every byte of any other character counts as one.
    """
    whole = text.encode(errors="replace")
    other_bytes = len(whole.translate(None, _LETTERS_AND_SPACE))
    return (len(whole) - other_bytes) // 2 + other_bytes


@dataclass(frozen=True)
class Truncated:
    value: Any
    original_length: int
    """Characters of the whole value as JSON if it was cut, else 0."""


def fit(value: Any, limit: int = MAX_OUTPUT_TOKENS) -> Truncated:
    """Clean a JSON value and cut it to so many tokens. The longest texts and lists are cut first, with a note of their length."""
    whole = as_json(value)
    if tokens(whole) <= limit:
        return Truncated(_shorten(value, None, None), 0)
    max_text, max_items = 16_000, 1_000
    while max_text > 40:
        # A value with more parts than tokens cannot fit: counting is cheaper than cutting and measuring it.
        if _count_values(value, max_items, limit) <= limit:
            smaller = _shorten(value, max_text, max_items)
            if tokens(as_json(smaller)) <= limit:
                return Truncated(smaller, len(whole))
        max_text, max_items = max_text // 2, max(3, max_items // 2)
    return Truncated({"cut": f"{len(whole)} characters of JSON"}, len(whole))


def as_json(value: Any, indent: int | None = None) -> str:
    """Write a JSON value as text for a model, without ASCII escapes."""
    return json.dumps(value, ensure_ascii=False, default=str, indent=indent)


def split_parts(text: str) -> list[str]:
    """Split a text into parts that each fit one result, as text and as JSON. Joined, they are the whole text."""
    whole, result, start = text, list[str](), 0
    while start < len(whole):
        length = min(
            len(whole) - start, 2 * MAX_OUTPUT_TOKENS
        )  # the estimate is never below a token for two characters
        while (count := tokens(as_json(whole[start : start + length]))) > MAX_OUTPUT_TOKENS:
            length = max(1, length * MAX_OUTPUT_TOKENS // count)
        result.append(whole[start : start + length])
        start += length
    return result


def _count_values(value: Any, max_items: int, limit: int) -> int:
    """Count the values if every list and object is cut to `max_items`. BatchProgress stops at `limit`."""
    count, pending = 1, [value]
    while pending and count <= limit:
        current = pending.pop()
        if isinstance(current, list):
            children = cast("list[Any]", current)[:max_items]
        elif isinstance(current, dict):
            children = list(islice(cast("dict[str, Any]", current).values(), max_items))
        else:
            continue
        count += len(children)
        pending += children
    return count


def cleaned_value(value: Any) -> Any:
    """Clean a JSON value without cutting it."""
    return _shorten(value, None, None)


def _shorten(value: Any, max_text: int | None, max_items: int | None) -> Any:
    match value:
        case str():
            return _shorten_text(value, max_text)
        case list():
            elements = cast("list[Any]", value)
            shortened = [_shorten(item, max_text, max_items) for item in elements[:max_items]]
            return (
                shortened if len(shortened) == len(elements) else [*shortened, f"… [cut: {len(elements)} items in all]"]
            )
        case dict():
            fields = cast("dict[str, Any]", value)
            shortened_fields: dict[str, Any] = {}
            for name, item in islice(fields.items(), max_items):
                unchanged = isinstance(item, str) and _REFERENCE_FIELDS.fullmatch(str(name)) and _is_kept_as_is(item)
                shortened_fields[_name(name, max_text, shortened_fields)] = (
                    item if unchanged else _shorten(item, max_text, max_items)
                )
            return (
                shortened_fields
                if max_items is None or len(fields) <= max_items
                else {**shortened_fields, "…": f"cut: {len(fields)} fields in all"}
            )
        case float() if not math.isfinite(value):
            return None  # strict JSON has no such numbers (I-12)
        case _:
            return value


def _shorten_text(text: str, limit: int | None) -> str:
    """Clean a text and cut it. Of a long text only the part that is shown is looked at."""
    if limit is None or len(text) <= limit:
        return address(text) if _ADDRESS.fullmatch(text) else _safe(text)
    return _shorten_clean_text(_safe(text[: limit + 1]), limit, whole=len(text))


def _is_kept_as_is(text: str) -> bool:
    return _PLAIN_ASCII.fullmatch(text) is not None and neutral(text) == text


def _safe(text: str) -> str:
    return without_markers(neutral(visible(text)))


def _name(raw_name: Any, max_text: int | None, existing: dict[str, Any]) -> str:
    """A cleaned name of a field, unique in its object. It is cut only if texts are cut."""
    name = _safe(str(raw_name))
    if max_text is not None and len(name) > MAX_NAME_LENGTH:
        name = f"{name[:MAX_NAME_LENGTH]}…"
    return free_name(name, existing)


def _shorten_clean_text(text: str, limit: int | None, whole: int | None = None) -> str:
    if limit is None or len(text) <= limit:
        return visible(text)
    beginning = visible(text[: 2 * limit])[:limit]  # the whole text may have millions of characters
    end = max(beginning.rfind(mark) for mark in (". ", ".\n", "\n", "! ", "? "))
    beginning = (
        beginning[: end + 1] if end > limit // 2 else beginning
    )  # at the end of a sentence or a line, if one is near
    return f"{beginning.rstrip()} … [cut: {whole or len(text)} characters in all]"


def cut_text(text: str, limit: int) -> str:
    """Cut a text to so many tokens."""
    length = len(text)
    while tokens(cut := _shorten_clean_text(text, length)) > limit:
        length //= 2
    return cut
