"""Read an app's JSON Schema into shapes: follow references and combine conditions, with bounded work.

A reference that leads out of the schema is never fetched (threat T-18): anything fits it.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.sanitize import neutral
from inferencesh_mcp.schema.ir import (
    ANYTHING,
    KINDS,
    NOTHING,
    CompileBudget,
    Rule,
    Shape,
    intersection,
    simplified,
    union,
)
from inferencesh_mcp.schema.refs import References

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.schema.limits import HostLimits

Schema = dict[str, Any]

_BOUNDS = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("minItems", "maxItems", "uniqueItems"),
    "object": ("minProperties", "maxProperties"),
}
_NOT_COMPILED = (
    *("pattern", "patternProperties", "propertyNames", "contains", "minContains", "maxContains", "not"),
    *(
        "$dynamicRef",
        "if",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedItems",
        "unevaluatedProperties",
    ),
)
"""Keywords that no host gets: regular expressions, and conditions over several fields."""
_HUGE = 10**30
_MOST_VALUES = 1000


class Reader:
    """Reads one schema, as `refs.modern` returns it. `budget.notes` say what was left out."""

    def __init__(self, root: Schema, limits: HostLimits, budget: CompileBudget) -> None:
        self._references, self._budget = References(root), budget
        self._depth, self._left = limits.depth, limits.subschemas

    def shape(self, node: Any, depth: int = 0, trail: tuple[str, ...] = ()) -> Shape:
        """The shape of a schema; `trail` are the references that led to it."""
        if node is False:
            return NOTHING
        if not isinstance(node, dict):
            return ANYTHING
        self._left -= 1
        if self._left < 0 or depth >= self._depth - 1 or not self._budget.spend():
            self._budget.note("The schema is too large or too deep: parts of it are left open.")
            return ANYTHING
        schema = cast("Schema", node)
        shape = Shape(
            rules=tuple(self._rules(schema, depth, trail)),
            about=_text(schema.get("description")),
            default=schema.get("default"),
        )
        for part in self._conditions(schema, depth + 1, trail):
            shape = intersection(shape, part, self._budget)
        return shape

    def _conditions(self, schema: Schema, depth: int, trail: tuple[str, ...]) -> Iterator[Shape]:
        """The shapes that must fit too: from references, `allOf`, `anyOf` and `oneOf`."""
        for name in _NOT_COMPILED:
            if name in schema:
                self._budget.note(f"`{name}` is left out of the schema, and checked when the tool is called.")
        if isinstance(ref := schema.get("$ref"), str):
            yield self._referred(ref, depth, trail)
        parts: Any = schema.get("allOf")
        for part in self._some(parts):
            yield self.shape(part, depth, trail)
        for name in ("anyOf", "oneOf"):
            parts = schema.get(name)
            if not isinstance(parts, list) or not parts:
                continue
            branches = cast("list[Any]", parts)
            if len(branches) > self._most_read:
                self._budget.note("A choice of too many branches is open.")
                continue
            read = [self.shape(part, depth, trail) for part in branches]
            if name == "oneOf" and not _disjoint(read):
                self._budget.note("A choice of exactly one (`oneOf`) is one of at least one.")
            yield union(read, self._budget)

    @property
    def _most_read(self) -> int:
        return self._budget.most_branches * 8  # values of one type are merged into one branch

    def _some(self, parts: Any) -> list[Any]:
        several = cast("list[Any]", parts) if isinstance(parts, list) else []
        if len(several) > self._most_read:
            self._budget.note("Conditions of too many branches are left out.")
        return several[: self._most_read]

    def _rules(self, schema: Schema, depth: int, trail: tuple[str, ...]) -> Iterator[Rule]:
        values = self._values(schema)
        by_kind: dict[str, list[Any]] = {}
        for value in values or ():
            by_kind.setdefault(_kind_of(value), []).append(value)
        kinds = _kinds(schema)
        for kind in KINDS:
            if kind not in kinds:
                continue
            own = None
            if values is not None:
                own = tuple(by_kind.get(kind, ()))
                if not own:
                    continue
                if kind == "null" or (kind == "boolean" and len({*own}) > 1):
                    own = None  # all values of the type
            rule = Rule(
                kind=kind,
                whole=kind == "number" and "number" not in kinds[kind],
                format=_format(schema) if kind == "string" else "",
                values=own,
                bounds=self._bounds(schema, kind),
            )
            if kind == "array":
                rule = self._list(rule, schema, depth, trail)
            elif kind == "object":
                rule = self._object(rule, schema, depth, trail)
            if (possible := simplified(rule)) is not None:
                yield possible

    def _bounds(self, schema: Schema, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in _BOUNDS.get(kind, ()):
            value = schema.get(name)
            if name == "uniqueItems":
                if value is True:
                    found[name] = True
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                if not -_HUGE < value < _HUGE or (name == "multipleOf" and value <= 0):
                    self._budget.note(f"A `{name}` is left out: the number is out of range.")
                elif kind == "number":
                    found[name] = value
                elif value > 0 or name.startswith("max"):  # a minimum of 0 says nothing
                    found[name] = math.floor(value) if name.startswith("max") else math.ceil(value)
        return found

    def _values(self, schema: Schema) -> list[Any] | None:
        if "const" in schema:
            values: list[Any] = [schema["const"]]
        elif isinstance(schema.get("enum"), list):
            values = cast("list[Any]", schema["enum"])
        else:
            return None
        if len(values) > _MOST_VALUES or not self._budget.spend(len(values) // 10) or not all(map(is_plain, values)):
            self._budget.note("A list of values is left out of the schema: it is too long, or not plain.")
            return None
        return values

    def _list(self, rule: Rule, schema: Schema, depth: int, trail: tuple[str, ...]) -> Rule:
        items: Any = schema.get("items")
        first: Any = schema.get("prefixItems")
        read = tuple(self.shape(part, depth + 1, trail) for part in self._some(first))
        cut = isinstance(first, list) and len(read) < len(cast("list[Any]", first))
        others = None if items is None or items is True or cut else self.shape(items, depth + 1, trail)
        return replace(rule, first=read, items=others)

    def _object(self, rule: Rule, schema: Schema, depth: int, trail: tuple[str, ...]) -> Rule:
        named: Any = schema.get("properties")
        fields: dict[str, Shape] = {}
        cut = False
        for name, part in (cast("Schema", named) if isinstance(named, dict) else {}).items():
            if self._left <= 0:
                self._budget.note("The schema is too large: some of its fields have no name in it.")
                cut = True
                break
            fields[name] = self.shape(part, depth + 1, trail)
        declared: Any = schema.get("required")
        required = [name for name in self._names(declared) if not cut or name in fields]
        closed: Any = schema.get("additionalProperties")
        loose = closed is None or closed is True or cut or "patternProperties" in schema
        others = None if loose else self.shape(closed, depth + 1, trail)
        return replace(rule, fields=fields, required=tuple(dict.fromkeys(required)), others=others)

    def _names(self, declared: Any) -> list[str]:
        names = cast("list[Any]", declared) if isinstance(declared, list) else []
        if len(names) > self._most_read * 8:
            self._budget.note("A list of required fields is left out: it is too long.")
            return []
        return [name for name in names if isinstance(name, str)]

    def _referred(self, ref: str, depth: int, trail: tuple[str, ...]) -> Shape:
        target = self._references.target(ref)
        if target is None:
            self._budget.note("A reference that leads out of the schema, or nowhere, is open: it is never fetched.")
            return replace(ANYTHING, said="Open: defined elsewhere")
        if ref in trail:
            self._budget.note("A schema that contains itself is open from the second time on.")
            kinds = _kinds(cast("Schema", target)) if isinstance(target, dict) else dict.fromkeys(KINDS)
            return Shape(rules=tuple(Rule(kind=kind) for kind in KINDS if kind in kinds), said="Open: as further up")
        return self.shape(target, depth, (*trail, ref))


def is_plain(value: Any) -> bool:
    """Whether a value is small and has only printable characters, so that it can be shown."""
    stack = [(value, 0)]
    visited = 0
    while stack:
        node, depth = stack.pop()
        visited += 1
        if visited > 200 or depth > 8:
            return False
        if isinstance(node, str):
            if len(node) > 1000 or not node.isprintable() or neutral(node) != node:
                return False
        elif isinstance(node, (int, float)):
            if not -_HUGE < node < _HUGE:
                return False
        elif isinstance(node, dict):
            for key, part in cast("Schema", node).items():
                stack += [(key, depth + 1), (part, depth + 1)]
        elif isinstance(node, list):
            stack += [(part, depth + 1) for part in cast("list[Any]", node)]
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _format(schema: Schema) -> str:
    word = _text(schema.get("format"))
    return word if re.fullmatch(r"[a-z][a-z0-9-]{0,30}", word) else ""


def _kinds(schema: Schema) -> dict[str, set[str]]:
    """The types that a schema names, each with the words it used; all types if it names none."""
    declared: Any = schema.get("type")
    words = [
        word
        for word in (cast("list[Any]", declared) if isinstance(declared, list) else [declared])[:20]
        if isinstance(word, str)
    ]
    found: dict[str, set[str]] = {}
    for word in words:
        kind = "number" if word == "integer" else word
        if kind in KINDS:
            found.setdefault(kind, set()).add(word)
    return found or {kind: {kind} for kind in KINDS}


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _disjoint(shapes: list[Shape]) -> bool:
    """Whether no value fits two of the shapes: their types, their values or a field differ."""
    rules = [(at, rule) for at, shape in enumerate(shapes) for rule in shape.rules]
    if len(rules) > 64:
        return False
    return all(
        _differ(one, other) for at, one in rules for there, other in rules if at < there and one.kind == other.kind
    )


def _differ(one: Rule, other: Rule) -> bool:
    if one.values is not None and other.values is not None:
        return not any(value in other.values for value in one.values)
    shared = set(one.required) & set(other.required) & one.fields.keys() & other.fields.keys()
    return any(_disjoint([one.fields[name], other.fields[name]]) for name in shared)
