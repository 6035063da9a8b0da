"""Find the places of an input that the app's schema declares as files. Pure.

Only the value of such a place is ever read as a path, a URL or a data URI (invariant I-15); everything else is data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.schema.refs import References, modern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.schema.describe import Schema

Place = tuple[str | int, ...]
"""The path to a value: keys and indexes from the top of the input."""
DEEPEST = 64  # steps through schema and value together: both are untrusted, and a `$ref` may loop
MOST_READ = 100_000
"""Parts of the schema read for one input: some 0.1 s, and thousands of times what real apps need."""


def file_places(schema: Schema, value: Any) -> list[Place]:
    """List the places in `value` that hold a file reference, in their order.

    A place counts if every branch of the schema that takes a string there has `format: file`, or if another branch is a
    file as an object. If plain text fits too, the value is text.

    Raises:
        InvalidInput: the input is too large to search. A file could be missed, and its path be sent as text.
    """
    schema = modern(schema)
    root = _Root(schema)
    return list(_walk(root.branches(schema, 0), root, value, (), 0))


class _Root:
    """A whole schema, and how many of its parts may still be read."""

    def __init__(self, schema: Schema) -> None:
        self._references = References(schema)
        self._left = MOST_READ

    def branches(self, node: Any, depth: int) -> list[Schema]:
        """Every branch of a part of it."""
        return list(self._branches(node, depth, set())) if depth < DEEPEST else []

    def _branches(self, node: Any, depth: int, seen: set[str]) -> Iterator[Schema]:
        """Follow references and open unions; each reference is followed once."""
        self._left -= 1
        if self._left < 0:
            raise InvalidInput(
                message="The input has too many parts to find its files in.", next_step="Send it in several calls."
            )
        if not isinstance(node, dict) or depth > DEEPEST:
            return
        schema = cast("Schema", node)
        if isinstance(ref := schema.get("$ref"), str) and ref not in seen:
            seen.add(ref)  # without this, references that double again and again have too many branches
            yield from self._branches(self._references.target(ref), depth + 1, seen)
        for union in ("anyOf", "oneOf", "allOf"):
            parts: Any = schema.get(union)
            for part in cast("list[Any]", parts) if isinstance(parts, list) else []:
                yield from self._branches(part, depth + 1, seen)
        if not {"$ref", "anyOf", "oneOf"} & schema.keys():
            yield schema


def _walk(branches: list[Schema], root: _Root, value: Any, at: Place, depth: int) -> Iterator[Place]:
    if isinstance(value, str):
        texts = [branch for branch in branches if _takes(branch, "string")]
        if texts and (any(map(_is_file_object, branches)) or all(branch.get("format") == "file" for branch in texts)):
            yield at
    elif isinstance(value, dict):
        yield from _object(branches, root, cast("dict[str, Any]", value), at, depth)
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        tuples = [
            cast("list[Any]", listed) for branch in branches if isinstance(listed := branch.get("prefixItems"), list)
        ]
        first = max(map(len, tuples), default=0)
        rest: list[Schema] = []  # the same for every item after those of a tuple
        for index, item in enumerate(items):
            if index <= first:
                parts = [part for branch in branches if (part := _item(branch, index)) is not None]
                rest = root.branches({"anyOf": parts}, depth + 1) if parts else []
            if rest:
                yield from _walk(rest, root, item, (*at, index), depth + 1)
            elif index >= first:
                break


def _object(branches: list[Schema], root: _Root, value: dict[str, Any], at: Place, depth: int) -> Iterator[Place]:
    if isinstance(value.get("uri"), str) and any(_is_file_object(branch) for branch in branches):
        yield (*at, "uri")
        return
    for key, item in value.items():
        parts = [part for branch in branches if (part := _field(branch, key)) is not None]
        if parts:
            yield from _walk(root.branches({"anyOf": parts}, depth + 1), root, item, (*at, key), depth + 1)


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
    """Whether it is the older form of a file: an object `{uri, path, content_type, size, filename}`."""
    return {"uri", "content_type", "filename"} <= _named(branch).keys()


def _takes(branch: Schema, kind: str) -> bool:
    declared = branch.get("type")
    return kind == declared or (isinstance(declared, list) and kind in declared)
