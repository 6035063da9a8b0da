"""Read an app's JSON Schema: resolve references, and translate older drafts. Every reader of a schema uses this, and guards against circles itself. Pure.

A reference that leads out of the schema is never fetched (threat T-18): it has no target.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.bounded import BoundedDict

Schema = dict[str, Any]

DEEPEST = 64
"""Levels of a schema that are read; no answer of the API has more."""
MAX_RECENT = 64
"""Schemas whose translation is cached."""
VALUES = frozenset({"enum", "const", "default", "examples"})
"""Keywords that hold values, not schemas."""
MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords that hold schemas by name: a field may be called `items`."""
_INDEX = re.compile(r"[0-9]{1,5}", re.ASCII)


class Document:
    """A whole schema in draft 2020-12, and the targets of its references. It is never changed."""

    def __init__(self, schema: Any) -> None:
        self.root = _modern(schema, 0)

    def target(self, ref: str) -> Any:
        """The target of a pointer (`#/$defs/My%20File`, `#/properties/a`); None if there is none."""
        if ref != "#" and not ref.startswith("#/"):
            return None
        node: Any = self.root
        for step in ref[2:].split("/") if len(ref) > 2 else ():
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if is_object(node):
                node = node.get(key)
            elif is_array(node) and _INDEX.fullmatch(key) and int(key) < len(node):
                node = node[int(key)]
            else:
                return None
        return node


_recent: BoundedDict[int, tuple[Any, Document]] = BoundedDict(MAX_RECENT)


def document(schema: Any) -> Document:
    """The document of a schema. It is cached: every input of a batch has the same schema. Do not change the argument."""
    cached = _recent.get(id(schema))
    if cached is None or cached[0] is not schema:
        cached = _recent[id(schema)] = (schema, Document(schema))
    return cached[1]


def _modern(schema: Any, depth: int) -> Any:
    """The schema with the bounds and tuples of draft 2020-12. Parts below `DEEPEST` levels become "anything"."""
    if depth > DEEPEST:
        return {}
    if is_array(schema):
        return [_modern(part, depth + 1) for part in schema]
    if not is_object(schema):
        return schema
    node = {key: _part(key, part, depth + 1) for key, part in schema.items()}
    for key in ("$schema", "$id"):  # they would switch a part to another dialect and its rules
        if isinstance(node.get(key), str):
            del node[key]
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        # In draft 4 it is a flag for the bound beside it.
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and bound in node:
            node[exclusive] = node.pop(bound)
    if is_array(node.get("items")):  # before 2020-12
        first = node.pop("items")
        node.setdefault("prefixItems", first)
        if "additionalItems" in node:
            node["items"] = node["additionalItems"]
    node.pop("additionalItems", None)
    if isinstance(node.get("required"), bool):  # draft 3
        del node["required"]
    return node


def _part(key: str, part: Any, depth: int) -> Any:
    if key in VALUES:
        return part
    if key in MAPS and is_object(part):
        return {name: _modern(schema, depth + 1) for name, schema in part.items()}
    return _modern(part, depth)
