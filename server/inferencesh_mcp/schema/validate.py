"""An app's input against its schema: fit what hosts wrote differently, and say what is wrong with the rest. Pure.

The schema is the app's own, so it is untrusted (threat T-18): nothing is fetched, no regular expression is tried, and the
work is bounded. What cannot be validated is no error: the app's own server decides.

This module imports `jsonschema`, which takes 60 ms: import it inside the function that validates.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import jsonschema
from jsonschema import Draft202012Validator
from referencing import Registry

from inferencesh_mcp.api.json import NotJson, is_array, is_object, items, parse
from inferencesh_mcp.bounded import BoundedDict
from inferencesh_mcp.sanitize import named
from inferencesh_mcp.schema.describe import expected, nearest_name, short
from inferencesh_mcp.schema.refs import MAPS, RECENT_LIMIT, VALUES, Document, document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jsonschema.exceptions import ValidationError

    from inferencesh_mcp.schema.file_fields import Place
    from inferencesh_mcp.schema.refs import Schema

MOST_STEPS = 5_000  # rules checked for one value: some 0.05 s, and dozens of times what a real app's input needs
MOST_STEPS_OF_A_CALL = 100_000  # the same for all values of one call; others run in between
CHARACTERS_OF_A_STEP = 2_000  # of what `jsonschema` writes about a mistake: the whole value
STEPS_OF_A_REFERENCE = 4  # following a reference takes as long as so many rules
MOST_ERRORS = 1_000  # collected for one value; eight are shown
MOST_PROBLEMS = 8  # sentences in one answer
MOST_SEARCHES = 4  # for the names that misspelt ones may have meant, in one call
HEAVIEST = 20_000  # weight of a schema, where an item of a list weighs 1: walking it takes 0.2 s
LARGEST_NUMBER = 1e15  # for which a nearest value is named
WEIGHT_OF_AN_OBJECT = 40  # so a schema has at most 500 objects; real apps have a hundred
WEIGHT_OF_A_KIND = 5  # one of several types
CHARACTERS_OF_A_WEIGHT = 200  # a text of so many weighs 1: what is wrong with it is written out several times
MOST_FAULTS = 1_000  # of a schema that are removed from it; of one with more, nothing counts
LONGEST_PLACE = 200  # characters of a field's path in a sentence
MOST_CLEANUPS = 3  # passes that remove invalid parts of a schema: one may have hidden others
MOST_REPAIRED_ERRORS = 1_000  # errors of one input that are considered for repair
REPAIRED_TEXT_LIMIT = 1_000_000  # characters of all texts of one input that are parsed as JSON
DEEPEST_UNION = 16  # nested unions whose errors are considered

_untyped: Any = jsonschema
"""For the two functions of it that have no types."""
_LEFT_OUT: Final = object()
"""The repair of a field that holds nothing."""
_OF_PARTS = MAPS | {"allOf", "anyOf", "oneOf", "prefixItems", "dependentRequired", "$vocabulary"}
"""Keywords whose entries are checked like schemas, whatever they are."""
_PER_ITEM = frozenset({"items", "prefixItems", "contains", "propertyNames", "additionalProperties"})
# An empty text that breaks one of these rules stands for no value; one that is only too short may be meant.
_TYPE_RULES = frozenset({"type", "enum", "const", "anyOf", "oneOf"})


class Budget:
    """What one call may still spend on validation: it may have many inputs, and a hostile schema."""

    def __init__(self) -> None:
        self.steps = MOST_STEPS_OF_A_CALL
        self.searches = MOST_SEARCHES

    def may_search(self) -> bool:
        """Count one search for a similar name; False if there were too many."""
        self.searches -= 1
        return self.searches >= 0


@dataclass(frozen=True)
class Checked:
    """An input after its validation."""

    value: dict[str, Any]
    """The input as the app takes it, repaired where that is certain."""
    problems: list[str]
    """What is wrong with it, one sentence for each problem; empty if it fits."""


def check(schema: Schema, value: dict[str, Any], budget: Budget | None = None) -> Checked:
    """Validate an input, and undo the two ways in which hosts differ from the schema.

    Some send objects, lists and numbers as a string of JSON: such a string is parsed if it does not fit as it is. Others
    fill in every field: a null or an empty text that does not fit is left out. A string that fits stays, whatever it looks
    like: `"5"` is a good prompt (I-15).

    A field that the schema does not name is a problem unless the schema allows others, because apps silently drop such a
    field and the run costs the same.
    """
    budget = budget or Budget()
    validator = _validator(schema)
    errors = validator.errors(value, budget)
    if repairs := _repairs(errors):
        # Try all repairs at once, then drop those that do not fit either.
        repaired = _with(value, repairs)
        errors_left = validator.errors(repaired, budget)
        wrong = _wrong_places(errors_left)
        fitting = {place: repair for place, repair in repairs.items() if place not in wrong}
        if fitting and validator.finished:  # otherwise it is not known whether they fit
            if len(fitting) < len(repairs):
                repaired = _with(value, fitting)
                errors_left = validator.errors(repaired, budget)
            value, errors = repaired, errors_left
    return Checked(value, _problems(errors, budget))


def _problems(errors: list[ValidationError], budget: Budget) -> list[str]:
    sentences: dict[str, None] = {}
    in_words: set[tuple[Place, int]] = set()
    for error in sorted(errors, key=lambda error: [str(step) for step in error.path]):
        closest = _closest(error)
        if closest.validator == "required":  # there is an error for each missing name, and the first names them all
            rule = (tuple(closest.absolute_path), id(closest.validator_value))
            if rule in in_words:
                continue
            in_words.add(rule)
        for sentence in _sentences(closest, budget):
            sentences[sentence] = None
            if len(sentences) == MOST_PROBLEMS:  # the rest is not shown, so it is not put into words
                return list(sentences)
    return list(sentences)


def _sentences(error: ValidationError, budget: Budget) -> Iterator[str]:
    where = ".".join(str(step) for step in error.absolute_path) or "input"
    schema, rule = error.schema, error.validator_value
    instance: Any = error.instance
    if not is_object(schema):  # `false`; jsonschema does not say where
        yield f"the app's schema takes no value where you gave {short(instance)}"
        return
    declared = schema.get("properties")
    fields = declared if is_object(declared) else {}
    match error.validator:
        case "required":
            missing = (name for name in dict.fromkeys(items(rule)) if name not in instance)
            yield from (
                f"{_named(_join(where, name))} is missing: {expected(fields.get(name, {}))}" for name in missing
            )
        case "additionalProperties":
            yield from (_unknown_field(where, name, list(fields), budget) for name in instance if name not in fields)
        case "enum":
            suggestion = _suggestion(instance, items(rule), budget)
            yield f"{_named(where)} must be one of {short(rule)}; got {short(instance)}{suggestion}"
        case _:
            nearest = _nearest_number(schema, instance)
            hint = "" if nearest is None else f"; nearest allowed: {nearest}"
            yield f"{_named(where)} must be {expected(schema)}; got {short(instance)}{hint}"


def _nearest_number(schema: Schema, value: Any) -> float | None:
    """The number within the schema's inclusive limits that is nearest to one outside; None if there is none to name."""
    if not _is_number(value):
        return None
    step, low, high = (schema.get(name) for name in ("multipleOf", "minimum", "maximum"))
    nearest, to_step = (
        (low, math.ceil)
        if _is_number(low) and value < low
        else (high, math.floor)
        if _is_number(high) and value > high
        else (value, round)
    )
    if _is_number(step) and step > 0 and _is_number(nearest / step):
        nearest = to_step(nearest / step) * step
    return nearest if nearest != value else None


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that one can calculate with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER


