"""An app's input against its schema: fit what hosts wrote differently, and say what is wrong with the rest. Pure.

The schema is the app's own, so it is untrusted (threat T-18): nothing is fetched, no regular expression is tried, and the
work is bounded. What cannot be validated is no error: the app's own server decides.

This module imports `jsonschema`, which takes 60 ms: import it inside the function that validates.
"""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from functools import lru_cache
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final, cast

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import best_match  # pyright: ignore[reportUnknownVariableType]
from referencing import Registry
from referencing.exceptions import Unresolvable

from inferencesh_mcp.api.json import NotJson, parse
from inferencesh_mcp.schema.describe import Schema, expected, short
from inferencesh_mcp.schema.near_names import nearest_name
from inferencesh_mcp.schema.refs import VALUES, References, modern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError

MOST_STEPS = 5_000  # rules checked for one value: some 0.05 s, and dozens of times what a real app's input needs
MOST_STEPS_OF_A_CALL = 100_000  # the same for all values of one call; others run in between
STEPS_OF_A_REFERENCE = 4  # following a reference takes as long as so many rules
MOST_ERRORS = 1_000  # collected for one value; eight are shown
MOST_PROBLEMS = 8  # sentences in one answer
MOST_SEARCHES = 4  # for the names that misspelt ones may have meant, in one call
HEAVIEST = 20_000  # weight of a schema, where an item of a list weighs 1: walking it takes 0.2 s
WEIGHT_OF_AN_OBJECT = 40  # so a schema has at most 500 objects; real apps have a hundred
LONGEST_SCHEMA = 1024 * 1024  # characters of its JSON
DEEPEST = 64  # levels; a deeper part of a schema becomes "anything"
MOST_CLEANUPS = 3  # passes that remove invalid parts of a schema: one may have hidden others
_PER_ITEM = frozenset({"items", "prefixItems", "contains", "propertyNames", "additionalProperties"})

MOST_REPAIRED_ERRORS = 1_000  # errors of one input that are considered for repair
REPAIRED_TEXT_LIMIT = 1_000_000  # characters of all texts of one input that are parsed as JSON
DEEPEST_UNION = 16  # nested unions whose errors are considered

Place = tuple[str | int, ...]
LEFT_OUT: Final = object()
"""The repair of a field that holds nothing."""
# An empty text that breaks one of these rules stands for no value; one that is only too short may be meant.
_TYPE_RULES = frozenset({"type", "enum", "const", "anyOf", "oneOf"})


def problems(schema: Schema, value: Any, budget: ValidationBudget | None = None) -> list[str]:
    """What is wrong with `value`, one sentence for each problem; an empty list means that it fits.

    A field that the schema does not name is a problem unless the schema allows others, because apps silently drop such a
    field and the run costs the same. `budget` bounds what a call spends on all of its inputs.
    """
    budget = budget or ValidationBudget()
    sentences: dict[str, None] = {}
    for error in sorted(
        validator_for(schema).errors(value, budget), key=lambda error: [str(step) for step in error.path]
    ):
        for sentence in _sentences(closest_error(error), budget):
            sentences[sentence] = None
            if len(sentences) == MOST_PROBLEMS:  # the rest is not shown, so it is not put into words
                return list(sentences)
    return list(sentences)


def _sentences(error: ValidationError, budget: ValidationBudget) -> Iterator[str]:
    where = ".".join(str(step) for step in error.absolute_path) or "input"
    if error.schema is False:  # jsonschema does not say where
        yield f"the app's schema takes no value where you gave {short(error.instance)}"
        return
    schema = cast("Schema", error.schema)  # `true` has no errors
    fields = cast("dict[str, Schema]", schema.get("properties") or {})
    rule: Any = error.validator_value
    match error.validator:
        case "required":
            missing = (name for name in rule if name not in cast("Schema", error.instance))
            yield from (f"'{_join(where, name)}' is missing: {expected(fields.get(name, {}))}" for name in missing)
        case "additionalProperties":
            instance = cast("Schema", error.instance)
            yield from (_unknown_field(where, name, list(fields), budget) for name in instance if name not in fields)
        case "enum":
            suggestion = _suggestion(error.instance, rule, budget)
            yield f"'{where}' must be one of {short(rule)}; got {short(error.instance)}{suggestion}"
        case _:
            yield f"'{where}' must be {expected(schema)}; got {short(error.instance)}"


