"""Where in an input the app's schema says that a file goes. Pure.

Only such a place is ever read as a path, a URL or a data URI (invariant I-15): everything else is data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.json_schema import References, modern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.flows.expecting import Schema

Place = tuple[str | int, ...]
"""The way to a value: keys and indexes from the top of the input."""
DEEPEST = 64  # steps through schema and value together: both come from elsewhere, and a `$ref` may go round


def file_places(schema: Schema, value: Any) -> list[Place]:
    """List the places in `value` that hold a file reference, in the order they stand.

    A place counts where every reading of the schema that takes a string there says `format: file`, or where the
    other reading is a file as an object; where plain text would fit as well, it is text.
    """
    schema = modern(schema)
    return list(_walk(schema, References(schema), value, (), 0))


def _walk(node: Any, root: References, value: Any, at: Place, depth: int) -> Iterator[Place]:
    branches = list(_branches(node, root, depth, set())) if depth < DEEPEST else []
    if isinstance(value, str):
        texts = [branch for branch in branches if _takes(branch, "string")]
        if texts and (any(map(_is_file_object, branches)) or all(branch.get("format") == "file" for branch in texts)):
            yield at
    elif isinstance(value, dict):
        yield from _object(branches, root, cast("dict[str, Any]", value), at, depth)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            parts = [part for branch in branches if (part := _item(branch, index)) is not None]
            if parts:
                yield from _walk({"anyOf": parts}, root, item, (*at, index), depth + 1)


def _object(branches: list[Schema], root: References, value: dict[str, Any], at: Place, depth: int) -> Iterator[Place]:
    if isinstance(value.get("uri"), str) and any(_is_file_object(branch) for branch in branches):
        yield (*at, "uri")
        return
    for key, item in value.items():
        parts = [part for branch in branches if (part := _field(branch, key)) is not None]
        if parts:
            yield from _walk({"anyOf": parts}, root, item, (*at, key), depth + 1)


def _item(branch: Schema, index: int) -> Schema | None:
    first: Any = branch.get("prefixItems")
    listed = cast("list[Any]", first) if isinstance(first, list) else []
    part = listed[index] if index < len(listed) else branch.get("items")
    return cast("Schema", part) if isinstance(part, dict) else None


def _field(branch: Schema, key: str) -> Schema | None:
    part = _named(branch).get(key, branch.get("additionalProperties"))
    return cast("Schema", part) if isinstance(part, dict) else None


def _named(branch: Schema) -> Schema:
    return branch["properties"] if isinstance(branch.get("properties"), dict) else {}


def _is_file_object(branch: Schema) -> bool:
    """The older way to say file: an object `{uri, path, content_type, size, filename}`."""
    return {"uri", "content_type", "filename"} <= _named(branch).keys()


def _takes(branch: Schema, kind: str) -> bool:
    declared = branch.get("type")
    return kind == declared or (isinstance(declared, list) and kind in declared)


def _branches(node: Any, root: References, depth: int, seen: set[str]) -> Iterator[Schema]:
    """Every reading of a schema: references followed, unions opened; what is referred to again is not read again."""
    if not isinstance(node, dict) or depth > DEEPEST:
        return
    schema = cast("Schema", node)
    if isinstance(ref := schema.get("$ref"), str) and ref not in seen:
        seen.add(ref)  # else a reference that doubles, and doubles again, has more readings than there is time for
        yield from _branches(root.target(ref), root, depth + 1, seen)
    for union in ("anyOf", "oneOf", "allOf"):
        parts: Any = schema.get(union)
        for part in cast("list[Any]", parts) if isinstance(parts, list) else []:
            yield from _branches(part, root, depth + 1, seen)
    if not {"$ref", "anyOf", "oneOf"} & schema.keys():
        yield schema
