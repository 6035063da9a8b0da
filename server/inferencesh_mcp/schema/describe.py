"""Describe in words what an app's schema takes. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from inferencesh_mcp.sanitize import neutral, visible

Schema = dict[str, Any]
_QUOTES = re.compile(r'(?<!\\)(?:\\\\)*"')
MOST_SHOWN = 120  # characters of a value or of a list of names in one message


def expected(schema: Any) -> str:
    """What a field takes, in a few words: `an integer from 1 to 8`, `one of ["png", "jpeg"]`, `a file`."""
    if not isinstance(schema, dict):
        return "anything"
    schema = cast("Schema", schema)
    if "enum" in schema:
        return f"one of {short(schema['enum'])}"
    if "const" in schema:
        return short(schema["const"])
    for union in ("anyOf", "oneOf"):
        if isinstance(schema.get(union), list):
            return " or ".join(dict.fromkeys(expected(part) for part in schema[union]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(_noun(str(part), schema) for part in cast("list[Any]", kind))
    return _noun(str(kind), schema) + _range(schema)


_NOUNS = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "None": "as the app's schema says",
}


def _noun(kind: str, schema: Schema) -> str:
    if kind == "string" and schema.get("format") == "file":
        return "a file (path, URL or data URI)"
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"a list of {expected(schema['items']).removeprefix('a ').removeprefix('an ')}"
    return _NOUNS.get(kind, _NOUNS["None"])


def _range(schema: Schema) -> str:
    low = _number(schema, "minimum", "exclusiveMinimum")
    high = _number(schema, "maximum", "exclusiveMaximum")
    below, above = "exclusiveMaximum" in schema, "exclusiveMinimum" in schema
    if low is not None and high is not None:
        return f" {'above' if above else 'from'} {low} {'and below' if below else 'to'} {high}"
    if low is not None:
        return f" {'above' if above else 'of at least'} {low}"
    if high is not None:
        return f" {'below' if below else 'of at most'} {high}"
    for least, most, of in (("minLength", "maxLength", "characters"), ("minItems", "maxItems", "items")):
        low, high = _number(schema, least), _number(schema, most)
        if low is not None or high is not None:
            return f" of {low or 0} to {'any number of' if high is None else high} {of}"
    return ""


def _number(schema: Schema, *names: str) -> float | None:
    """The first of these keywords that is there, if it is a number: a schema may have anything in it."""
    value = next((schema[name] for name in names if name in schema), None)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def short(value: Any) -> str:
    """A value as JSON, cut if it is long. Only the part that is shown is encoded."""
    if isinstance(value, str):
        value = value[: MOST_SHOWN + 1]
    text = ""
    for piece in _JSON.iterencode(value):
        text += piece[: MOST_SHOWN + 1]
        if len(text) > MOST_SHOWN:
            break
    is_cut = len(text) > MOST_SHOWN
    text = neutral(visible(text, line_break=" "))
    if not is_cut and len(text) <= MOST_SHOWN:
        return text
    cut = text[: MOST_SHOWN - 1]
    return f'{cut}…"' if len(_QUOTES.findall(cut)) % 2 else f"{cut}…"  # a text that was cut still ends with a quote


_JSON = json.JSONEncoder(ensure_ascii=False, default=str)
