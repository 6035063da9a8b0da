"""An input against its app's schema: what is wrong, in words a model can act on. Pure.

The schemas are those of real apps (JSON Schema as pydantic writes it): `$defs`, nullable unions, enums.
"""

from __future__ import annotations

import difflib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError

Schema = dict[str, Any]
MOST_PROBLEMS = 8
MOST_SHOWN = 120  # characters of a value or of a list of names in one message
MOST_REFERENCES = 20_000  # followed for one value: some 0.3 s, and thousands of times what a real app's schema needs
MOST_PARTS = 2_000  # objects in a schema; to look through so many takes a second, and real apps have up to a hundred
DEEPEST = 64  # a schema that nests deeper is cut to "anything"
_VALUES = frozenset({"enum", "const", "default", "examples"})  # what is in them is no schema


def problems(schema: Schema, value: Any) -> list[str]:
    """Say what is wrong with `value`, one sentence a problem; an empty list means that it fits.

    A field that the schema does not name is a problem unless the schema allows more: apps drop such a field
    in silence, and the run would be paid for all the same.
    """
    errors = sorted(judge(schema).errors(value), key=lambda error: [str(step) for step in error.absolute_path])
    found = [sentence for error in errors for sentence in _sentences(_nearest(error))]
    return list(dict.fromkeys(found))[:MOST_PROBLEMS]


def judge(schema: Schema) -> Judge:
    """What says the errors that `problems` puts into words."""
    return _made(json.dumps(schema))


@lru_cache(maxsize=64)
def _made(schema_text: str) -> Judge:
    """Made once: that takes longer than to use it."""
    schema = json.loads(schema_text)
    return Judge(schema if _composed(schema) else _strict(schema))


class Judge:
    """Holds values against a schema that somebody else wrote, who may mean harm (threat T-18).

    Nothing is fetched, no regular expression is tried, and there is an end to it. What cannot be judged is no error: the
    app's own server decides.
    """

    def __init__(self, schema: Schema) -> None:
        # 60 ms at import, needed only when something runs (house rule: nothing slow before the first reply)
        from jsonschema import Draft202012Validator, validators
        from jsonschema.exceptions import SchemaError
        from referencing import Registry

        self._left = MOST_REFERENCES
        own = cast("dict[str, Any]", Draft202012Validator.VALIDATORS)
        bounded: Any = cast("Any", validators).extend(
            Draft202012Validator,
            {
                "$ref": self._followed(own["$ref"]),
                "$dynamicRef": self._followed(own["$dynamicRef"]),
                "additionalProperties": _unless_patterns(own["additionalProperties"]),
                **dict.fromkeys(
                    # of items that cannot be put in order, each is compared with each other one
                    ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "uniqueItems"),
                    _untried,
                ),
            },
        )
        try:
            if _parts(schema) > MOST_PARTS:
                schema = {}
            schema = _one_dialect(schema)
            Draft202012Validator.check_schema(schema)
        except SchemaError:
            schema = {}
        registry: Registry[Any] = Registry()  # of nothing: the library's own would fetch what a reference names
        self._validator: Any = bounded(schema, registry=registry)

    def errors(self, value: Any) -> list[ValidationError]:
        """Where the value is not as the schema says."""
        self._left = MOST_REFERENCES
        try:
            return list(self._validator.iter_errors(value))
        except RecursionError:
            return []

    def _followed(self, follow: Any) -> Any:
        from referencing.exceptions import Unresolvable

        def followed(validator: Any, ref: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            self._left -= 1
            if self._left < 0:
                raise RecursionError
            try:
                yield from follow(validator, ref, instance, schema)
            except Unresolvable:
                return

        return followed


def _one_dialect(schema: Any) -> Any:
    """The same schema; a part of it that names a dialect of its own would be handed to that one's rules, patterns and all."""
    if isinstance(schema, list):
        return [_one_dialect(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = cast("Schema", schema)
    return {
        key: part if key in _VALUES else _one_dialect(part)
        for key, part in node.items()
        if key not in {"$schema", "$id"} or not isinstance(part, str)
    }


def _parts(schema: Any) -> int:
    if isinstance(schema, dict):
        return 1 + sum(map(_parts, cast("Schema", schema).values()))
    return sum(map(_parts, cast("list[Any]", schema))) if isinstance(schema, list) else 0


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
    closed = {key: part if key in _VALUES else _strict(part, depth + 1) for key, part in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _nearest(error: ValidationError) -> ValidationError:
    """Of a failed union, the branch that came closest: `null` is seldom what was meant."""
    from jsonschema.exceptions import best_match  # pyright: ignore[reportUnknownVariableType]

    while error.validator in {"anyOf", "oneOf"} and error.context:
        meant = [part for part in error.context if part.schema != {"type": "null"}] or error.context
        error = cast("ValidationError", best_match(meant))
    return error


def _sentences(error: ValidationError) -> list[str]:
    where = ".".join(str(step) for step in error.absolute_path) or "input"
    if error.schema is False:  # the library does not say where
        return [f"the app's schema takes no value where you gave {_short(error.instance)}"]
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
            return [f"'{where}' must be one of {_short(rule)}; got {_short(error.instance)}{close}"]
        case _:
            return [f"'{where}' must be {expected(schema)}; got {_short(error.instance)}"]


def _join(where: str, name: str) -> str:
    return name if where == "input" else f"{where}.{name}"


def _stray(where: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the fields are {_short(known)}"
    return f"'{_join(where, name)}' is not a field of this app: {hint}"


def _close(value: Any, allowed: list[Any]) -> str:
    names = [name for name in allowed if isinstance(name, str)]
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.7) if isinstance(value, str) else []
    return f". Did you mean {_short(near[0])}?" if near else ""


def expected(schema: Any) -> str:
    """What a field takes, in a few words: `an integer from 1 to 8`, `one of ["png", "jpeg"]`, `a file`."""
    if not isinstance(schema, dict):
        return "anything"
    schema = cast("Schema", schema)
    if "enum" in schema:
        return f"one of {_short(schema['enum'])}"
    if "const" in schema:
        return _short(schema["const"])
    for union in ("anyOf", "oneOf"):
        if isinstance(schema.get(union), list):
            return " or ".join(dict.fromkeys(expected(part) for part in schema[union]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(_noun(str(part), schema) for part in cast("list[Any]", kind))
    return _noun(str(kind), schema) + _range(schema)


_NOUNS = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "None": "as the app's schema says",
}


def _noun(kind: str, schema: Schema) -> str:
    if kind == "string" and schema.get("format") == "file":
        return "a file (path, URL or data URI)"
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"a list of {expected(schema['items']).removeprefix('a ').removeprefix('an ')}"
    return _NOUNS.get(kind, kind)


def _range(schema: Schema) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    below, above = "exclusiveMaximum" in schema, "exclusiveMinimum" in schema
    if low is not None and high is not None:
        return f" {'above' if above else 'from'} {low} {'and below' if below else 'to'} {high}"
    if low is not None:
        return f" {'above' if above else 'of at least'} {low}"
    if high is not None:
        return f" {'below' if below else 'of at most'} {high}"
    if "minLength" in schema or "maxLength" in schema:
        return f" of {schema.get('minLength', 0)} to {schema.get('maxLength', 'any number of')} characters"
    if "minItems" in schema or "maxItems" in schema:
        return f" of {schema.get('minItems', 0)} to {schema.get('maxItems', 'any number of')} items"
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"
