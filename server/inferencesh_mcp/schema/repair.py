"""An app's input as hosts really send it, changed to what the app's schema asks for. Pure.

Some hosts can send no object, list or number inside a tool's arguments, and write them as a string instead. Others fill
in every field: an optional one that the model left open comes as null or as an empty text.
"""

from __future__ import annotations

import copy
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final, cast

from inferencesh_mcp.api.json import NotJson, parse
from inferencesh_mcp.schema.validator import validator_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError

    from inferencesh_mcp.schema.describe import Schema
    from inferencesh_mcp.schema.validator import SchemaValidator, ValidationBudget

MOST = 1_000  # errors that are looked at in one input
LONGEST = 1_000_000  # characters of all texts of one input that are read as JSON
DEEPEST = 16  # unions inside unions whose errors are looked into

Place = tuple[str | int, ...]
LEFT_OUT: Final = object()
"""What a field means that holds nothing."""
# An empty text that breaks one of these is no text that the app takes; one that is too short may have been meant.
_OF_KIND = frozenset({"type", "enum", "const", "anyOf", "oneOf"})


def repaired(schema: Schema, value: dict[str, Any], work: ValidationBudget | None = None) -> dict[str, Any]:
    """The same value; but what does not fit the schema is what it says as JSON, or left out if it says nothing.

    A text that fits as it is stays one, whatever it looks like: `"5"` is a good prompt (I-15). A null that fits stays, too.
    """
    judged = validator_for(schema)
    meant: dict[Place, Any] = {}
    left = LONGEST
    errors = (inner for error in judged.errors(value, work) for inner in _innermost(error))
    for error in islice(errors, MOST):
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
    if error.validator in {"anyOf", "oneOf"} and depth < DEEPEST:
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
