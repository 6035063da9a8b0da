"""Resolve the references of an app's JSON Schema, and translate older drafts. Every reader of a schema uses this. Pure.

A reference that leads out of the schema is never fetched (threat T-18): it has no target.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

DEEPEST = 64
"""Levels of a schema that are read; no answer of the API has more."""
RECENT_LIMIT = 64
"""Schemas whose modern form is cached."""
NAMED_PARTS_LIMIT = 20_000
"""Parts of a schema that are searched for `$id` and `$anchor`."""
VALUES = frozenset({"enum", "const", "default", "examples"})
"""Keywords that hold values, not schemas."""
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords that hold schemas by name: a field may be called `items`."""
_POINTER = re.compile(r"#(/.*)?", re.DOTALL)
_RECENT: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
_INDEX = re.compile(r"[0-9]{1,5}", re.ASCII)


class References:
    """The references of one schema."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._named: dict[str, Any] | None = None

    def target(self, ref: str) -> Any:
        """The target of a pointer (`#/$defs/My%20File`, `#/allOf/0`), an `$anchor` or an `$id`; None if there is none."""
        if _POINTER.fullmatch(ref):
            return _resolve_pointer(self._root, ref)
        if self._named is None:
            self._named = dict(_names_in(self._root))
        return self._named.get(ref)


def modern(schema: Any) -> Any:
    """The schema in draft 2020-12: bounds and tuples of drafts 4 to 7 are translated.

    Parts below `DEEPEST` levels become "anything". Change neither the argument nor the result: both are cached, because every
    input of a batch is validated against the same schema.
    """
    cached = _RECENT.get(id(schema))
    if cached is not None and cached[0] is schema:
        return cached[1]
    translated = _modern(schema, 0)
    _RECENT[id(schema)] = (schema, translated)
    if len(_RECENT) > RECENT_LIMIT:
        _RECENT.popitem(last=False)
    return translated


def _modern(schema: Any, depth: int) -> Any:
    if depth > DEEPEST:
        return {}
    if isinstance(schema, list):
        return [_modern(part, depth + 1) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = {key: _part(key, part, depth + 1) for key, part in cast("Schema", schema).items()}
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        # In draft 4 it is a flag for the bound beside it.
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and bound in node:
            node[exclusive] = node.pop(bound)
    if isinstance(node.get("items"), list):  # before 2020-12
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
    if key in _MAPS and isinstance(part, dict):
        return {name: _modern(schema, depth + 1) for name, schema in cast("Schema", part).items()}
    return _modern(part, depth)


def _resolve_pointer(root: Any, ref: str) -> Any:
    node = root
    for step in ref[2:].split("/") if ref not in {"#", "#/"} else ():
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            schema = cast("Schema", node)
            # A pointer into a tuple may be written for either draft.
            is_tuple = key == "items" and "prefixItems" in schema
            node = _Tuple(schema) if is_tuple else schema.get(key)
        elif isinstance(node, _Tuple):
            node = node.part(key)
        elif isinstance(node, list):
            node = _item(cast("list[Any]", node), key)
        else:
            return None
    return node.items if isinstance(node, _Tuple) else node


class _Tuple:
    """The `items` of a tuple, for a pointer of either draft."""

    def __init__(self, schema: Schema) -> None:
        self.items: Any = schema.get("items")
        self._first: Any = schema["prefixItems"]

    def part(self, key: str) -> Any:
        first, items = self._first, self.items
        if isinstance(first, list) and _INDEX.fullmatch(key):
            return _item(cast("list[Any]", first), key)
        return cast("Schema", items).get(key) if isinstance(items, dict) else None


def _item(items: list[Any], key: str) -> Any:
    return items[int(key)] if _INDEX.fullmatch(key) and int(key) < len(items) else None


def _names_in(root: Any) -> Iterator[tuple[str, Any]]:
    """Every part with an `$id` or an anchor, by the reference that names it."""
    stack, visited = [root], 0
    while stack and visited < NAMED_PARTS_LIMIT:
        node = stack.pop()
        visited += 1
        if isinstance(node, dict):
            schema = cast("Schema", node)
            if isinstance(name := schema.get("$id"), str) and node is not root:
                yield name, node
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := schema.get(key), str):
                    yield f"#{name}", node
            stack += [part for key, part in schema.items() if key not in VALUES]
        elif isinstance(node, list):
            stack += cast("list[Any]", node)
