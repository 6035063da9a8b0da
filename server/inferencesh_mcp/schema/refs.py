"""One reading of an app's JSON Schema, for all who read it: where a reference leads, and what older drafts mean. Pure.

A reference that leads out of the schema is never fetched (threat T-18): it leads nowhere.
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
"""Levels of a schema that are read: no answer of the API holds more."""
RECENT_LIMIT = 64
"""Schemas whose modern form is kept."""
NAMED_PARTS_LIMIT = 20_000
"""Parts of a schema that are looked through for names of their own."""
VALUES = frozenset({"enum", "const", "default", "examples"})
"""What is in them is no schema."""
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""What is in them are schemas by name: a field may be called `items`."""
_POINTER = re.compile(r"#(/.*)?", re.DOTALL)
_RECENT: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
_INDEX = re.compile(r"[0-9]{1,5}", re.ASCII)


class References:
    """The references of one schema."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._named: dict[str, Any] | None = None

    def target(self, ref: str) -> Any:
        """What a reference leads to: a pointer (`#/$defs/My%20File`, `#/allOf/0`), an `$anchor` or an `$id`; else None."""
        if _POINTER.fullmatch(ref):
            return _pointed(self._root, ref)
        if self._named is None:
            self._named = dict(_names_in(self._root))
        return self._named.get(ref)


def modern(schema: Any) -> Any:
    """The same schema as draft 2020-12 writes it: bounds and tuples of drafts 4 to 7 are put into its words.

    What is deeper than is read is left open. Neither the schema nor what is returned may be changed: both are kept a while,
    since every input of a batch is held against the same schema.
    """
    kept = _RECENT.get(id(schema))
    if kept is not None and kept[0] is schema:
        return kept[1]
    written = _modern(schema, 0)
    _RECENT[id(schema)] = (schema, written)
    if len(_RECENT) > RECENT_LIMIT:
        _RECENT.popitem(last=False)
    return written


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
        # In draft 4 it says how the bound beside it is meant.
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
        return {name: _modern(one, depth + 1) for name, one in cast("Schema", part).items()}
    return _modern(part, depth)


def _pointed(root: Any, ref: str) -> Any:
    node = root
    for step in ref[2:].split("/") if ref not in {"#", "#/"} else ():
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            schema = cast("Schema", node)
            # A pointer to one of the items of a tuple is of the draft that it was written in.
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
    """The `items` of a tuple, for a pointer that may be of either draft."""

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
    """Every part that has a name of its own, by how a reference says it."""
    waiting, seen = [root], 0
    while waiting and seen < NAMED_PARTS_LIMIT:
        node = waiting.pop()
        seen += 1
        if isinstance(node, dict):
            schema = cast("Schema", node)
            if isinstance(name := schema.get("$id"), str) and node is not root:
                yield name, node
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := schema.get(key), str):
                    yield f"#{name}", node
            waiting += [part for key, part in schema.items() if key not in VALUES]
        elif isinstance(node, list):
            waiting += cast("list[Any]", node)
