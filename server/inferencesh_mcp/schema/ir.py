"""The intermediate form of a schema: for each type of JSON value, the rules that such a value may follow.

`$ref`, `allOf`, `anyOf`, `oneOf`, `const` and lists of types all end in this form, because two shapes have a `union` (either
fits) and an `intersection` (both fit). A shape may be looser than the schema it was made from, never stricter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

KINDS = ("string", "number", "boolean", "array", "object", "null")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule for values of one type. A member that is not set allows everything."""

    kind: str
    whole: bool = False
    """Of numbers: integers alone."""
    format: str = ""
    values: tuple[Any, ...] | None = None
    """The only values there are."""
    bounds: dict[str, Any] = field(default_factory=dict[str, Any])
    """JSON Schema's own keywords and values: `minimum`, `maxLength`, `uniqueItems` ..."""
    first: tuple[Shape, ...] = ()
    """Of lists: the first items, each its own."""
    items: Shape | None = None
    """Of lists: the others; None is anything."""
    fields: dict[str, Shape] = field(default_factory=dict[str, "Shape"])
    required: tuple[str, ...] = ()
    others: Shape | None = None
    """Of objects: the fields without a name here; None is anything."""

    @property
    def bare(self) -> bool:
        """Whether it allows every value of its type."""
        named = self.bounds or self.first or self.fields or self.required
        return self.values is None and self.items is None and self.others is None and not named


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one place takes: what any of the rules takes."""

    rules: tuple[Rule, ...]
    about: str = ""
    default: Any = None
    said: str = ""
    """Why anything fits, if it is looser than the schema."""


ANYTHING = Shape(rules=tuple(Rule(kind=kind) for kind in KINDS))
NOTHING = Shape(rules=())


def is_open(shape: Shape | None) -> bool:
    """Whether anything fits."""
    return shape is None or (
        len(shape.rules) == len(KINDS) and all(rule.bare and not rule.whole for rule in shape.rules)
    )


class CompileBudget:
    """The work that is left for one schema, and the notes on where the result is looser."""

    def __init__(self, most_steps: int, most_branches: int) -> None:
        self._left = most_steps
        self.most_branches = most_branches
        self.notes: dict[str, None] = {}

    def note(self, sentence: str) -> None:
        self.notes[sentence] = None

    def spend(self, steps: int = 1) -> bool:
        """Spend steps; False if too few are left, then and ever after."""
        self._left -= steps
        if self._left < 0:
            self.note("The schema is too large: parts of it are left open.")
        return self._left >= 0


def union(shapes: list[Shape], budget: CompileBudget) -> Shape:
    """What fits at least one of the shapes."""
    rules: list[Rule] = []
    for rule in (rule for shape in shapes for rule in shape.rules):
        if not budget.spend():
            return ANYTHING
        _add(rules, rule)
        if len(rules) > budget.most_branches:
            budget.note("A choice of too many branches is open.")
            return ANYTHING
    rules.sort(key=lambda rule: KINDS.index(rule.kind))
    about = next((shape.about for shape in shapes if shape.about), "")
    said = next((shape.said for shape in shapes if shape.said), "")
    return Shape(rules=tuple(rules), about=about, said=said)


def _add(rules: list[Rule], new: Rule) -> None:
    """Add a rule, unless another one covers it, or can be merged with it."""
    for at, old in enumerate(rules):
        if old.kind != new.kind:
            continue
        if (old_does := _takes_all(old, new)) or _takes_all(new, old):
            # a text that may be a file or not is a text
            rules[at] = replace(old if old_does else new, format=old.format if old.format == new.format else "")
            return
        if old.values is not None and new.values is not None and replace(old, values=()) == replace(new, values=()):
            rules[at] = replace(old, values=(*old.values, *(value for value in new.values if value not in old.values)))
            return
    rules.append(new)


def _takes_all(wide: Rule, narrow: Rule) -> bool:
    """Whether one rule certainly takes everything that the other does."""
    return (wide.bare and (narrow.whole or not wide.whole)) or wide == replace(narrow, format=wide.format)


def intersection(one: Shape, other: Shape, budget: CompileBudget) -> Shape:
    """What fits both shapes; what fits the first if computing that takes too long."""
    texts = Shape(
        rules=(),
        about=one.about or other.about,
        default=one.default if one.default is not None else other.default,
        said=one.said or other.said,
    )
    if is_open(other) or is_open(one):
        return replace(texts, rules=one.rules if is_open(other) else other.rules)
    rules: list[Rule] = []
    for kind in KINDS:
        ones = [rule for rule in one.rules if rule.kind == kind]
        others = [rule for rule in other.rules if rule.kind == kind]
        if len(ones) * len(others) > budget.most_branches or not budget.spend(len(ones) * len(others)):
            budget.note("Conditions of too many branches are left out.")
            rules += ones
            continue
        for mine in ones:
            for theirs in others:
                if (rule := _both(mine, theirs, budget)) is not None:
                    _add(rules, rule)
    return replace(texts, rules=tuple(rules))


def _both(one: Rule, other: Rule, budget: CompileBudget) -> Rule | None:
    values = one.values if other.values is None else other.values
    if one.values is not None and other.values is not None:
        if not budget.spend(len(one.values) * len(other.values) // 50):
            return one
        values = tuple(value for value in one.values if value in other.values)
        if not values:
            return None
    rule = Rule(
        kind=one.kind,
        whole=one.whole or other.whole,
        format=one.format or other.format,
        values=values,
        bounds=_bounds(one.bounds, other.bounds, budget),
    )
    if rule.kind == "array":
        return _lists(rule, one, other, budget)
    return _objects(rule, one, other, budget) if rule.kind == "object" else simplified(rule)


def _bounds(one: dict[str, Any], other: dict[str, Any], budget: CompileBudget) -> dict[str, Any]:
    both = {**other, **one}
    for name in one.keys() & other.keys():
        mine, theirs = one[name], other[name]
        if name == "multipleOf":
            both[name] = _common(mine, theirs, budget)
        elif name == "uniqueItems":
            both[name] = mine or theirs
        else:
            both[name] = min(mine, theirs) if name in _TIGHTER_BELOW else max(mine, theirs)
    return {name: both[name] for name in (*one, *other) if name in both}


_TIGHTER_BELOW = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}


def _common(one: Any, other: Any, budget: CompileBudget) -> Any:
    if isinstance(one, int) and isinstance(other, int):
        return math.lcm(one, other)
    if one != other:
        budget.note("Of two conditions `multipleOf` one is left out.")
    return one


def _lists(rule: Rule, one: Rule, other: Rule, budget: CompileBudget) -> Rule | None:
    longest = max(len(one.first), len(other.first))
    first = tuple(_meet(_item(one, at), _item(other, at), budget) or ANYTHING for at in range(longest))
    return simplified(replace(rule, first=first, items=_meet(one.items, other.items, budget)))


def _item(rule: Rule, at: int) -> Shape | None:
    return rule.first[at] if at < len(rule.first) else rule.items


def _objects(rule: Rule, one: Rule, other: Rule, budget: CompileBudget) -> Rule | None:
    fields: dict[str, Shape] = {}
    for name in dict.fromkeys((*one.fields, *other.fields)):
        if not budget.spend():
            return rule
        mine, theirs = one.fields.get(name, one.others), other.fields.get(name, other.others)
        fields[name] = _meet(mine, theirs, budget) or ANYTHING
    required = tuple(dict.fromkeys((*one.required, *other.required)))
    return simplified(replace(rule, fields=fields, required=required, others=_meet(one.others, other.others, budget)))


def _meet(one: Shape | None, other: Shape | None, budget: CompileBudget) -> Shape | None:
    if one is None or other is None:
        return one or other
    return intersection(one, other, budget)


def simplified(rule: Rule) -> Rule | None:
    """The rule without impossible parts; None if nothing fits it."""
    if rule.values is not None and rule.kind in {"string", "number"}:
        values = rule.values
        if rule.bounds or rule.whole:
            values = tuple(value for value in values if _inside(value, rule))
        bounds = {name: value for name, value in rule.bounds.items() if name == "multipleOf"}
        return replace(rule, values=values, bounds=bounds) if values else None
    if rule.kind == "object":
        never = {name for name, shape in rule.fields.items() if not shape.rules}
        if never & set(rule.required):
            return None
        closed = rule.others is not None and not rule.others.rules
        if closed and set(rule.required) - rule.fields.keys():
            return None
    elif rule.kind == "array":
        at = next((at for at, shape in enumerate(rule.first) if not shape.rules), None)
        if at is None and rule.items is not None and not rule.items.rules:
            at = len(rule.first)
        if at is not None:
            most = min(at, rule.bounds.get("maxItems", at))
            if most < rule.bounds.get("minItems", 0):
                return None
            return replace(rule, first=rule.first[:at], items=None, bounds={**rule.bounds, "maxItems": most})
    return rule


def _inside(value: Any, rule: Rule) -> bool:
    bounds = rule.bounds
    if rule.kind == "string":
        return bool(bounds.get("minLength", 0) <= len(value) <= bounds.get("maxLength", math.inf))
    at_least, at_most = bounds.get("minimum", -math.inf), bounds.get("maximum", math.inf)
    above, below = bounds.get("exclusiveMinimum", -math.inf), bounds.get("exclusiveMaximum", math.inf)
    return bool(at_least <= value <= at_most and above < value < below) and (not rule.whole or value == int(value))
