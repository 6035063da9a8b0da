"""Write shapes as JSON Schema, with the keywords that every host takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.sanitize import clean
from inferencesh_mcp.schema.ir import ANYTHING, CompileBudget, Rule, Shape, is_open, union
from inferencesh_mcp.schema.limits import LISTED_KINDS, MOST_LISTED
from inferencesh_mcp.schema.parse import is_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferencesh_mcp.schema.limits import HostLimits


_SHORTEST_RANGE = 3  # consecutive integers that are written as a range
FILE = "File: path, URL or data URI"
NULL_LEFT_OUT = "Where null would do, the field is left out instead."
CLOSED_LATER = "Fields that have no name here are refused when the tool is called."
_FILE_FIELDS = {"uri", "content_type", "filename"}


class TooLarge(Exception):
    """What was written is larger than the limits allow."""


class Writer:
    """Writes one schema, with names that hosts take."""

    def __init__(self, limits: HostLimits, names: Mapping[str, str], budget: CompileBudget) -> None:
        self._limits, self._names, self._budget = limits, names, budget
        self._written = 0

    def top(self, shape: Shape) -> dict[str, Any] | None:
        """The schema of a whole input: one object without a choice at the top; None if no object fits."""
        rules = [rule for rule in shape.rules if rule.kind == "object"]
        if not rules:
            return None
        if len(rules) > 1 or rules[0].values is not None:
            self._budget.note("Which fields go together is checked when the tool is called.")
        written = self._flat(self._one_object(rules), 0, with_text=True)
        return {"type": "object", "properties": written.pop("properties", {}), **written}

    def schema(
        self, shape: Shape | None, depth: int, *, with_text: bool = True, optional: bool = False
    ) -> dict[str, Any]:
        """The schema of one place. `with_text`: with descriptions and defaults. `optional`: the place may be left out."""
        self._written += 1
        if self._written > self._limits.subschemas or depth >= self._limits.depth:
            raise TooLarge
        if shape is None:
            return {}
        rules, text = self._expressible(shape)
        if optional and not self._limits.null_fields and not is_open(shape):
            rules = self._without_null(rules)
        alternatives = [] if is_open(shape) else self._alternatives(rules)
        parts = [self._flat(alternative, depth, with_text) for alternative in alternatives]
        written: dict[str, Any] = parts[0] if len(parts) == 1 else {"anyOf": parts} if parts else {}
        if with_text:
            # some hosts take nothing beside `anyOf`, so the text goes into its first branch
            texts_in = parts[0] if len(parts) > 1 else written
            if about := self._about(shape, text):
                texts_in["description"] = about
            if (default := self._default(shape)) is not None:
                texts_in["default"] = default
        return written

    def _expressible(self, shape: Shape) -> tuple[list[Rule], str]:
        """The rules without what hosts do not take, and the text to show instead."""
        rules: list[Rule] = []
        text = ""
        for whole in shape.rules:
            rule = _span(whole)
            if rule.values is not None and not self._may_list(rule):
                text = f"One of: {json.dumps(rule.values, ensure_ascii=False)[1:-1]}"
                self._budget.note("Some lists of values are in descriptions, and checked when the tool is called.")
                rule = replace(rule, values=None)
            if rule.values is not None and "" in rule.values:  # Gemini refuses an empty text in an `enum`
                rules.append(Rule(kind="string", bounds={"maxLength": 0}))
                rule = replace(rule, values=tuple(value for value in rule.values if value != ""))
            rules += [] if rule.values == () else [rule]
        return rules, text

    def _may_list(self, rule: Rule) -> bool:
        values = rule.values or ()
        fits = len(values) <= MOST_LISTED and _bytes(values) <= self._limits.longest_listed
        return fits and rule.kind in LISTED_KINDS

    def _alternatives(self, rules: list[Rule]) -> list[Rule]:
        """The rules, those first that are one of several of their type or list their values."""
        types: list[Rule] = []
        others: list[Rule] = []
        for rule in rules:
            is_whole_type = rule.values is None and all(rule.kind != other.kind for other in types)
            (types if is_whole_type else others).append(rule)
        return rules if len(rules) == 1 else [*others, *types]

    def _without_null(self, rules: list[Rule]) -> list[Rule]:
        others = [rule for rule in rules if rule.kind != "null"]
        if not others or len(others) == len(rules):
            return rules
        self._budget.note(NULL_LEFT_OUT)
        return others

    def _one_object(self, rules: list[Rule]) -> Rule:
        """One rule that takes what any of the rules takes: each field may be what it is in any of them."""
        first = rules[0]
        if len(rules) == 1:
            return replace(first, values=None)
        fields = {
            name: union([rule.fields.get(name, rule.others or ANYTHING) for rule in rules], self._budget)
            for name in dict.fromkeys(name for rule in rules for name in rule.fields)
        }
        required = tuple(name for name in first.required if all(name in rule.required for rule in rules))
        closed = all(rule.others is not None for rule in rules)
        others = union([rule.others for rule in rules if rule.others is not None], self._budget) if closed else None
        return Rule(kind="object", fields=fields, required=required, others=others)

    def _flat(self, rule: Rule, depth: int, with_text: bool) -> dict[str, Any]:
        """One schema without a choice."""
        written: dict[str, Any] = {"type": "integer" if rule.whole else rule.kind}
        if rule.values is not None:
            written["enum"] = list(rule.values)
        written |= rule.bounds
        if rule.kind == "array":
            self._list(written, rule, depth, with_text)
        elif rule.kind == "object":
            self._object(written, rule, depth, with_text and not is_file(rule))
        return written

    def _list(self, written: dict[str, Any], rule: Rule, depth: int, with_text: bool) -> None:
        if rule.first:
            written["prefixItems"] = [self.schema(part, depth + 1, with_text=with_text) for part in rule.first]
        # some hosts refuse a list without `items`
        written["items"] = self.schema(rule.items, depth + 1, with_text=with_text)

    def _object(self, written: dict[str, Any], rule: Rule, depth: int, with_text: bool) -> None:
        # some hosts refuse a required field that has no schema
        fields = {**rule.fields, **{name: rule.others for name in rule.required if name not in rule.fields}}
        if never := [name for name, shape in fields.items() if shape is not None and not shape.rules]:
            # no host has a way to forbid a field
            if rule.others is None or rule.others.rules:
                self._budget.note("A field that must not be given is checked when the tool is called.")
            fields = {name: shape for name, shape in fields.items() if name not in never}
        if fields:
            written["properties"] = {
                self._names[name]: self.schema(
                    shape, depth + 1, with_text=with_text, optional=name not in rule.required
                )
                for name, shape in fields.items()
            }
        if rule.required:
            required = set(rule.required)
            written["required"] = [self._names[name] for name in fields if name in required]
        if rule.others is not None and not rule.others.rules:
            # google-genai up to 3.6.1 fails on a boolean `additionalProperties`, for every tool of the server
            self._budget.note(CLOSED_LATER)
        elif not is_open(rule.others):
            written["additionalProperties"] = self.schema(rule.others, depth + 1, with_text=with_text)

    def _about(self, shape: Shape, text: str) -> str:
        most = self._limits.longest_about
        hint = _hint(shape) or shape.said
        parts = [_cut(shape.about, most - len(hint)), _cut(text, most), hint]
        return ". ".join(part.removesuffix(".") for part in parts if part) if most else ""

    def _default(self, shape: Shape) -> Any:
        default = shape.default
        if default in (None, "", [], {}) or not is_plain(default):
            return None
        return default if _bytes(default) <= self._limits.longest_default else None


def is_file(rule: Rule) -> bool:
    """Whether it is the older form of a file: an object `{uri, path, content_type, size, filename}`."""
    return rule.fields.keys() >= _FILE_FIELDS


def size(schema: Any) -> int:
    """The size of a schema in bytes, as it is sent."""
    return _bytes(schema)


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _span(rule: Rule) -> Rule:
    """Write consecutive integers as a range, which is shorter and which more hosts take."""
    values: list[Any] = sorted(rule.values or ()) if rule.kind == "number" else []
    if len(values) < _SHORTEST_RANGE or rule.bounds or any(value != values[0] + at for at, value in enumerate(values)):
        return rule
    if not all(isinstance(value, int) for value in values):
        return rule  # 1.0 is 1 to JSON Schema, but not to every host
    return replace(rule, whole=True, values=None, bounds={"minimum": values[0], "maximum": values[-1]})


def _hint(shape: Shape) -> str:
    """The format of a text, which goes into the description because hosts refuse some formats."""
    texts = [rule for rule in shape.rules if rule.kind == "string"]
    if any(rule.kind == "object" and is_file(rule) for rule in shape.rules):
        return FILE
    formats = {rule.format for rule in texts}
    if formats == {"file"}:
        return FILE
    return " or ".join(sorted(formats - {"", "file"}))


def _cut(text: str, most: int) -> str:
    """The text in one clean line; a long one is cut at the end of a sentence or a word."""
    if most < 1:
        return ""
    line = clean(text[: most * 3], most * 3)
    if len(line) <= most:
        return line
    head = line[:most]
    end = head.rfind(". ")
    if end > most // 3:
        return head[:end]
    return f"{head[: most - 1].rpartition(' ')[0] or head[: most - 1]}…"
