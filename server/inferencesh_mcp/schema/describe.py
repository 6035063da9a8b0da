"""Describe in words what an app's schema takes. Pure."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import is_array, is_object, texts
from inferencesh_mcp.sanitize import neutral, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from inferencesh_mcp.schema.refs import Schema

_QUOTES = re.compile(r'(?<!\\)(?:\\\\)*"')
MAX_SHOWN = 120  # characters of a value or of a list of names in one message
# `difflib` takes the square of the length, so few and short names are compared: a search takes 40 ms at most.
MAX_NAMES = 200  # compared with one name; real apps have fewer fields
MAX_NAME_LENGTH = 48  # characters; longer names are rarely typed
MAX_KINDS = 32  # types of one place that are read; there are seven
DEEPEST_LIST = 8  # lists within lists that are put into words
MAX_BOUND = 10**30  # of an integer that is put into words


def expected(schema: Any, depth: int = 0) -> str:
    """What a field takes, in a few words: `an integer from 1 to 8`, `one of ["png", "jpeg"]`, `a file`."""
    if not is_object(schema):
        return "any JSON"
    if "enum" in schema:
        return f"one of {short(schema['enum'])}"
    if "const" in schema:
        return short(schema["const"])
    for union in ("anyOf", "oneOf"):
        if is_array(schema.get(union)):
            return " or ".join(dict.fromkeys(expected(part, depth) for part in schema[union]))
    kind = schema.get("type")
    if is_array(kind):
        kinds = dict.fromkeys(texts(kind[:MAX_KINDS]))
        return " or ".join(dict.fromkeys(_noun(part, schema, depth) for part in kinds)) or _NOUNS["None"]
    return _noun(kind if isinstance(kind, str) else "None", schema, depth) + _range(schema)


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
_RANGES = (
    *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
READ = frozenset({"enum", "const", "anyOf", "oneOf", "type", "format", *_RANGES, *_RULES})
"""Keywords that `expected` reads."""


def _noun(kind: str, schema: Schema, depth: int) -> str:
    if kind == "string" and schema.get("format") == "file":
        return "a file (path, URL or data URI)"
    if kind == "array" and is_object(schema.get("items")) and depth < DEEPEST_LIST:
        return f"a list of {expected(schema['items'], depth + 1).removeprefix('a ').removeprefix('an ')}"
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
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if type(value) is int and abs(value) < MAX_BOUND else None


def short(value: Any) -> str:
    """A value as JSON, cut if it is long. Only the part that is shown is encoded."""
    text = beginning(value, MAX_SHOWN)
    is_cut = len(text) > MAX_SHOWN
    text = neutral(visible(text, line_break=" "))
    if not is_cut and len(text) <= MAX_SHOWN:
        return text
    cut = text[: MAX_SHOWN - 1]
    return f'{cut}…"' if len(_QUOTES.findall(cut)) % 2 else f"{cut}…"  # a text that was cut still ends with a quote


def beginning(value: Any, most: int, space: str = " ") -> str:
    """A value as JSON; of one that takes more than `most` characters only its beginning, of more than so many."""
    text = ""
    for piece in _pieces(value, most, space):
        text += piece
        if len(text) > most:
            break
    return text


def _pieces(value: Any, most: int, space: str) -> Iterator[str]:
    """A value as JSON, piece by piece. Of a text, only `most` characters are encoded."""
    if is_object(value):
        for number, (name, item) in enumerate(value.items()):
            yield f"{f',{space}' if number else '{'}{_JSON.encode(str(name)[:most])}:{space}"
            yield from _pieces(item, most, space)
        yield "}" if value else "{}"
    elif is_array(value):
        for number, item in enumerate(value):
            yield f",{space}" if number else "["
            yield from _pieces(item, most, space)
        yield "]" if value else "[]"
    else:
        yield _JSON.encode(value[:most] if isinstance(value, str) else value)


_JSON = json.JSONEncoder(ensure_ascii=False, default=str)


def nearest_name(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known name most similar to `name`; None if none is similar, or `name` is too long."""
    if len(name) > MAX_NAME_LENGTH:
        return None
    import difflib  # only needed for a misspelt name: the server starts without it

    candidates = [other for other in known if len(other) <= MAX_NAME_LENGTH][:MAX_NAMES]
    return next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=likeness)), None)
