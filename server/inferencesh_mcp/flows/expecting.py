"""What an app's schema takes, in words. Pure."""

from __future__ import annotations

import json
from typing import Any, cast

Schema = dict[str, Any]
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
    return _NOUNS.get(kind, kind)


def _range(schema: Schema) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    below, above = "exclusiveMaximum" in schema, "exclusiveMinimum" in schema
    if low is not None and high is not None:
        return f" {'above' if above else 'from'} {low} {'and below' if below else 'to'} {high}"
    if low is not None:
        return f" {'above' if above else 'of at least'} {low}"
    if high is not None:
        return f" {'below' if below else 'of at most'} {high}"
    if "minLength" in schema or "maxLength" in schema:
        return f" of {schema.get('minLength', 0)} to {schema.get('maxLength', 'any number of')} characters"
    if "minItems" in schema or "maxItems" in schema:
        return f" of {schema.get('minItems', 0)} to {schema.get('maxItems', 'any number of')} items"
    return ""


def short(value: Any) -> str:
    """A value as JSON, cut where it is long; what is cut off is not written first."""
    if isinstance(value, str):
        value = value[: MOST_SHOWN + 1]
    text = ""
    for piece in _JSON.iterencode(value):
        text += piece[: MOST_SHOWN + 1]
        if len(text) > MOST_SHOWN:
            return text[: MOST_SHOWN - 1] + "…"
    return text


_JSON = json.JSONEncoder(ensure_ascii=False, default=str)