def _join(where: str, name: str) -> str:
    return name if where == "input" else f"{where}.{name}"


def _named(place: str) -> str:
    return named(place, LONGEST_PLACE)


def _unknown_field(where: str, name: str, known: list[str], budget: Budget) -> str:
    near = nearest_name(name, known) if budget.may_search() else None
    hint = f"did you mean {_named(near)}?" if near else f"the fields are {short(known)}"
    return f"{_named(_join(where, name))} is not a field of this app: {hint}"


def _suggestion(value: Any, allowed: list[Any], budget: Budget) -> str:
    names = (name for name in allowed if isinstance(name, str))
    near = nearest_name(value, names, likeness=0.7) if isinstance(value, str) and budget.may_search() else None
    if near:
        return f". Did you mean {short(near)}?"
    numbers = [number for number in allowed if _is_number(number)]
    if numbers and _is_number(value):
        return f"; nearest allowed: {min(numbers, key=lambda number: abs(number - value))}"
    return ""


def _closest(error: ValidationError) -> ValidationError:
    """The error of that branch of a union which fits best, `null` aside."""
    while error.validator in {"anyOf", "oneOf"} and error.context:
        branches = [part for part in error.context if part.schema != {"type": "null"}] or error.context
        error = _untyped.exceptions.best_match(branches)
    return error


