"""An input against its app's schema: what is wrong, in words a model can act on. Pure.

The schemas are those of real apps (JSON Schema as pydantic writes it): `$defs`, nullable unions, enums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.schema.describe import Schema, expected, short
from inferencesh_mcp.schema.near_names import nearest_name
from inferencesh_mcp.schema.validator import ValidationBudget, closest_error, validator_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError

MOST_PROBLEMS = 8


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
