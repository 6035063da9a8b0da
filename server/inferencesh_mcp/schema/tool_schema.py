"""Compile an app's JSON Schema into a small one that every host takes. Pure.

The app's schema is untrusted (threat T-18): nothing is fetched, and the work is bounded. The result is one object schema
without references, choices at the top, regular expressions or unknown keywords. It is never stricter than the app's own.
What no real app uses is left open, because the input is validated against the app's own schema before a run.

The limits are those of the strictest hosts and of the model APIs behind them in November 2026: Claude, Codex, ChatGPT, VS
Code, Cursor, Gemini, google-genai, AutoGen and Semantic Kernel.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import as_object, is_array, is_object, items
from inferencesh_mcp.sanitize import clean, neutral
from inferencesh_mcp.schema.describe import beginning
from inferencesh_mcp.schema.file_fields import is_file_object
from inferencesh_mcp.schema.refs import document

if TYPE_CHECKING:
    from inferencesh_mcp.schema.refs import Schema

MAX_PARTS = 400  # parts of the app's schema that are read; hosts take 500 in a tool's schema
MAX_BRANCHES = 32  # ways in which one value can be right
MAX_LEVELS = 24
MAX_SCHEMA_BYTES = 128 * 1024  # bytes of the result; those of real apps have at most 12 kB
MAX_OUTPUT_FIELDS = 150
MAX_LISTED = 250  # values in one `enum`
MAX_LIST_BYTES = 8192  # bytes of one `enum`
MAX_DESCRIPTION_LENGTH = 120  # characters
MAX_DEFAULT_BYTES = 80  # bytes; a longer one is left to the app
SHORTEST_RANGE = 3  # consecutive integers that are written as a range, which more hosts take than a list
FILE = "File: path, URL or data URI"

_KINDS = ("string", "integer", "number", "boolean", "array", "object", "null")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_BOUNDS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "integer": _NUMBERS,
    "number": _NUMBERS,
}
_HUGE = 10**30  # some hosts read numbers as doubles
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)  # Claude
_RESERVED = frozenset({"__proto__", "constructor", "prototype"})  # JavaScript hosts lose or fail on these names
_ANY_OBJECT: Schema = {"type": "object", "properties": {}}


def compiled_input(schema: Schema) -> Schema:
    """Compile an app's input schema into an object schema, ready to be a tool's `inputSchema`."""
    compiled = _Compiler(schema).input()
    return compiled if len(_as_json(compiled).encode()) <= MAX_SCHEMA_BYTES else dict(_ANY_OBJECT)


def without_nulls(arguments: dict[str, Any], compiled: Schema) -> dict[str, Any]:
    """The arguments without nulls in optional fields that take none: hosts in strict mode send null for an absent field."""
    result: dict[str, Any] = _without_nulls(arguments, [compiled])
    return result


def compiled_output(schema: Schema) -> Schema:
    """Compile an app's output schema: the kinds of its fields. Nothing is required and all may be null: no real output fails."""
    return _Compiler(schema).output()


@dataclass(frozen=True)
class _Branch:
    """One way in which the value of a place can be right, without references and unions."""

    schema: Schema
    trail: tuple[str, ...]
    """The references and unions that led to it."""
    description: str = ""
    default: Any = None

    @property
    def kind(self) -> str:
        """The type of the value; empty if it may be any."""
        declared = self.schema.get("type")
        if declared is None and is_object(self.schema.get("properties")):
            return "object"
        return declared if declared in _KINDS else ""


_ANYTHING = _Branch({}, ())


