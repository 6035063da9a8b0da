"""The mistakes in a value against an app's schema, found with bounded work. Pure.

The schema is the app's own, so it is untrusted (threat T-18): nothing is fetched, no regular expression is tried, invalid parts
are left out, and rules are counted. `jsonschema` applies the rules.
"""

from __future__ import annotations

import copy
import hashlib
import json
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import jsonschema
from jsonschema import Draft202012Validator
from referencing import Registry

from inferencesh_mcp.api.json import is_array, is_object, items
from inferencesh_mcp.bounded import BoundedDict
from inferencesh_mcp.schema.refs import MAPS, MAX_RECENT, VALUES, Document, document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jsonschema.exceptions import ValidationError

    from inferencesh_mcp.schema.refs import Schema

MAX_STEPS = 5_000  # rules checked for one value: some 0.05 s, and dozens of times what a real app's input needs
MAX_STEPS_OF_A_CALL = 100_000  # the same for all values of one call; others run in between
CHARACTERS_OF_A_STEP = 2_000  # of what `jsonschema` writes about a mistake: the whole value
STEPS_OF_A_REFERENCE = 4  # following a reference takes as long as so many rules
MAX_ERRORS = 1_000  # collected for one value; eight are shown
MAX_SEARCHES = 4  # for the names that misspelt ones may have meant, in one call
HEAVIEST = 20_000  # weight of a schema, where an item of a list weighs 1: walking it takes 0.2 s
WEIGHT_OF_AN_OBJECT = 40  # so a schema has at most 500 objects; real apps have a hundred
WEIGHT_OF_A_KIND = 5  # one of several types
CHARACTERS_OF_A_WEIGHT = 200  # a text of so many weighs 1: what is wrong with it is written out several times
MAX_FAULTS = 1_000  # of a schema that are removed from it; of one with more, nothing counts
MAX_CLEANUPS = 3  # passes that remove invalid parts of a schema: one may have hidden others

_untyped: Any = jsonschema
"""For the function of it that has no types."""
_OF_PARTS = MAPS | {"allOf", "anyOf", "oneOf", "prefixItems", "dependentRequired", "$vocabulary"}
"""Keywords whose entries are checked like schemas, whatever they are."""
_IGNORED = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "uniqueItems")
"""Keywords that are not checked: `uniqueItems` compares every two items that cannot be sorted."""
_PER_ITEM = frozenset({"items", "prefixItems", "contains", "propertyNames", "additionalProperties"})


class Budget:
    """What one call may still spend on validation: it may have many inputs, and a hostile schema."""

    def __init__(self) -> None:
        self.steps = MAX_STEPS_OF_A_CALL
        self.searches = MAX_SEARCHES

    def may_search(self) -> bool:
        """Count one search for a similar name; False if there were too many."""
        self.searches -= 1
        return self.searches >= 0


class _Spent(Exception):
    """No steps are left."""


