"""Inputs made from a schema, right and wrong: a seeded generator that knows where a schema can be broken.

It reads JSON Schema on its own, by nothing of the compiler's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    3,
    2.5,
    10**12,
    "",
    "text",
    "x" * 300,
    [],
    [None],
    ["a", 1],
    {},
    {"a": None},
)
DEEPEST = 6


class Maker:
    """Makes values for a schema; at each place it goes wrong, on purpose, with the probability `wrong`."""

    def __init__(self, root: Any, rng: random.Random, wrong: float) -> None:
        self.root, self.rng, self.wrong = root, rng, wrong

    def value(self, schema: Any, depth: int = 0) -> Any:
        if not isinstance(schema, dict) or depth > DEEPEST or self.rng.random() < self.wrong / 2:
            return self.rng.choice(JUNK)
        if "$ref" in schema:
            return self.value(pointed(self.root, schema["$ref"]), depth + 1)
        if schema.get("allOf"):
            parts = [self.value(part, depth + 1) for part in schema["allOf"]]
            whole = self.rng.choice(parts)
            for part in parts:
                whole = {**whole, **part} if isinstance(whole, dict) and isinstance(part, dict) else whole
            rest = self.value({key: part for key, part in schema.items() if key != "allOf"}, depth + 1)
            return {**whole, **rest} if isinstance(whole, dict) and isinstance(rest, dict) else whole
        for union in ("anyOf", "oneOf"):
            if schema.get(union):
                return self.value(self.rng.choice(schema[union]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return "no such value" if self.rng.random() < self.wrong else self.rng.choice(schema["enum"] or [None])
        kind = schema.get("type", self.rng.choice(["string", "object", "integer"]))
        return self.of_kind(self.rng.choice(kind) if isinstance(kind, list) else kind, schema, depth)

    def of_kind(self, kind: str, schema: dict[str, Any], depth: int) -> Any:
        match kind:
            case "string":
                return "é" * self.between(schema.get("minLength", 0), schema.get("maxLength", 12))
            case "integer":
                return self.between(schema.get("minimum", 0), schema.get("maximum", 100))
            case "number":
                low, high = schema.get("minimum", 0), schema.get("maximum", 1)
                return self.rng.choice([low, high, (low + high) / 2, self.between(low, high)])
            case "boolean":
                return self.rng.random() < 0.5
            case "array":
                return self.array(schema, depth)
            case "object":
                return self.object(schema, depth)
            case _:
                return None

    def between(self, low: float, high: float) -> int:
        """A whole number in the range, often at its ends; a wrong one is just outside."""
        first, last = int(low), max(int(high), int(low))
        if self.rng.random() < self.wrong:
            return self.rng.choice([max(first - 1, 0), last + 1])
        return self.rng.choice([first, last, self.rng.randint(first, min(last, first + 40))])

    def array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        first = [self.value(part, depth + 1) for part in schema.get("prefixItems", [])]
        low = schema.get("minItems", 0)
        count = self.between(low, min(schema.get("maxItems", low + 3), low + 30))
        return (first + [self.value(schema.get("items", {}), depth + 1) for _ in range(count)])[
            : max(count, len(first))
        ]

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        required = schema.get("required", [])
        for name, part in schema.get("properties", {}).items():
            wanted = self.rng.random() >= self.wrong if name in required else self.rng.random() < 0.5
            if wanted and part is not False:
                made[name] = self.value(part, depth + 1)
        for name in required:
            if name not in schema.get("properties", {}) and self.rng.random() >= self.wrong:
                made[name] = self.value(True)
        others = schema.get("additionalProperties", True)
        if self.rng.random() < (self.wrong if others is False else 0.15):
            made["extra"] = self.value(others, depth + 1)
        return made


def pointed(root: Any, ref: str) -> Any:
    node = root
    for step in ref.removeprefix("#").split("/")[1:]:
        node = node.get(step.replace("~1", "/").replace("~0", "~"), {})
    return node


def inputs(schema: dict[str, Any], seed: str, count: int = 200) -> Iterator[dict[str, Any]]:
    """Objects for a schema: a fifth meant to be right, and the others wrong in one place or in many."""
    rng = random.Random(seed)
    for at in range(count):
        made = Maker(schema, rng, (0.0, 0.03, 0.1, 0.25, 0.6)[at % 5]).value(schema)
        yield made if isinstance(made, dict) else {"extra": made}