class _Compiler:
    """Compiles one schema."""

    def __init__(self, schema: Schema) -> None:
        self._document = document(schema)
        self._parts_left = MAX_PARTS

    def input(self) -> Schema:
        return _ANY_OBJECT | self._object(self._top(), 0, with_texts=True)

    def output(self) -> Schema:
        fields = list(as_object(self._top().schema.get("properties")).items())[:MAX_OUTPUT_FIELDS]
        return {
            "type": "object",
            "properties": {name: self._output_field(part) for name, part in fields if _fits(name)},
        }

    def _top(self) -> _Branch:
        """The only object that the whole schema takes; any object if there are several."""
        branches = [branch for branch in self._branches(self._document.root, ()) if branch.kind in {"object", ""}]
        return branches[0] if len(branches) == 1 else _ANYTHING

    def _branches(self, part: Any, trail: tuple[str, ...]) -> list[_Branch]:
        """The branches of a part of the schema. References are followed and unions opened."""
        self._parts_left -= 1
        if self._parts_left < 0 or len(trail) > MAX_LEVELS or not is_object(part):
            return [_ANYTHING]
        description = part.get("description")
        return [
            replace(
                branch,
                description=(isinstance(description, str) and description) or branch.description,
                default=part.get("default", branch.default),
            )
            for branch in self._opened(part, trail)
        ]

    def _opened(self, part: Schema, trail: tuple[str, ...]) -> list[_Branch]:
        ref, declared = part.get("$ref"), part.get("type")
        if isinstance(ref, str):
            target = None if ref in trail else self._document.target(ref)
            return [_ANYTHING] if target is None else self._branches(target, (*trail, ref))
        union = part.get("anyOf", part.get("oneOf"))
        if is_array(union) and declared is None and "properties" not in part:
            if len(union) > MAX_BRANCHES:
                return [_ANYTHING]
            return [branch for way in union for branch in self._branches(way, (*trail, "anyOf"))]
        if is_array(declared):
            kinds = dict.fromkeys(map(str, declared[:MAX_BRANCHES]))
            return [_Branch({**part, "type": kind}, trail) for kind in kinds]
        return [_Branch(part, trail)]

    def _field(
        self, part: Any, depth: int, trail: tuple[str, ...], *, with_texts: bool, optional: bool = False
    ) -> Schema:
        """The schema of one field or item. `with_texts`: with descriptions and defaults. `optional`: it can be left out instead of null."""
        if depth >= MAX_LEVELS - 1:
            return {}
        branches = self._branches(part, trail)
        if optional:
            branches = [branch for branch in branches if branch.kind != "null"] or branches
        alternatives: list[Schema] = []
        for branch in sorted(branches, key=lambda branch: _KINDS.index(branch.kind) if branch.kind else -1):
            alternative = self._value(branch, depth, with_texts=with_texts)
            if alternative not in alternatives:
                alternatives.append(alternative)
        if not all(alternatives) or len(alternatives) > MAX_BRANCHES:
            alternatives = []  # one of them takes anything
        return _one_of(alternatives, _texts(branches) if with_texts else {})

    def _value(self, branch: _Branch, depth: int, *, with_texts: bool) -> Schema:
        """The schema of a value that follows this branch; empty if it may be any."""
        kind, schema = branch.kind, branch.schema
        if kind == "object":
            return self._object(branch, depth, with_texts=with_texts and not is_file_object(schema))
        written: Schema = {"type": kind} if kind else {}
        if "enum" in schema or "const" in schema:
            return written | _listed(kind, [schema["const"]] if "const" in schema else schema["enum"])
        written |= _bounds(kind, schema)
        if kind == "array":
            of_items: Any = {} if "prefixItems" in schema else schema.get("items")
            written["items"] = self._field(
                of_items, depth + 1, branch.trail, with_texts=with_texts
            )  # some hosts need `items`
        return written

    def _object(self, branch: _Branch, depth: int, *, with_texts: bool) -> Schema:
        required = {name for name in items(branch.schema.get("required")) if isinstance(name, str)}
        fields: Schema = {}
        for name, part in as_object(branch.schema.get("properties")).items():
            if self._parts_left <= 0:
                break
            if _fits(name):
                optional = name not in required
                fields[name] = self._field(part, depth + 1, branch.trail, with_texts=with_texts, optional=optional)
        written: Schema = {"type": "object"}  # no `additionalProperties`: google-genai up to 3.6.1 fails on a boolean
        if fields:
            written["properties"] = fields
        if named := [name for name in fields if name in required]:
            written["required"] = named
        return written

    def _output_field(self, part: Any) -> Schema:
        branches = self._branches(part, ())
        kinds = ["number" if branch.kind == "integer" else branch.kind for branch in branches]
        if not all(kinds) or any(map(_is_file, branches)):  # a file is returned as a URL or as a record
            return _description(branches)
        alternatives: list[Schema] = [
            {"type": kind, "items": {}} if kind == "array" else {"type": kind}
            for kind in _KINDS
            if kind in {*kinds, "null"}
        ]
        return _one_of(alternatives, _description(branches))


