"""Describe an app for a model: a line for each field, what it needs, and its price. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import as_object, as_text, is_array, is_object, items, texts
from inferencesh_mcp.flows.run_request import connections_of, is_live
from inferencesh_mcp.redaction import without_secrets
from inferencesh_mcp.sanitize import clean, label, quoted
from inferencesh_mcp.schema.describe import READ, expected, short
from inferencesh_mcp.schema.refs import Document, document
from inferencesh_mcp.tools.units import price

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.api.models import AppFunction, AppVersion, Estimate

MAX_DESCRIPTION = 160  # characters of a field's description
MAX_PARTS = 2_000  # of a schema that are read: references can expand without end
_READ = READ | {"default", "description"}


def fields(schema: dict[str, Any]) -> list[str]:
    """A line for each field: name, `*` if it is required, type, default, description."""
    references = document(schema)
    schema = as_object(references.root)
    required = set(texts(schema.get("required")))
    properties = as_object(schema.get("properties"))
    budget = iter(range(MAX_PARTS))
    return [_field(name, _resolved(part, references, budget), name in required) for name, part in properties.items()]


def input_lines(schema: dict[str, Any], *, indent: str = "") -> list[str]:
    """The fields of an input under their heading, or a line that says why there are none."""
    if lines := fields(schema):
        return [f"{indent}Input (* is required):", *(f"{indent}  {line}" for line in lines)]
    is_free = bool(schema.get("additionalProperties", "properties" not in schema))
    return [f"{indent}Input: any JSON fields; the app names none." if is_free else f"{indent}Input: no fields."]


def sample_input(schema: dict[str, Any]) -> dict[str, Any]:
    """An input to ask a price for: each field's default, and for a required field without one its first choice or least
    value. A text is empty."""
    references = document(schema)
    root = as_object(references.root)
    required = set(texts(root.get("required")))
    budget = iter(range(MAX_PARTS))
    sample: dict[str, Any] = {}
    for name, field in as_object(root.get("properties")).items():
        part = _resolved(field, references, budget)
        if part.get("default") is not None:
            sample[name] = part["default"]
        elif name in required:
            choices = items(part.get("enum"))
            sample[name] = choices[0] if choices else part.get("minimum", _EMPTY.get(str(part.get("type"))))
    return {name: value for name, value in sample.items() if value is not None}


_EMPTY: dict[str, Any] = {"string": "", "array": [], "object": {}, "boolean": False, "integer": 1, "number": 1}


def price_for(estimate: Estimate | None, sample: dict[str, Any]) -> dict[str, Any]:
    """Those values of the sample that its price depends on."""
    return {name: sample[name] for name in (estimate.depends_on if estimate else ()) if name in sample}


def price_line(estimate: Estimate | None, sample: dict[str, Any]) -> str:
    """The price, and the input that it holds for."""
    if estimate is None or estimate.bounds is None:
        return f"Price: {price(estimate)}. app_run(dry_run=true) says what one input costs."
    values = price_for(estimate, sample)
    for_input = ", ".join(f"{label(name)}={short(value)}" for name, value in values.items())
    amount = price(estimate.model_copy(update={"depends_on": ()})) if values else price(estimate)
    return f"Price for {for_input}: {amount}" if for_input else f"Price: {amount}"


def function_lines(name: str, function: AppFunction, *, is_default: bool) -> list[str]:
    """One of several functions: what it does and takes."""
    about = clean(function.description, MAX_DESCRIPTION)
    notes = [
        *(["default"] if is_default else []),
        *(["a live WebSocket, which no tool can run"] if is_live(function) else []),
    ]
    head = f"- {label(name)}" + (f" ({', '.join(notes)})" if notes else "")
    return [
        f"{head}: {quoted(about, MAX_DESCRIPTION)}" if about else head,
        *input_lines(function.input_schema, indent="  "),
    ]


def _field(name: str, part: dict[str, Any], required: bool) -> str:
    default = part.get("default")
    default_text = f", default {short(default)}" if default not in (None, "", [], {}) else ""
    description = clean(as_text(part.get("description")), MAX_DESCRIPTION)
    return f"{label(name)}{'*' if required else ''}: {expected(part)}{default_text}" + (
        f". {quoted(description, MAX_DESCRIPTION)}" if description else ""
    )


def _resolved(schema: Any, root: Document, budget: Iterator[int], depth: int = 0) -> dict[str, Any]:
    """What is read of a field, its references resolved a few levels deep. Empty if the budget of parts is used up."""
    if next(budget, None) is None:
        return {}
    schema = as_object(schema)  # `true` is a schema too, and an app may put anything here
    part = {key: schema[key] for key in _READ & schema.keys()}
    if isinstance(ref := part.get("$ref"), str) and depth < 4:
        del part["$ref"]
        part = {**_resolved(root.target(ref), root, budget, depth + 1), **part}
    for union in ("anyOf", "oneOf"):
        if is_array(part.get(union)):
            branches = [branch for branch in part[union] if as_object(branch).get("type") != "null"]
            part[union] = [_resolved(branch, root, budget, depth + 1) for branch in branches]
    if is_object(part.get("items")) and depth < 4:
        part["items"] = _resolved(part["items"], root, budget, depth + 1)
    return part


def needs(version: AppVersion, function: AppFunction) -> list[str]:
    """What a person has to supply before the app can run, and how to get it if that is known."""
    secrets = [_requirement("secret", item.key, item.optional, item.description) for item in version.required_secrets]
    return secrets + [
        _requirement("connection", item.key, item.optional, item.instructions or item.description)
        for item in connections_of(version, function)
    ]


def _requirement(kind: str, key: str, optional: bool, how: str) -> str:
    description = without_secrets(how[: MAX_DESCRIPTION * 10]).strip()
    return f"{kind} {label(key, 80)}{' (optional)' if optional else ''}" + (
        f": {quoted(description, MAX_DESCRIPTION)}" if description else ""
    )
