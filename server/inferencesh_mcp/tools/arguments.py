"""Normalize the arguments that hosts send to what the tool's schema asks for. Pure.

An argument is changed only if it has one possible meaning. Any other stays as it is, and validation refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import NotJson, is_array, is_object, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

INJECTED = frozenset(
    {
        # n8n before 2.2.5 adds the fields of the workflow item to every call (n8n#21500, #22787).
        *("tool", "toolCallId", "sessionId", "action", "chatInput"),
        # CrewAI adds the agent's fingerprint (crewAI#4796).
        "security_context",
        # Cursor declares this field for a tool without any, because its models must fill in at least one.
        "random_string",
    }
)
"""Arguments that hosts add by themselves."""

_EMPTY_TEXTS = frozenset({"", "null"})
"""What hosts send for an optional object, list, number or choice left empty."""


def without_injected(arguments: dict[str, Any], declared: Iterable[str]) -> dict[str, Any]:
    """The arguments without those that hosts are known to add, unless the tool declares an argument of that name."""
    extra = INJECTED.difference(declared)
    return {name: value for name, value in arguments.items() if name not in extra}


def normalized(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Normalize the arguments of a call by the tool's input schema.

    - Arguments that hosts add by themselves are dropped.
    - An optional argument is dropped if it is null, or an empty text where the schema takes no text.
    - A text in a list of objects is parsed as JSON.
    """
    properties: dict[str, Any] = schema.get("properties", {})
    required = schema.get("required", [])
    result: dict[str, Any] = {}
    for name, value in without_injected(arguments, properties).items():
        declared = properties.get(name)
        if declared is None:
            result[name] = value  # the caller of this function refuses it by name
        elif name in required or not _is_left_out(value, declared):
            result[name] = _parse_objects(value, declared)
    return result


def _is_left_out(value: Any, declared: dict[str, Any]) -> bool:
    if value is None:
        return True
    takes_text = declared.get("type") == "string" and "enum" not in declared
    return not takes_text and isinstance(value, str) and value.strip() in _EMPTY_TEXTS


def _parse_objects(value: Any, declared: dict[str, Any]) -> Any:
    if not is_array(value) or declared.get("items", {}).get("type") != "object":
        return value
    return [_parse_object(item) if isinstance(item, str) else item for item in value]


def _parse_object(text: str) -> Any:
    """Parse a JSON object; return the text itself if it is not one."""
    try:
        parsed = parse(text.encode())
    except (NotJson, UnicodeEncodeError):
        return text
    return parsed if is_object(parsed) else text