def _join(where: str, name: str) -> str:
    return name if where == "input" else f"{where}.{name}"


def _unknown_field(where: str, name: str, known: list[str], budget: ValidationBudget) -> str:
    near = nearest_name(name, known) if budget.may_search() else None
    hint = f"did you mean '{near}'?" if near else f"the fields are {short(known)}"
    return f"'{_join(where, name)}' is not a field of this app: {hint}"


def _suggestion(value: Any, allowed: list[Any], budget: ValidationBudget) -> str:
    names = (name for name in allowed if isinstance(name, str))
    near = nearest_name(value, names, likeness=0.7) if isinstance(value, str) and budget.may_search() else None
    return f". Did you mean {short(near)}?" if near else ""


def repaired(schema: Schema, value: dict[str, Any], budget: ValidationBudget | None = None) -> dict[str, Any]:
    """The input as the app takes it. Hosts differ from the schema in two ways, and both are undone:

    Some send objects, lists and numbers as a string of JSON: such a string is parsed if it does not fit as it is. Others
    fill in every field: a null or an empty text that does not fit is left out. A string that fits stays, whatever it looks
    like: `"5"` is a good prompt (I-15).
    """
    validator = validator_for(schema)
    repairs: dict[Place, Any] = {}
    characters_left = REPAIRED_TEXT_LIMIT
    errors = (inner for error in validator.errors(value, budget) for inner in _innermost(error))
    for error in islice(errors, MOST_REPAIRED_ERRORS):
        place = tuple(error.absolute_path)
        characters_left -= len(error.instance) if isinstance(error.instance, str) else 0
        repair = _repair(error) if place and characters_left >= 0 else None
        if repair is not None:
            repairs[place] = repair
    if not repairs:
        return value
    # Try all repairs at once, then drop those that do not fit either: the value is validated twice, however long it is.
    places = _wrong_places(validator, _with(value, repairs), budget)
    if validator.gave_up:
        return value  # it is not known whether the repairs fit
    wrong = {place[:length] for place in places for length in range(len(place) + 1)}
    return _with(value, {place: repair for place, repair in repairs.items() if place not in wrong})


def _innermost(error: ValidationError, depth: int = 0) -> Iterator[ValidationError]:
    """The errors of that branch of a union which has the value's type; the union's own error if there is none."""
    if error.validator in {"anyOf", "oneOf"} and depth < DEEPEST_UNION:
        branches = groupby(error.context or (), lambda inner: inner.schema_path[0])
        for branch_errors in (list(errors) for _, errors in branches):
            if not any(inner.validator == "type" and not inner.path for inner in branch_errors):
                for inner in branch_errors:
                    yield from _innermost(inner, depth + 1)
                return
    yield error


def _wrong_places(validator: SchemaValidator, value: Any, budget: ValidationBudget | None) -> list[Place]:
    """The places of all errors; a missing field counts as an error at its own place."""
    places: list[Place] = []
    for error in (inner for outer in validator.errors(value, budget) for inner in _innermost(outer)):
        place = tuple(error.absolute_path)
        places.append(place)
        if error.validator == "required":
            required, instance = cast("list[str]", error.validator_value), cast("dict[str, Any]", error.instance)
            places += [(*place, name) for name in required if name not in instance]
    return places


