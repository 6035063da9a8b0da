"""Describe in words what an app's schema takes. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.sanitize import neutral, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferencesh_mcp.schema.refs import Schema

_QUOTES = re.compile(r'(?<!\\)(?:\\\\)*"')
MOST_SHOWN = 120  # characters of a value or of a list of names in one message
# `difflib` takes the square of the length, so few and short names are compared: a search takes 40 ms at most.
MOST_NAMES = 200  # compared with one name; real apps have fewer fields
LONGEST_NAME = 48  # characters; longer names are rarely typed


def expected(schema: Any) -> str:
    """What a field takes, in a few words: `an integer from 1 to 8`, `one of ["png", "jpeg"]`, `a file`."""
    if not is_object(schema):
        return "any JSON"
    if "enum" in schema:
        return f"one of {short(schema['enum'])}"
    if "const" in schema:
        return short(schema["const"])
    for union in ("anyOf", "oneOf"):
        if is_array(schema.get(union)):
            return " or ".join(dict.fromkeys(expected(part) for part in schema[union]))
    kind = schema.get("type")
    if is_array(kind):
        return " or ".join(_noun(str(part), schema) for part in kind)
    return _noun(str(kind), schema) + _range(schema)


_NOUNS = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "None": "any JSON",
}
_RULES = {"$ref", "$dynamicRef", "allOf", "not", "if", "properties", "items", "patternProperties"}
"""Keywords that limit a value in a way that a few words cannot say."""


def _noun(kind: str, schema: Schema) -> str:
    if kind == "string" and schema.get("format") == "file":
        return "a file (path, URL or data URI)"
    if kind == "array" and is_object(schema.get("items")):
        return f"a list of {expected(schema['items']).removeprefix('a ').removeprefix('an ')}"
    return "as the app's schema says" if kind == "None" and _RULES & schema.keys() else _NOUNS.get(kind, _NOUNS["None"])


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


def nearest_name(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known name most similar to `name`; None if none is similar, or `name` is too long."""
    if len(name) > LONGEST_NAME:
        return None
    import difflib  # only needed for a misspelt name: the server starts without it

    candidates = [other for other in known if len(other) <= LONGEST_NAME][:MOST_NAMES]
    return next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=likeness)), None)
