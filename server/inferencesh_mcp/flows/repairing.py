"""Values that a host sent as the text of their JSON, made what the app's schema asks for. Pure.

Some hosts can send no object, list or number inside a tool's arguments, and write them as a string instead.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.strictjson import NotJson, parse
from inferencesh_mcp.flows.judging import judge

if TYPE_CHECKING:
    from inferencesh_mcp.flows.expecting import Schema
    from inferencesh_mcp.flows.judging import Work

LONGEST = 1_000_000  # characters of all texts of one input that are read as JSON

Place = tuple[str | int, ...]


def repaired(schema: Schema, value: dict[str, Any], work: Work | None = None) -> dict[str, Any]:
    """The same value; but a text that does not fit the schema, while what it says as JSON does, is that.

    A text that fits as it is stays one, whatever it looks like: `"5"` is a good prompt (I-15).
    """
    judged = judge(schema)
    meant: dict[Place, Any] = {}
    left = LONGEST
    for error in judged.errors(value, work):
        place = tuple(error.absolute_path)
        left -= len(error.instance) if isinstance(error.instance, str) else 0
        said = _meant(error.instance) if place and left >= 0 else None
        if said is not None:
            meant[place] = said
    if not meant:
        return value
    # All at once, then without those that do not fit that way either: a value is judged twice, however much of it is text.
    places = [tuple(error.absolute_path) for error in judged.errors(_with(value, meant), work)]
    if judged.gave_up:
        return value  # whether they fit that way is not known
    wrong = {place[:length] for place in places for length in range(len(place) + 1)}
    return _with(value, {place: said for place, said in meant.items() if place not in wrong})


def _meant(given: Any) -> Any:
    """What a text says as JSON, where that is something else than a text."""
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
        inner[place[-1]] = part
    return changed