def _repair(error: ValidationError) -> Any:
    """The value that a wrong one stands for: its text parsed as JSON, or `LEFT_OUT`; None if it stands for itself."""
    value: Any = error.instance
    if value is None or (value == "" and error.validator in _TYPE_RULES):
        is_field = isinstance(error.absolute_path[-1], str)  # an item of a list cannot be left out
        return LEFT_OUT if is_field else None
    if not isinstance(value, str):
        return None
    try:
        parsed = parse(value.encode())
    except (NotJson, UnicodeEncodeError):
        return None
    return None if isinstance(parsed, str) else parsed


def _with(value: dict[str, Any], parts: dict[Place, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(value)
    for place, part in parts.items():
        inner: Any = changed
        for step in place[:-1]:
            inner = inner[step]
        if part is LEFT_OUT:
            del inner[place[-1]]
        else:
            inner[place[-1]] = part
    return changed


def validator_for(schema: Schema) -> SchemaValidator:
    """The validator of a schema, cached: making one takes longer than using it."""
    text = json.dumps(schema)
    return _validator(text if len(text) <= LONGEST_SCHEMA else "{}")


@lru_cache(maxsize=64)
def _validator(schema_text: str) -> SchemaValidator:
    schema = modern(json.loads(schema_text))
    return SchemaValidator(schema if _composed(schema) else _strict(schema))


class ValidationBudget:
    """What one call may still spend on validation: it may have many inputs, and a hostile schema."""

    def __init__(self) -> None:
        self.steps = MOST_STEPS_OF_A_CALL
        self.searches = MOST_SEARCHES

    def may_search(self) -> bool:
        """Count one search for a similar name; False if there were too many."""
        self.searches -= 1
        return self.searches >= 0


class _Spent(Exception):
    """No steps are left."""


class SchemaValidator:
    """Validates values against an untrusted schema (threat T-18).

    Nothing is fetched, no regular expression is tried, and the work is bounded. What cannot be validated is no error: the
    app's own server decides.
    """

    def __init__(self, schema: Schema) -> None:
        self._left = 0
        own = cast("dict[str, Any]", Draft202012Validator.VALIDATORS)
        rules = own | {
            "$ref": self._followed(self._at_target),
            "$dynamicRef": self._followed(own["$dynamicRef"]),
            "additionalProperties": _unless_patterns(own["additionalProperties"]),
            **dict.fromkeys(
                # `uniqueItems` compares every two items that cannot be sorted
                ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "uniqueItems"),
                _ignored,
            ),
        }
        counted = {name: self._counted(rule, is_per_item=name in _PER_ITEM) for name, rule in rules.items()}
        bounded: Any = cast("Any", validators).extend(Draft202012Validator, counted)
        if _weight(schema) > HEAVIEST:
            schema = {}
        schema = _without_invalid_parts(_one_dialect(schema))
        self._references = References(schema)
        registry: Registry[Any] = Registry()  # empty: the default one would fetch what a reference names
        self._validator: Any = bounded(schema, registry=registry)

    def errors(self, value: Any, budget: ValidationBudget | None = None) -> list[ValidationError]:
        """The errors of a value, as far as the steps suffice."""
        budget = budget or ValidationBudget()
        self._left = steps = min(MOST_STEPS, budget.steps)
        errors: list[ValidationError] = []
        with suppress(_Spent, RecursionError):
            errors.extend(islice(self._validator.iter_errors(value), MOST_ERRORS))
        budget.steps -= steps - max(self._left, 0)
        return errors

    @property
    def gave_up(self) -> bool:
        """Whether the last value was validated in part only."""
        return self._left < 0

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _Spent

    def _counted(self, rule: Any, *, is_per_item: bool) -> Any:
        def counted(validator: Any, rule_value: Any, instance: Any, schema: Any) -> Any:
            self._spend(1 + _length(rule_value) // 8 + (_length(instance) // 32 if is_per_item else 0))
            return rule(validator, rule_value, instance, schema)

        return counted

    def _at_target(self, validator: Any, ref: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        """Validate against the target of a reference; one without a target allows everything."""
        target = self._references.target(ref)
        if isinstance(target, (dict, bool)):
            yield from validator.descend(instance, target)

    def _followed(self, follow: Any) -> Any:
        def followed(validator: Any, ref: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            self._spend(STEPS_OF_A_REFERENCE)
            try:
                yield from follow(validator, ref, instance, schema)
            except Unresolvable:
                return

        return followed


def _length(value: Any) -> int:
    return len(cast("list[Any]", value)) if isinstance(value, list | dict) else 0


def closest_error(error: ValidationError) -> ValidationError:
    """The error of that branch of a union which fits best, `null` aside."""
    while error.validator in {"anyOf", "oneOf"} and error.context:
        branches = [part for part in error.context if part.schema != {"type": "null"}] or error.context
        error = cast("ValidationError", best_match(branches))
    return error


def _without_invalid_parts(schema: Any) -> Schema:
    """The schema without its invalid parts; the valid ones beside them stay."""
    meta_validator: Any = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    for _ in range(MOST_CLEANUPS):
        places = [list(error.absolute_path) for error in meta_validator.iter_errors(schema)]
        if not places:
            return cast("Schema", schema) if isinstance(schema, dict) else {}
        if not all(places):
            break
        for place in sorted(places, key=len, reverse=True):
            _remove(schema, place)
    return {}


def _remove(schema: Any, place: list[str | int]) -> None:
    for step in place[:-1]:
        try:
            schema = schema[step]
        except (LookupError, TypeError):
            return  # was removed with its parent
    if isinstance(schema, dict):
        cast("Schema", schema).pop(str(place[-1]), None)
    elif isinstance(schema, list) and isinstance(place[-1], int) and place[-1] < len(cast("list[Any]", schema)):
        schema[place[-1]] = {}


def _one_dialect(schema: Any) -> Any:
    """The schema without `$schema` and `$id` in its parts, which would switch to another dialect and its rules."""
    if isinstance(schema, list):
        return [_one_dialect(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = cast("Schema", schema)
    return {
        key: part if key in VALUES else _one_dialect(part)
        for key, part in node.items()
        if key not in {"$schema", "$id"} or not isinstance(part, str)
    }


def _weight(schema: Any) -> int:
    if isinstance(schema, dict):
        return WEIGHT_OF_AN_OBJECT + sum(map(_weight, cast("Schema", schema).values()))
    if isinstance(schema, list):
        items = cast("list[Any]", schema)
        return len(items) + sum(map(_weight, items))
    return 0


def _ignored(*_: Any) -> Iterator[ValidationError]:
    return iter(())


def _unless_patterns(usual: Any) -> Any:
    """Skip the rule beside `patternProperties`: regular expressions would decide which fields are additional."""

    def unless_patterns(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if "patternProperties" not in schema:
            yield from usual(validator, rule, instance, schema) or ()

    return unless_patterns


def _composed(schema: Any, depth: int = 0) -> bool:
    """Whether an object combines several parts (`allOf`): closing one part would refuse the fields of the others."""
    if isinstance(schema, dict):
        node = cast("Schema", schema)
        parts: Any = node.get("allOf")
        has_several_parts = isinstance(parts, list) and len(cast("list[Any]", parts)) > 1
        return has_several_parts or (depth < DEEPEST and any(_composed(part, depth + 1) for part in node.values()))
    return isinstance(schema, list) and any(_composed(part, depth + 1) for part in cast("list[Any]", schema))


def _strict(schema: Any, depth: int = 0) -> Any:
    """The schema, closed: objects with named fields take no others."""
    if depth > DEEPEST:
        return True
    if isinstance(schema, list):
        return [_strict(part, depth + 1) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = cast("Schema", schema)
    closed = {key: part if key in VALUES else _strict(part, depth + 1) for key, part in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
