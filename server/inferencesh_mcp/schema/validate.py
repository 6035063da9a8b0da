"""An app's input against its schema: fit what hosts wrote differently, and say what is wrong with the rest. Pure.

`bounded_validator` finds the mistakes. What cannot be validated is no error: the app's own server decides.

This module imports `jsonschema`, which takes 60 ms: import it inside the function that validates.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import jsonschema

from inferencesh_mcp.api.json import NotJson, as_object, is_object, items, parse
from inferencesh_mcp.sanitize import named
from inferencesh_mcp.schema.bounded_validator import Budget, validator_for
from inferencesh_mcp.schema.describe import expected, nearest_name, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError

    from inferencesh_mcp.schema.file_fields import Place
    from inferencesh_mcp.schema.refs import Schema

MAX_PROBLEMS = 8  # sentences in one answer
MAX_NUMBER = 1e15  # for which a nearest value is named
MAX_PLACE_LENGTH = 200  # characters of a field's path in a sentence
MAX_REPAIRED_ERRORS = 1_000  # errors of one input that are considered for repair
MAX_REPAIRED_TEXT_LENGTH = 1_000_000  # characters of all texts of one input that are parsed as JSON
DEEPEST_UNION = 16  # nested unions whose errors are considered

_untyped: Any = jsonschema
"""For the function of it that has no types."""
_LEFT_OUT: Final = object()
"""The repair of a field that holds nothing."""
# An empty text that breaks one of these rules stands for no value; one that is only too short may be meant.
_TYPE_RULES = frozenset({"type", "enum", "const", "anyOf", "oneOf"})


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
    validator = validator_for(schema)
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
            if len(sentences) == MAX_PROBLEMS:  # the rest is not shown, so it is not put into words
                return list(sentences)
    return list(sentences)


def _sentences(error: ValidationError, budget: Budget) -> Iterator[str]:
    where = ".".join(str(step) for step in error.absolute_path) or "input"
    schema, rule = error.schema, error.validator_value
    instance: Any = error.instance
    if not is_object(schema):  # `false`; jsonschema does not say where
        yield f"the app's schema takes no value where you gave {short(instance)}"
        return
    fields = as_object(schema.get("properties"))
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
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER


def _join(where: str, name: str) -> str:
    return name if where == "input" else f"{where}.{name}"


def _named(place: str) -> str:
    return named(place, MAX_PLACE_LENGTH)


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
    characters_left = MAX_REPAIRED_TEXT_LENGTH
    for error in islice(_innermost(errors), MAX_REPAIRED_ERRORS):
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
