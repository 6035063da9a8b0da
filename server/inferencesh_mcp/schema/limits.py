"""What every host takes in a tool's schema, as data.

The facts are those of the hosts and of the model APIs behind them in November 2026: Claude, Codex, ChatGPT, VS Code, Cursor,
Gemini, google-genai, AutoGen and Semantic Kernel. Each limit is the strictest host's, or the reliability page's (4.6).
"""

from __future__ import annotations

from dataclasses import dataclass

LISTED_KINDS = frozenset({"string", "number"})
"""The types whose values may stand in an `enum` (Gemini takes no others); other values go into the description."""
MOST_LISTED = 250
"""Values in one `enum`."""
LONGEST_NAME = 64
"""Characters of a property's name, which are ASCII letters, digits, `_` and `-`."""
LONGEST_TOOL_NAME = 60
"""Characters of a tool's name with what the host puts before it, as `mcp__server__` (Cursor)."""


@dataclass(frozen=True, kw_only=True)
class HostLimits:
    """How large a schema may be, and how much of it is detail."""

    null_fields: bool = False
    """Whether an optional field may be null beside its other types. AutoGen 0.7.5 and Semantic Kernel 1.45 fail on that."""
    longest_listed: int = 8192
    """Bytes of one `enum`."""
    longest_about: int = 120
    """Characters of a property's description; 0 leaves descriptions out."""
    longest_default: int = 80
    """Bytes of a default; a longer one is left to the app."""
    most_branches: int = 32
    """Ways in which one value can be right."""
    depth: int = 24
    """Levels of schemas inside one another."""
    subschemas: int = 500
    bytes: int = 128 * 1024


EVERY_HOST = HostLimits()
