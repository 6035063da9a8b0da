"""The rules of the hosts, read by themselves: what each of them would refuse in a tool's schema, or change.

Written from the hosts' documents and bug reports, with nothing of the compiler's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from inferencesh_mcp.sanitize import clean

TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}
WORDS = {
    *("type", "description", "default", "enum", "anyOf", "properties", "required", "additionalProperties"),
    *("items", "prefixItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
}
Node = dict[str, Any]
Rule = Callable[[Node], Iterator[str]]


def nodes(schema: Node, depth: int = 0) -> Iterator[tuple[int, Node]]:
    """Every schema in a schema, with how deep it is."""
    yield depth, schema
    several = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *schema.get("prefixItems", [])]
    several += [schema[key] for key in ("items", "additionalProperties") if schema.get(key) not in (None, False)]
    for part in several:
        if isinstance(part, dict):
            yield from nodes(part, depth + 1)
        else:
            yield depth + 1, {"a schema that is no object": part}


def top(schema: Node) -> Iterator[str]:
    """Claude and OpenAI: one object with `properties`, and no choice at the top."""
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        yield "the top is not an object with properties"
    yield from (f"{word} at the top" for word in ("anyOf", "oneOf", "allOf", "enum", "not", "if") if word in schema)


def words(schema: Node) -> Iterator[str]:
    """All: no references, no regular expressions, nothing unknown."""
    for _, node in nodes(schema):
        yield from (f"the word {word}" for word in node.keys() - WORDS)


def types(schema: Node) -> Iterator[str]:
    """All: known types; the first of a list is what some take for the only one (Codex), so it is not null."""
    for _, node in nodes(schema):
        kinds = node.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not TYPES.issuperset(kinds) or len(kinds) != len(set(kinds)):
            yield f"the types {kinds}"
        if len(kinds) > 1 and kinds[0] == "null":
            yield "null is the first type"


def names(schema: Node) -> Iterator[str]:
    """Claude: 64 characters; JavaScript: no names that it has a meaning for."""
    for _, node in nodes(schema):
        for name in node.get("properties", {}):
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) or name in {"__proto__", "constructor", "prototype"}:
                yield f"the name {name!r}"


def lists(schema: Node) -> Iterator[str]:
    """OpenAI, VS Code, Gemini: a list has `items`, a schema."""
    for _, node in nodes(schema):
        kinds = node.get("type", [])
        if "array" in (kinds if isinstance(kinds, list) else [kinds]) and not isinstance(node.get("items"), dict):
            yield "a list without items"


def required(schema: Node) -> Iterator[str]:
    """Gemini, OpenAI: what is required has a schema, and is said once."""
    for _, node in nodes(schema):
        named = node.get("required", [])
        if not set(named) <= node.get("properties", {}).keys() or len(named) != len(set(named)):
            yield f"required {named}"
        if "required" in node and not named:
            yield "an empty list of required fields"


def choices(schema: Node) -> Iterator[str]:
    """Gemini: beside `anyOf` stands nothing."""
    for _, node in nodes(schema):
        if "anyOf" in node and (node.keys() != {"anyOf"} or len(node["anyOf"]) < 2):
            yield f"anyOf beside {sorted(node)}"


def values(schema: Node) -> Iterator[str]:
    """Gemini: `enum` holds texts that are not empty, or numbers; it holds at least one."""
    for _, node in nodes(schema):
        for value in node.get("enum", ["one"]) or [None]:
            if value == "" or isinstance(value, bool) or not isinstance(value, (str, int, float)):
                yield f"the value {value!r}"


def texts(schema: Node) -> Iterator[str]:
    """All: short descriptions in one line, of characters that can be seen."""
    for _, node in nodes(schema):
        about = node.get("description", "shown")
        if not about or clean(about, 300) != about:
            yield f"the description {about[:40]!r}"


def sizes(schema: Node) -> Iterator[str]:
    """Reliability 4.6."""
    every, sent = list(nodes(schema)), len(json.dumps(schema, ensure_ascii=False).encode())
    if len(every) > 500 or max(depth for depth, _ in every) >= 24 or sent > 128 * 1024:
        yield f"{len(every)} schemas, {sent} bytes"


def one_type(schema: Node) -> Iterator[str]:
    """AutoGen 0.7.5, Semantic Kernel 1.45: a type is a word; a list of them ends the listing of every tool."""
    yield from (f"the types {node['type']}" for _, node in nodes(schema) if isinstance(node.get("type"), list))


def booleans(schema: Node) -> Iterator[str]:
    """google-genai to 3.6.1: a boolean `additionalProperties` ends the listing of every tool."""
    for _, node in nodes(schema):
        if isinstance(node.get("additionalProperties"), bool):
            yield f"additionalProperties is {node['additionalProperties']}"


EVERYONE: tuple[Rule, ...] = (top, words, types, names, lists, required, texts, sizes)
RULES: dict[str, tuple[Rule, ...]] = {
    "Claude": EVERYONE,
    "Codex": EVERYONE,
    "ChatGPT": EVERYONE,
    "VS Code": EVERYONE,
    "Cursor": EVERYONE,
    "Gemini CLI": (*EVERYONE, choices, values),
    "google-genai": (*EVERYONE, choices, values, booleans),
    "AutoGen": (*EVERYONE, one_type),
    "Semantic Kernel": (*EVERYONE, one_type),
}


def refusals(schema: Node, host: str) -> list[str]:
    return [f"{rule.__name__}: {problem}" for rule in RULES[host] for problem in rule(schema)]
