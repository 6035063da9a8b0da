"""Values that a host sent as the text of their JSON, made what the app's schema asks for. Pure.

Some hosts can send no object, list or number inside a tool's arguments, and write them as a string instead.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.strictjson import NotJson, parse
from inferencesh_mcp.flows.judging import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh_mcp.flows.expecting import Schema

MOST = 64  # texts that are looked at in one input
LONGEST = 1_000_000  # characters of one of them


def repaired(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    """The same value; but a text that does not fit the schema, while what it says as JSON does, is that.

    A text that fits as it is stays one, whatever it looks like: `"5"` is a good prompt (I-15).
    """
    judged = judge(schema)
    for error in judged.errors(value)[:MOST]:
        place = list(error.absolute_path)
        meant = _meant(error.instance) if place else None
        if meant is None:
            continue
        better = _with(value, place, meant)
        if not any(list(left.absolute_path)[: len(place)] == place for left in judged.errors(better)):
            value = better
    return value


def _meant(given: Any) -> Any:
    """What a text says as JSON, where that is something else than a text."""
    if not isinstance(given, str) or len(given) > LONGEST:
        return None
    try:
        said = parse(given.encode())
    except (NotJson, UnicodeEncodeError):
        return None
    return None if isinstance(said, str) else said


def _with(value: dict[str, Any], place: Sequence[str | int], part: Any) -> dict[str, Any]:
    changed = copy.deepcopy(value)
    inner: Any = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = part
    return changed