class BoundedValidator:
    """Validates values against one schema, as far as the steps suffice."""

    def __init__(self, schema: Document) -> None:
        self.finished = True
        """Whether the last value was validated whole."""
        self._steps_left = 0
        weight, is_composed = _survey(schema.root)
        # Closing one part of several that make up one object would refuse the fields of the others.
        root: Any = {} if weight > HEAVIEST else schema.root if is_composed else _closed(schema.root)
        self._document = Document(_valid(root))
        own: dict[str, Any] = dict(Draft202012Validator.VALIDATORS)
        rules = own | {
            "$ref": self._at_target,
            "additionalProperties": _unless_patterns(own["additionalProperties"]),
            "multipleOf": _where_numbers_suffice(own["multipleOf"]),
            **dict.fromkeys(_IGNORED, _no_errors),
        }
        counted = {name: self._counted(name, rule) for name, rule in rules.items()}
        bounded = _untyped.validators.extend(Draft202012Validator, counted)
        registry: Registry[Any] = Registry()  # empty: the default one would fetch what a reference names
        self._validator = bounded(self._document.root, registry=registry)

    def errors(self, value: Any, budget: Budget) -> list[ValidationError]:
        """The errors of a value, as far as the steps suffice."""
        self._steps_left = steps = min(MAX_STEPS, budget.steps)
        errors: list[ValidationError] = []
        with suppress(_Spent, RecursionError):
            errors.extend(islice(self._validator.iter_errors(value), MAX_ERRORS))
        self.finished = self._steps_left >= 0
        budget.steps -= steps - max(self._steps_left, 0)
        return errors

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise _Spent

    def _counted(self, name: str, rule: Any) -> Any:
        """A rule that spends steps: for its own size, for the items that it looks at, and for what it writes."""
        length, is_per_item = _size if name in VALUES else _length, name in _PER_ITEM

        def counted(validator: Any, rule_value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            self._spend(1 + length(rule_value) // 8 + (_length(instance) // 32 if is_per_item else 0))
            for error in rule(validator, rule_value, instance, schema) or ():
                yield error
                self._spend(len(error.message) // CHARACTERS_OF_A_STEP)

        return counted

    def _at_target(self, validator: Any, ref: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        """Validate against the target of a reference; one without a target allows everything."""
        self._spend(STEPS_OF_A_REFERENCE)
        target = self._document.target(ref)
        if isinstance(target, dict | bool):
            yield from validator.descend(instance, target)


_recent: BoundedDict[bytes, BoundedValidator] = BoundedDict(MAX_RECENT)


def validator_for(schema: Schema) -> BoundedValidator:
    """The validator of a schema. It is cached by content: every reading of an app makes new objects, and building it is slow."""
    key = hashlib.sha256(json.dumps(schema).encode()).digest()
    validator = _recent.get(key)
    if validator is None:
        validator = _recent[key] = BoundedValidator(document(schema))
    return validator


def _children(value: Any) -> Iterable[Any]:
    return value.values() if is_object(value) else items(value)


def _parts(value: Any) -> Iterator[Any]:
    """A value and everything in it."""
    stack = [value]
    while stack:
        part = stack.pop()
        yield part
        stack += _children(part)


def _size(value: Any) -> int:
    return sum(1 for _ in _parts(value))


def _length(value: Any) -> int:
    return len(value) if is_array(value) or is_object(value) else 0


def _survey(schema: Any) -> tuple[int, bool]:
    """The weight of a schema, and whether it has an object that combines several parts (`allOf`)."""
    weight, is_composed = 0, False
    for part in _parts(schema):
        if weight > HEAVIEST:
            break
        if is_object(part):
            weight += WEIGHT_OF_AN_OBJECT + WEIGHT_OF_A_KIND * len(items(part.get("type")))
            for keyword in _OF_PARTS & part.keys():
                weight += WEIGHT_OF_AN_OBJECT * sum(not is_object(entry) for entry in _children(part[keyword]))
            is_composed = is_composed or len(items(part.get("allOf"))) > 1
        elif is_array(part):
            weight += len(part)
        elif isinstance(part, str):
            weight += len(part) // CHARACTERS_OF_A_WEIGHT
    return weight, is_composed


def _closed(part: Any) -> Any:
    """A part of a schema in which objects with named fields take no others."""
    if is_array(part):
        return [_closed(item) for item in part]
    if not is_object(part):
        return part
    closed = {key: value if key in VALUES else _closed(value) for key, value in part.items()}
    if part.get("type") == "object" and is_object(part.get("properties")):
        closed.setdefault("additionalProperties", False)
    return closed


def _valid(schema: Any) -> Any:
    """The schema without its invalid parts; the valid ones beside them stay."""
    for _ in range(MAX_CLEANUPS):
        faults = islice(_META_VALIDATOR.iter_errors(schema), MAX_FAULTS + 1)
        places = [list(error.absolute_path) for error in faults]
        if not places and is_object(schema):
            return schema
        if not all(places) or len(places) > MAX_FAULTS:
            break
        schema = copy.deepcopy(schema)
        for place in sorted(places, key=len, reverse=True):
            _remove(schema, place)
    return {}


def _meta_validator() -> Any:
    """Checks schemas, but not whether a list has an item twice: that compares every two items that cannot be sorted."""
    name = "https://json-schema.org/draft/2020-12/meta/validation"
    rules = copy.deepcopy(_untyped.validators.SPECIFICATIONS.contents(name))
    for checked in (rules["properties"]["type"]["anyOf"][1], rules["$defs"]["stringArray"]):
        checked.pop("uniqueItems", None)
    registry: Any = _untyped.validators.SPECIFICATIONS.with_contents([(name, rules)])
    return Draft202012Validator(Draft202012Validator.META_SCHEMA, registry=registry)


_META_VALIDATOR = _meta_validator()


def _remove(schema: Any, place: list[str | int]) -> None:
    for step in place[:-1]:
        try:
            schema = schema[step]
        except (LookupError, TypeError):
            return  # was removed with its parent
    if is_object(schema):
        schema.pop(str(place[-1]), None)
    elif is_array(schema) and isinstance(place[-1], int) and place[-1] < len(schema):
        schema[place[-1]] = {}


def _no_errors(*_: Any) -> Iterator[ValidationError]:
    return iter(())


def _unless_patterns(usual: Any) -> Any:
    """Skip the rule beside `patternProperties`: regular expressions would decide which fields are additional."""

    def unless_patterns(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if "patternProperties" not in schema:
            yield from usual(validator, rule, instance, schema) or ()

    return unless_patterns


def _where_numbers_suffice(usual: Any) -> Any:
    """Skip the rule for a number beyond what a double holds, or infinite: dividing it raises an error."""

    def where_numbers_suffice(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        with suppress(OverflowError, ValueError):
            yield from usual(validator, rule, instance, schema) or ()

    return where_numbers_suffice
