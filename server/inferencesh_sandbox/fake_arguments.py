"""Make tool arguments that fit a JSON schema, from the words of a message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferencesh_sandbox.wire import Json, is_array, is_object

if TYPE_CHECKING:
    from inferencesh_sandbox.agents.types import Tool

_DEEPEST = 8
_NOT_NAMES = frozenset({
    "i", "a", "an", "the", "what", "who", "is", "are", "do", "how", "please", "tell", "can", "could", "will", "call", "use",
})  # fmt: skip
_NO_SUBJECT = frozenset({
    "get", "set", "do", "run", "make", "call", "fetch", "list", "find", "current", "tool", "use", "send", "this", "that",
    "with", "from", "what", "which", "your", "client", "give", "gives", "return", "returns", "into", "about", "some",
})  # fmt: skip


def asks_for(text: str, tool: Tool) -> bool:
    """Whether a message asks for what a tool's name or description names."""
    if re.search(rf"\b{re.escape(tool.name)}\b", text):
        return True
    stems = _stems(text)
    name_stems = _subjects(tool.name.replace("_", " ").replace("-", " "))
    if name_stems and name_stems <= stems:
        return True
    described = _subjects(tool.description or "")
    return bool(described) and len(described & stems) * 2 >= len(described)


def _stems(text: str) -> set[str]:
    return {word.removesuffix("s") for word in re.findall(r"[^\W\d_]+", text.lower())}


def _subjects(text: str) -> set[str]:
    """The words that say what it is about."""
    return {word for word in _stems(text) if len(word) > 2} - _NO_SUBJECT


def make_arguments(schema: Json, text: str) -> Json:
    """Make an object that fits a schema: every required property, and the optional ones that the text speaks of."""
    result: Any = _ArgumentMaker(text, schema).value(schema, "", 0)
    return result if is_object(result) else {}


@dataclass
class _ArgumentMaker:
    """Reads a text from left to right: a number or a name that was used is not used again."""

    text: str
    root: Json
    _numbers: list[str] = field(init=False)
    _names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = re.findall(r"-?\d{1,15}(?:\.\d{1,15})?", self.text)
        self._names = _names(self.text)

    def value(self, schema: Json, name: str, depth: int) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._chosen(schema["enum"])
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number" as kind:
                return self._number(schema, kind)
            case "boolean":
                return name.lower() in self.text.lower() and not re.search(
                    rf"\b(no|not)\s+{re.escape(name)}", self.text
                )
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _resolved(self, schema: Json) -> Json:
        """Follow a reference, and take the first alternative that is not null."""
        if isinstance(ref := schema.get("$ref"), str) and ref.startswith("#/"):
            node: Any = self.root
            for step in ref.removeprefix("#/").split("/"):
                node = node.get(step, {})
            return node if is_object(node) else {}
        for alternatives in ("anyOf", "oneOf", "allOf"):
            subschemas: list[Json] = schema.get(alternatives) or []
            for subschema in subschemas:
                if subschema.get("type") != "null":
                    return schema | self._resolved(subschema)
        return schema

    def _chosen(self, values: list[Any]) -> Any:
        matches = (value for value in values if re.search(rf"\b{re.escape(str(value))}\b", self.text, re.IGNORECASE))
        return next(matches, values[0])

    def _object(self, schema: Json, depth: int) -> Json:
        required = set(schema.get("required") or [])
        result: Json = {}
        properties: dict[str, Json] = schema.get("properties") or {}
        for name, subschema in properties.items():
            optional = name not in required
            if depth > _DEEPEST or (optional and not self._speaks_of(name)):
                continue
            value = self.value(subschema, name, depth + 1)
            if not optional or _fits(self._resolved(subschema), value):
                result[name] = value
        return result

    def _speaks_of(self, name: str) -> bool:
        return re.search(rf"\b{re.escape(name)}\b", self.text, re.IGNORECASE) is not None

    def _array(self, schema: Json, name: str, depth: int) -> list[Any]:
        items: Json = schema.get("items") or {"type": "string"}
        count = max(1, int(schema.get("minItems") or 0))
        return [self.value(items, name, depth + 1) for _ in range(count)]

    def _number(self, schema: Json, kind: str) -> float:
        least, most = schema.get("minimum"), schema.get("maximum")
        number = float(self._numbers.pop(0)) if self._numbers else float(schema.get("default") or 1)
        number = max(number, least) if least is not None else number
        number = min(number, most) if most is not None else number
        return int(number) if kind == "integer" else number

    def _string(self, schema: Json, name: str) -> str:
        if node := re.search(rf"\b{re.escape(name)}\b\s*[:=]\s*(\"[^\"]*\"|\S+)", self.text, re.IGNORECASE):
            text = node[1].strip('"').rstrip(".,;")
        elif schema.get("default"):
            text = str(schema["default"])
        elif name in {"message", "prompt", "text", "query", "summary"}:
            text = self.text
        else:
            text = self._names.pop(0) if self._names else self.text
        return text[: int(schema.get("maxLength") or 2000)].ljust(int(schema.get("minLength") or 0))


_PLAIN_RULES = ("type", "enum", "const", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
"""Not its patterns, which may never end, and not its references, which would be fetched: the schema is anybody's."""


def _fits(schema: Json, value: Any) -> bool:
    from jsonschema import Draft202012Validator  # 50 ms, and most chats never come here

    validator: Any = Draft202012Validator({rule: schema[rule] for rule in _PLAIN_RULES if rule in schema})
    return bool(validator.is_valid(value))


def _type_of(schema: Json) -> str:
    kind: Any = schema.get("type")
    if is_array(kind):
        return next((str(item) for item in kind if item != "null"), "null")
    return str(kind or ("object" if "properties" in schema else "string"))


def _names(text: str) -> list[str]:
    """What is quoted, then what is written like a name: Paris, New York."""
    quoted = re.findall(r"[\"“«]([^\"“”«»]+)[\"”»]", text)
    written = re.findall(r"\b[A-Z][\w'-]*(?:\s[A-Z][\w'-]*)*", text)
    return quoted + [name for name in written if name.lower() not in _NOT_NAMES and name not in quoted]
