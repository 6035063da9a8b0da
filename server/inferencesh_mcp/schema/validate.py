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

MOST_STEPS = 5_000  # rules that one value is held to: some 0.05 s, and dozens of times what a real app's input needs
MOST_STEPS_OF_A_CALL = 100_000  # the same for all values of one call, which others' turns come between
STEPS_OF_A_REFERENCE = 4  # following one takes about as long as so many rules
MOST_ERRORS = 1_000  # that are looked for in one value: eight are told
MOST_SEARCHES = 4  # for the name that a misspelt one was meant to be, in one call
HEAVIEST = 20_000  # of a schema, an item of a list weighing 1: to look it through takes 0.2 s
WEIGHT_OF_AN_OBJECT = 40  # so a schema has at most 500: real apps' have a hundred
LONGEST_SCHEMA = 1024 * 1024  # characters of its JSON
DEEPEST = 64  # a schema that nests deeper is cut to "anything"
MOST_REPAIRS = 3  # looks for what is no schema in a schema: what was wrong may have hidden more
_EACH = frozenset({"items", "prefixItems", "contains", "propertyNames", "additionalProperties"})  # of a value's parts
MOST_PROBLEMS = 8

MOST_REPAIRED_ERRORS = 1_000  # errors that are looked at in one input
REPAIRED_TEXT_LIMIT = 1_000_000  # characters of all texts of one input that are read as JSON
DEEPEST_UNION = 16  # unions inside unions whose errors are looked into

Place = tuple[str | int, ...]
LEFT_OUT: Final = object()
"""What a field means that holds nothing."""
# An empty text that breaks one of these is no text that the app takes; one that is too short may have been meant.
_OF_KIND = frozenset({"type", "enum", "const", "anyOf", "oneOf"})


def problems(schema: Schema, value: Any, work: ValidationBudget | None = None) -> list[str]:
    """Say what is wrong with `value`, one sentence a problem; an empty list means that it fits.

    A field that the schema does not name is a problem unless the schema allows more: apps drop such a field
    in silence, and the run would be paid for all the same. `work` bounds what a call spends on all of its inputs.
    """
    work = work or ValidationBudget()
    found: dict[str, None] = {}
    for error in sorted(
        validator_for(schema).errors(value, work), key=lambda error: [str(step) for step in error.path]
    ):
        for sentence in _sentences(closest_error(error), work):
            found[sentence] = None
            if len(found) == MOST_PROBLEMS:  # the rest is not told, so it is not put into words either
                return list(found)
    return list(found)


def _sentences(error: ValidationError, work: ValidationBudget) -> Iterator[str]:
    where = ".".join(str(step) for step in error.absolute_path) or "input"
    if error.schema is False:  # the library does not say where
        yield f"the app's schema takes no value where you gave {short(error.instance)}"
        return
    schema = cast("Schema", error.schema)  # a bare true breaks no rule
    fields = cast("dict[str, Schema]", schema.get("properties") or {})
    rule: Any = error.validator_value
    match error.validator:
        case "required":
            missing = (name for name in rule if name not in cast("Schema", error.instance))
            yield from (f"'{_join(where, name)}' is missing: {expected(fields.get(name, {}))}" for name in missing)
        case "additionalProperties":
            given = cast("Schema", error.instance)
            yield from (_stray(where, name, list(fields), work) for name in given if name not in fields)
        case "enum":
            close = _close(error.instance, rule, work)
            yield f"'{where}' must be one of {short(rule)}; got {short(error.instance)}{close}"
        case _:
            yield f"'{where}' must be {expected(schema)}; got {short(error.instance)}"


def _join(where: str, name: str) -> str:
    return name if where == "input" else f"{where}.{name}"


def _stray(where: str, name: str, known: list[str], work: ValidationBudget) -> str:
    near = nearest_name(name, known) if work.may_search() else None
    hint = f"did you mean '{near}'?" if near else f"the fields are {short(known)}"
    return f"'{_join(where, name)}' is not a field of this app: {hint}"


