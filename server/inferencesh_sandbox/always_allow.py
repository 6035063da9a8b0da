"""The `always-allow` options of a tool call, narrowest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox.ids import lasting_id, short
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from inferencesh_sandbox.messages import Invocation


def options(invocation: Invocation) -> Json:
    """The options for a call, as AlwaysAllowOptionsDTO."""
    if invocation.tool.type == "client":
        return {"options": [], "default": "", "unavailable": "No rule can allow what the caller's side carries out."}
    choices = [
        _option(invocation, "exact", f"{invocation.tool.name} with exactly these inputs", invocation.exactly),
        _option(invocation, "tool", f"every use of {invocation.tool.name}", ""),
    ]
    return {
        "options": choices,
        "default": choices[0]["key"],
        "unavailable": "",
        "secret_send": invocation.secret_send,
    }


def find_option(invocation: Invocation, key: str) -> Json | None:
    """Return the current option with this key. None if no key is given.

    Raises:
        Problem: 409, the key names no current option.
    """
    if not key:
        return None
    choice: Json | None = next((option for option in options(invocation)["options"] if option["key"] == key), None)
    if choice is None:
        raise Problem(409, "conflict", f"option {key!r} is no longer offered for this call")
    return choice


def rule(invocation: Invocation, specifier: str, label: str) -> Json:
    """A rule of the chat, as a PolicyRuleDTO."""
    return {
        "effect": "allow",
        "kind": "Tool",
        "selector": invocation.tool.name,
        "specifier": specifier,
        "label": label,
    }


def _option(invocation: Invocation, scope: str, label: str, specifier: str) -> Json:
    key = short(lasting_id(f"{scope} {invocation.tool.name} {specifier}"))
    description = "" if specifier else "Whatever its inputs are."
    rules = [rule(invocation, specifier, label)]
    return {"key": f"{scope}:{key}", "scope": scope, "label": label, "description": description, "rules": rules}
