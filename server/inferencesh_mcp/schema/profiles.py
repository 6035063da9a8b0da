"""What hosts take in a tool's schema, as data: one value for each host, and one that suits them all.

The facts are those of the hosts and of the model APIs behind them in November 2026; a new one is a changed value here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
SIZES = frozenset({"minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The rules of one host, or of all."""

    bounds: frozenset[str] = NUMBERS | SIZES
    """The keywords that may bound a number, a text, a list or an object. None takes a regular expression (threat T-18)."""
    tuples: bool = True
    """Whether `prefixItems` may be used; without it every item may be what any of them may be."""
    choices: bool = True
    """Whether `anyOf` may be used below the top, alone in its schema."""
    type_lists: bool = True
    """Whether `type` may be a list; without it several types are a choice."""
    null_fields: bool = True
    """Whether an optional field may be null beside its other types; without it null is left out and said to be."""
    closed: bool = True
    """Whether `additionalProperties` may be false."""
    listed: frozenset[str] = frozenset({"string", "number"})
    """The types whose values may stand in an `enum`; of the others the description tells them."""
    blank: bool = True
    """Whether an `enum` may hold the empty text."""
    most_listed: int = 250
    """Values in one `enum`."""
    longest_listed: int = 8192
    """Bytes of one `enum`."""
    longest_name: int = 64
    """Characters of a property's name, which are ASCII letters, digits, `_` and `-` always."""
    longest_tool_name: int = 64
    """Characters of a tool's name with what the host puts before it: `mcp__server__`."""
    longest_about: int = 120
    """Characters of a property's description; 0 leaves descriptions out."""
    longest_default: int = 80
    """Bytes of a default; a longer one is left to the app."""
    most_branches: int = 32
    """Ways in which one value can be right."""
    depth: int = 24
    """Levels of schemas inside one another (reliability 4.6, as are the next two)."""
    subschemas: int = 500
    bytes: int = 128 * 1024


# Every limit of the class is the reliability page's or the strictest host's; below is where hosts differ.
CLAUDE = Profile(listed=frozenset({"string", "number", "boolean", "array", "object"}))
CODEX = replace(CLAUDE, longest_tool_name=64)
CHATGPT = CLAUDE
VS_CODE = CLAUDE
CURSOR = replace(CLAUDE, longest_tool_name=60)
# Gemini's API refuses an empty or null value in an `enum`, values that are neither texts nor numbers, and anything beside `anyOf`.
GEMINI = Profile(blank=False, longest_tool_name=63)
# google-genai up to 3.6.1 fails on a boolean `additionalProperties`, for every tool of the server.
GOOGLE_GENAI = replace(GEMINI, closed=False)
# AutoGen 0.7.5 and Semantic Kernel 1.45 fail on a list of types, for every tool of the server.
AUTOGEN = SEMANTIC_KERNEL = Profile(type_lists=False, null_fields=False)

HOSTS: dict[str, Profile] = {
    "Claude": CLAUDE,
    "Codex": CODEX,
    "ChatGPT": CHATGPT,
    "VS Code": VS_CODE,
    "Cursor": CURSOR,
    "Gemini CLI": GEMINI,
    "google-genai": GOOGLE_GENAI,
    "AutoGen": AUTOGEN,
    "Semantic Kernel": SEMANTIC_KERNEL,
}

EVERY_HOST = Profile(blank=False, type_lists=False, null_fields=False, closed=False, longest_tool_name=60)
"""The rules of all of them together. A null that comes all the same is dropped by `Compiled.restored`."""