def _close(value: Any, allowed: list[Any], work: ValidationBudget) -> str:
    names = (name for name in allowed if isinstance(name, str))
    near = nearest_name(value, names, likeness=0.7) if isinstance(value, str) and work.may_search() else None
    return f". Did you mean {short(near)}?" if near else ""


def repaired(schema: Schema, value: dict[str, Any], work: ValidationBudget | None = None) -> dict[str, Any]:
    """The same value; but what does not fit the schema is what it says as JSON, or left out if it says nothing.

    A text that fits as it is stays one, whatever it looks like: `"5"` is a good prompt (I-15). A null that fits stays, too.
    """
    judged = validator_for(schema)
    meant: dict[Place, Any] = {}
    left = REPAIRED_TEXT_LIMIT
    errors = (inner for error in judged.errors(value, work) for inner in _innermost(error))
    for error in islice(errors, MOST_REPAIRED_ERRORS):
        place = tuple(error.absolute_path)
        left -= len(error.instance) if isinstance(error.instance, str) else 0
        said = _meant(error) if place and left >= 0 else None
        if said is not None:
            meant[place] = said
    if not meant:
        return value
    # All at once, then without those that do not fit that way either: a value is judged twice, however much of it is text.
    places = _places(judged, _with(value, meant), work)
    if judged.gave_up:
        return value  # whether they fit that way is not known
    wrong = {place[:length] for place in places for length in range(len(place) + 1)}
    return _with(value, {place: said for place, said in meant.items() if place not in wrong})


def _innermost(error: ValidationError, depth: int = 0) -> Iterator[ValidationError]:
    """Of a union, the errors of the branch that the value's type fits; the union itself where there is none."""
    if error.validator in {"anyOf", "oneOf"} and depth < DEEPEST_UNION:
        branches = groupby(error.context or (), lambda inner: inner.schema_path[0])
        for inside in (list(errors) for _, errors in branches):
            if not any(inner.validator == "type" and not inner.path for inner in inside):
                for inner in inside:
                    yield from _innermost(inner, depth + 1)
                return
    yield error


def _places(judged: SchemaValidator, value: Any, work: ValidationBudget | None) -> list[Place]:
    """Where the value is wrong; what is missing is wrong at its own place."""
    found: list[Place] = []
    for error in (inner for outer in judged.errors(value, work) for inner in _innermost(outer)):
        place = tuple(error.absolute_path)
        found.append(place)
        if error.validator == "required":
            required, given = cast("list[str]", error.validator_value), cast("dict[str, Any]", error.instance)
            found += [(*place, name) for name in required if name not in given]
    return found


def _meant(error: ValidationError) -> Any:
    """What a value says: the value that its text is the JSON of, or that it is left out. None where it says what it is."""
    given: Any = error.instance
    if given is None or (given == "" and error.validator in _OF_KIND):
        is_field = isinstance(error.absolute_path[-1], str)  # an item of a list has a place, and cannot be left out
        return LEFT_OUT if is_field else None
    if not isinstance(given, str):
        return None
    try:
        said = parse(given.encode())
    except (NotJson, UnicodeEncodeError):
        return None
    return None if isinstance(said, str) else said


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
    """What says where a value is not as the schema wants it."""
    text = json.dumps(schema)
    return _made(text if len(text) <= LONGEST_SCHEMA else "{}")


@lru_cache(maxsize=64)
def _made(schema_text: str) -> SchemaValidator:
    """Made once: that takes longer than to use it."""
    schema = modern(json.loads(schema_text))
    return SchemaValidator(schema if _composed(schema) else _strict(schema))


class ValidationBudget:
    """What one call may still spend on holding its values to their schema. Its inputs may be many, and their schema hostile."""

    def __init__(self) -> None:
        self.steps = MOST_STEPS_OF_A_CALL
        self.searches = MOST_SEARCHES

    def may_search(self) -> bool:
        """Whether one more name may be looked for; it counts as done."""
        self.searches -= 1
        return self.searches >= 0


class _Spent(Exception):
    """There are no steps left."""


