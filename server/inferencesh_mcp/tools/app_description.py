"""Describe an app for a model: a line for each field, what it needs, and its price. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import is_array, is_object, items
from inferencesh_mcp.flows.run_request import connections_of
from inferencesh_mcp.redaction import without_secrets
from inferencesh_mcp.sanitize import clean, label, quoted
from inferencesh_mcp.schema.describe import expected, short
from inferencesh_mcp.schema.refs import Document, document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.api.models import AppFunction, AppVersion, Estimate

MAX_DESCRIPTION = 160  # characters of a field's description
MAX_PARTS = 2_000  # of a schema that are read: references can expand without end


def fields(schema: dict[str, Any]) -> list[str]:
    """A line for each field: name, `*` if it is required, type, default, description."""
    references = document(schema)
    schema = _object(references.root)
    required = set(map(str, items(schema.get("required"))))
    properties = _object(schema.get("properties"))
    budget = iter(range(MAX_PARTS))
    return [_field(name, _resolved(part, references, budget), name in required) for name, part in properties.items()]


def _field(name: str, part: dict[str, Any], required: bool) -> str:
    default = part.get("default")
    default_text = f", default {short(default)}" if default not in (None, "", [], {}) else ""
    description = clean(str(part.get("description") or ""), MAX_DESCRIPTION)
    return f"{label(name)}{'*' if required else ''}: {expected(part)}{default_text}" + (
        f". {quoted(description, MAX_DESCRIPTION)}" if description else ""
    )


def _object(value: Any) -> dict[str, Any]:
    return value if is_object(value) else {}


def _resolved(schema: Any, root: Document, budget: Iterator[int], depth: int = 0) -> dict[str, Any]:
    """The field with its references resolved a few levels deep. Empty if the budget of parts is used up."""
    if next(budget, None) is None:
        return {}
    part = _object(schema)  # `true` is a schema too, and an app may put anything here
    if isinstance(ref := part.get("$ref"), str) and depth < 4:
        part = {
            **_resolved(root.target(ref), root, budget, depth + 1),
            **{key: value for key, value in part.items() if key != "$ref"},
        }
    unions = {
        key: [
            _resolved(branch, root, budget, depth + 1)
            for branch in items(part[key])
            if _object(branch).get("type") != "null"
        ]
        for key in ("anyOf", "oneOf")
        if is_array(part.get(key))
    }
    inner = (
        {"items": _resolved(part["items"], root, budget, depth + 1)}
        if isinstance(part.get("items"), dict) and depth < 4
        else {}
    )
    return {**part, **unions, **inner}


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


def price(estimate: Estimate | None) -> str:
    """The price of a run in the platform's unit (100,000,000 microcents are a dollar), or that it is unknown."""
    if estimate is None or estimate.confidence not in {"exact", "range"}:
        note = estimate.pricing_description if estimate else ""
        return f"no estimate for this input. {quoted(note, 300)}" if note else "no estimate for this input."
    low, high = (
        (estimate.microcents, estimate.microcents) if estimate.confidence == "exact" else (estimate.min, estimate.max)
    )
    if low is None or high is None:
        return "no estimate for this input."
    range_text = f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
    depends = f"; depends on {', '.join(map(label, estimate.depends_on))}" if estimate.depends_on else ""
    return f"{range_text} microcents (${high / 1e8:.6g}{' at most' if low != high else ''}){depends}"