def _repairs(errors: list[ValidationError]) -> dict[Place, Any]:
    """The values that wrong ones may stand for, by their places."""
    repairs: dict[Place, Any] = {}
    characters_left = REPAIRED_TEXT_LIMIT
    for error in islice(_innermost(errors), MOST_REPAIRED_ERRORS):
        place = tuple(error.absolute_path)
        characters_left -= len(error.instance) if isinstance(error.instance, str) else 0
        repair = _repair(error) if place and characters_left >= 0 else None
        if repair is not None:
            repairs[place] = repair
    return repairs


def _innermost(errors: list[ValidationError], depth: int = 0) -> Iterator[ValidationError]:
    """The errors of that branch of a union which has the value's type; the union's own error if there is none."""
    for error in errors:
        inner = _branch_errors(error) if depth < DEEPEST_UNION else []
        yield from _innermost(inner, depth + 1) if inner else [error]


def _branch_errors(error: ValidationError) -> list[ValidationError]:
    if error.validator in {"anyOf", "oneOf"}:
        for _, branch in groupby(error.context or (), lambda inner: next(iter(inner.schema_path), None)):
            errors = list(branch)
            if not any(inner.validator == "type" and not inner.path for inner in errors):
                return errors
    return []


def _repair(error: ValidationError) -> Any:
    """The value that a wrong one stands for: its text parsed as JSON, or `_LEFT_OUT`; None if it stands for itself."""
    value: Any = error.instance
    if value is None or (value == "" and error.validator in _TYPE_RULES):
        is_field = isinstance(error.absolute_path[-1], str)  # an item of a list cannot be left out
        return _LEFT_OUT if is_field else None
    if not isinstance(value, str):
        return None
    try:
        parsed = parse(value.encode())
    except (NotJson, UnicodeEncodeError):
        return None
    return None if isinstance(parsed, str) else parsed


def _wrong_places(errors: list[ValidationError]) -> set[Place]:
    """The places of all errors and those around them; a missing field counts as an error at its own place."""
    places: list[Place] = []
    for error in _innermost(errors):
        place = tuple(error.absolute_path)
        places.append(place)
        if error.validator == "required":
            instance: Any = error.instance
            places += [(*place, name) for name in items(error.validator_value) if name not in instance]
    return {place[:length] for place in places for length in range(len(place) + 1)}


def _with(value: dict[str, Any], repairs: dict[Place, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(value)
    for place, repair in repairs.items():
        inner: Any = changed
        for step in place[:-1]:
            inner = inner[step]
        if repair is _LEFT_OUT:
            del inner[place[-1]]
        else:
            inner[place[-1]] = repair
    return changed


class _Spent(Exception):
    """No steps are left."""


class _Validator:
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
            **dict.fromkeys(
                # `uniqueItems` compares every two items that cannot be sorted
                (
                    "pattern",
                    "patternProperties",
                    "unevaluatedProperties",
                    "unevaluatedItems",
                    "uniqueItems",
                    "$dynamicRef",
                ),
                _ignored,
            ),
        }
        counted = {
            name: self._counted(rule, is_per_item=name in _PER_ITEM, is_value=name in VALUES)
            for name, rule in rules.items()
        }
        bounded = _untyped.validators.extend(Draft202012Validator, counted)
        registry: Registry[Any] = Registry()  # empty: the default one would fetch what a reference names
        self._validator = bounded(self._document.root, registry=registry)

    def errors(self, value: Any, budget: Budget) -> list[ValidationError]:
        """The errors of a value, as far as the steps suffice."""
        self._steps_left = steps = min(MOST_STEPS, budget.steps)
        errors: list[ValidationError] = []
        with suppress(_Spent, RecursionError):
            errors.extend(islice(self._validator.iter_errors(value), MOST_ERRORS))
        self.finished = self._steps_left >= 0
        budget.steps -= steps - max(self._steps_left, 0)
        return errors

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise _Spent

    def _counted(self, rule: Any, *, is_per_item: bool, is_value: bool) -> Any:
        length = _size if is_value else _length

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


_recent: BoundedDict[bytes, _Validator] = BoundedDict(RECENT_LIMIT)


def _validator(schema: Schema) -> _Validator:
    """The validator of a schema. It is cached by content: every reading of an app makes new objects, and building it is slow."""
    key = hashlib.sha256(json.dumps(schema).encode()).digest()
    validator = _recent.get(key)
    if validator is None:
        validator = _recent[key] = _Validator(document(schema))
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
    for _ in range(MOST_CLEANUPS):
        faults = islice(_META_VALIDATOR.iter_errors(schema), MOST_FAULTS + 1)
        places = [list(error.absolute_path) for error in faults]
        if not places and is_object(schema):
            return schema
        if not all(places) or len(places) > MOST_FAULTS:
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


def _ignored(*_: Any) -> Iterator[ValidationError]:
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