class SchemaValidator:
    """Holds values against a schema that somebody else wrote, who may mean harm (threat T-18).

    Nothing is fetched, no regular expression is tried, and there is an end to it. What cannot be judged is no error: the
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
                # of items that cannot be put in order, each is compared with each other one
                ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "uniqueItems"),
                _untried,
            ),
        }
        counted = {name: self._counted(rule, goes_through=name in _EACH) for name, rule in rules.items()}
        bounded: Any = cast("Any", validators).extend(Draft202012Validator, counted)
        if _weight(schema) > HEAVIEST:
            schema = {}
        schema = _sound(_one_dialect(schema))
        self._references = References(schema)
        registry: Registry[Any] = Registry()  # of nothing: the library's own would fetch what a reference names
        self._validator: Any = bounded(schema, registry=registry)

    def errors(self, value: Any, work: ValidationBudget | None = None) -> list[ValidationError]:
        """Where the value is not as the schema says, as far as there are steps left to look."""
        work = work or ValidationBudget()
        self._left = given = min(MOST_STEPS, work.steps)
        found: list[ValidationError] = []
        with suppress(_Spent, RecursionError):
            found.extend(islice(self._validator.iter_errors(value), MOST_ERRORS))
        work.steps -= given - max(self._left, 0)
        return found

    @property
    def gave_up(self) -> bool:
        """Whether the last value was looked at in part only."""
        return self._left < 0

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _Spent

    def _counted(self, rule: Any, *, goes_through: bool) -> Any:
        def counted(validator: Any, wanted: Any, instance: Any, schema: Any) -> Any:
            self._spend(1 + _length(wanted) // 8 + (_length(instance) // 32 if goes_through else 0))
            return rule(validator, wanted, instance, schema)

        return counted

    def _at_target(self, validator: Any, ref: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        """What a reference leads to, by the reading that everybody has of it; one that leads nowhere says nothing."""
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
    """Of a failed union, the branch that came closest: `null` is seldom what was meant."""
    while error.validator in {"anyOf", "oneOf"} and error.context:
        meant = [part for part in error.context if part.schema != {"type": "null"}] or error.context
        error = cast("ValidationError", best_match(meant))
    return error


def _sound(schema: Any) -> Schema:
    """The same schema without what is no schema in it: a rule that cannot be held to leaves those beside it standing."""
    rules: Any = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    for _ in range(MOST_REPAIRS):
        wrong = [list(error.absolute_path) for error in rules.iter_errors(schema)]
        if not wrong:
            return cast("Schema", schema) if isinstance(schema, dict) else {}
        if not all(wrong):
            break
        for place in sorted(wrong, key=len, reverse=True):
            _take_out(schema, place)
    return {}


def _take_out(schema: Any, place: list[str | int]) -> None:
    for step in place[:-1]:
        try:
            schema = schema[step]
        except (LookupError, TypeError):
            return  # went with something around it
    if isinstance(schema, dict):
        cast("Schema", schema).pop(str(place[-1]), None)
    elif isinstance(schema, list) and isinstance(place[-1], int) and place[-1] < len(cast("list[Any]", schema)):
        schema[place[-1]] = {}


def _one_dialect(schema: Any) -> Any:
    """The same schema; a part of it that names a dialect of its own would be handed to that one's rules, patterns and all."""
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


def _untried(*_: Any) -> Iterator[ValidationError]:
    return iter(())


def _unless_patterns(usual: Any) -> Any:
    """Which fields are additional depends on the regular expressions beside it, where there are some."""

    def judged(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if "patternProperties" not in schema:
            yield from usual(validator, rule, instance, schema) or ()

    return judged


def _composed(schema: Any, depth: int = 0) -> bool:
    """Whether an object is put together from several parts (`allOf`): closing one part would refuse the others'."""
    if isinstance(schema, dict):
        node = cast("Schema", schema)
        parts: Any = node.get("allOf")
        several = isinstance(parts, list) and len(cast("list[Any]", parts)) > 1
        return several or (depth < DEEPEST and any(_composed(part, depth + 1) for part in node.values()))
    return isinstance(schema, list) and any(_composed(part, depth + 1) for part in cast("list[Any]", schema))


def _strict(schema: Any, depth: int = 0) -> Any:
    """The same schema, closed: objects with named fields take no others."""
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
