"""A shape for what comes back: it tells what to expect, and refuses nothing that an app may really answer."""

from __future__ import annotations

from dataclasses import replace

from inferencesh_mcp.schema.emit import is_file
from inferencesh_mcp.schema.ir import ANYTHING, Rule, Shape, is_open

_DEEPEST = 1  # what is inside the fields is open: the answer itself will tell


def loosened(shape: Shape, depth: int = 0) -> Shape:
    """The shape without limits, choices of values and required fields; anything may be null, a file may be its record."""
    if is_open(shape):
        return shape
    kinds = list(dict.fromkeys(rule.kind for rule in shape.rules))
    files = any(rule.format == "file" or is_file(rule) for rule in shape.rules)
    if depth and files:
        return replace(ANYTHING, about=shape.about)  # a URL or a record of it: the platform's choice
    rules = [_loosened(kind, [rule for rule in shape.rules if rule.kind == kind], depth) for kind in kinds]
    if depth and "null" not in kinds:
        rules.append(Rule(kind="null"))
    return Shape(rules=tuple(rules), about=shape.about)


def _loosened(kind: str, rules: list[Rule], depth: int) -> Rule:
    rule = rules[0]
    if len(rules) > 1 or depth >= _DEEPEST:
        return Rule(kind=kind)
    items = None if rule.items is None or rule.first else loosened(rule.items, depth + 1)
    return Rule(kind=kind, items=items, fields={name: loosened(part, depth + 1) for name, part in rule.fields.items()})
