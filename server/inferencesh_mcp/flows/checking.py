"""An input against its app's schema: what is wrong, in words a model can act on. Pure.

The schemas are those of real apps (JSON Schema as pydantic writes it): `$defs`, nullable unions, enums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.flows.expecting import Schema, expected, short
from inferencesh_mcp.flows.judging import judge, nearest

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

MOST_PROBLEMS = 8


def problems(schema: Schema, value: Any) -> list[str]:
    """Say what is wrong with `value`, one sentence a problem; an empty list means that it fits.

    A field that the schema does not name is a problem unless the schema allows more: apps drop such a field
    in silence, and the run would be paid for all the same.
    """
    errors = sorted(judge(schema).errors(value), key=lambda error: [str(step) for step in error.absolute_path])
    found = [sentence for error in errors for sentence in _sentences(nearest(error))]
    return list(dict.fromkeys(found))[:MOST_PROBLEMS]


def _sentences(error: ValidationError) -> list[str]:
    where = ".".join(str(step) for step in error.absolute_path) or "input"
    if error.schema is False:  # the library does not say where
        return [f"the app's schema takes no value where you gave {short(error.instance)}"]
    schema = cast("Schema", error.schema)  # a bare true breaks no rule
    fields = cast("dict[str, Schema]", schema.get("properties") or {})
    rule: Any = error.validator_value
    match error.validator:
        case "required":
            missing = [name for name in rule if name not in cast("Schema", error.instance)]
            return [f"'{_join(where, name)}' is missing: {expected(fields.get(name, {}))}" for name in missing]
        case "additionalProperties":
            given = cast("Schema", error.instance)
            return [_stray(where, name, list(fields)) for name in given if name not in fields]
        case "enum":
            close = _close(error.instance, rule)
            return [f"'{where}' must be one of {short(rule)}; got {short(error.instance)}{close}"]
        case _:
            return [f"'{where}' must be {expected(schema)}; got {short(error.instance)}"]


def _join(where: str, name: str) -> str:
    return name if where == "input" else f"{where}.{name}"


def _stray(where: str, name: str, known: list[str]) -> str:
    near = _nearest(name, known)
    hint = f"did you mean '{near}'?" if near else f"the fields are {short(known)}"
    return f"'{_join(where, name)}' is not a field of this app: {hint}"


def _close(value: Any, allowed: list[Any]) -> str:
    near = _nearest(value, [name for name in allowed if isinstance(name, str)], 0.7)
    return f". Did you mean {short(near)}?" if near else ""


def _nearest(value: Any, names: list[str], likeness: float = 0.6) -> str:
    import difflib  # for whoever spelt something wrong: a start does not need it

    near = difflib.get_close_matches(value, names, n=1, cutoff=likeness) if isinstance(value, str) else []
    return next(iter(near), "")