def _fits(name: str) -> bool:
    """Whether hosts take the name of a field."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def _is_file(branch: _Branch) -> bool:
    return branch.schema.get("format") == "file" or is_file_object(branch.schema)


def _listed(kind: str, values: Any) -> Schema:
    """The keywords for a list of values; none if hosts do not take it."""
    if not is_array(values) or not 0 < len(values) <= MAX_LISTED or not _is_showable(values, MAX_LIST_BYTES):
        return {}
    if kind == "integer" and all(type(value) is int for value in values):
        low, high = min(values), max(values)
        is_range = len(set(values)) == high - low + 1 >= SHORTEST_RANGE
        return {"minimum": low, "maximum": high} if is_range else {"enum": values}
    # Gemini takes no empty text.
    return {"enum": values} if kind == "string" and all(isinstance(value, str) and value for value in values) else {}


def _bounds(kind: str, schema: Schema) -> Schema:
    values: Schema = {name: schema.get(name) for name in _BOUNDS.get(kind, ())}
    if kind in {"integer", "number"}:
        return {name: value for name, value in values.items() if type(value) in {int, float} and -_HUGE < value < _HUGE}
    return {name: value for name, value in values.items() if type(value) is int and 0 <= value < _HUGE}


def _one_of(alternatives: list[Schema], texts: Schema) -> Schema:
    """The schema of a place; without alternatives it takes anything."""
    if not alternatives:
        return texts
    alternatives[0] |= texts  # Gemini takes nothing beside `anyOf`
    return {"anyOf": alternatives} if len(alternatives) > 1 else alternatives[0]


def _texts(branches: list[_Branch]) -> Schema:
    """The description and the default of a place in an input."""
    strings = [branch for branch in branches if branch.kind == "string"]
    is_file = any(is_file_object(branch.schema) for branch in branches) or (strings and all(map(_is_file, strings)))
    texts = _description(branches, FILE if is_file else "")
    default = branches[0].default if branches else None
    if default not in (None, "", [], {}) and _is_showable(default, MAX_DEFAULT_BYTES):
        texts["default"] = default
    return texts


def _description(branches: list[_Branch], hint: str = "") -> Schema:
    description = next((branch.description for branch in branches if branch.description), "")
    description = _cut(description, MAX_DESCRIPTION_LENGTH - len(hint)).removesuffix(".")
    text = ". ".join(filter(None, (description, hint)))
    return {"description": text} if text else {}


def _cut(text: str, most: int) -> str:
    """The text in one clean line; a long one is cut at the end of a sentence or a word."""
    line = clean(text[: most * 3], most * 3)
    if len(line) <= most:
        return line
    head = line[:most]
    end = head.rfind(". ")
    if end > most // 3:
        return head[:end]
    return f"{head[: most - 1].rpartition(' ')[0] or head[: most - 1]}…"


def _is_showable(value: Any, most: int) -> bool:
    """Whether a value is plain JSON of at most so many bytes, in which nothing is hidden."""
    try:
        if len(beginning(value, most, space="")) > most:
            return False
        text = _as_json(value)
    except (ValueError, RecursionError):
        return False
    return text.isprintable() and neutral(text) == text and len(text.encode()) <= most


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _without_nulls(value: Any, schemas: list[Schema]) -> Any:
    """A value without nulls in optional fields that take none; `schemas` are the compiled ones of its place."""
    branches = [branch for schema in schemas for branch in schema.get("anyOf", [schema])]
    if is_array(value):
        of_items = [branch["items"] for branch in branches if "items" in branch]
        return [_without_nulls(item, of_items) for item in value]
    if not is_object(value):
        return value
    result: dict[str, Any] = {}
    for name, field in value.items():
        parts = [branch["properties"][name] for branch in branches if name in branch.get("properties", {})]
        is_required = any(name in branch.get("required", []) for branch in branches)
        if field is not None or not parts or is_required or any(map(_takes_null, parts)):
            result[name] = _without_nulls(field, parts)
    return result


def _takes_null(schema: Schema) -> bool:
    return any(branch.get("type", "null") == "null" for branch in schema.get("anyOf", [schema]))
