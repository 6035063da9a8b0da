"""Find the places of an input that the app's schema declares as files. Pure.

Only the value of such a place is ever read as a path, a URL or a data URI (invariant I-15); everything else is data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import as_object, is_array, is_object, items
from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.schema.refs import DEEPEST, document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.schema.refs import Schema

Place = tuple[str | int, ...]
"""The path to a value: keys and indexes from the top of the input."""
MAX_READ = 100_000
"""Parts of the schema read for one input: some 0.1 s, and thousands of times what real apps need."""


def file_places(schema: Schema, value: Any) -> list[Place]:
    """List the places in `value` that hold a file reference, in their order.

    A place counts if every branch of the schema that takes a string there has `format: file`, or if another branch is a
    file as an object. If plain text fits too, the value is text.

    Raises:
        InvalidInput: the input is too large to search. A file could be missed, and its path be sent as text.
    """
    search = _Search(schema)
    return list(search.places(search.branches([search.document.root], 0), value, (), 0))


class _Search:
    """The search of one input, and how many parts of the schema it may still read."""

    def __init__(self, schema: Schema) -> None:
        self.document = document(schema)
        self._left = MAX_READ

    def places(self, branches: list[Schema], value: Any, at: Place, depth: int) -> Iterator[Place]:
        """The files in a value that any of these branches of the schema may take."""
        if isinstance(value, str):
            texts = [branch for branch in branches if _takes_text(branch)]
            if texts and (
                any(map(is_file_object, branches)) or all(branch.get("format") == "file" for branch in texts)
            ):
                yield at
        elif is_object(value):
            if isinstance(value.get("uri"), str) and any(map(is_file_object, branches)):
                yield (*at, "uri")
                return
            for name, field in value.items():
                inner = self.branches([_field(branch, name) for branch in branches], depth + 1)
                yield from self.places(inner, field, (*at, name), depth + 1)
        elif is_array(value):
            longest = max((len(items(branch.get("prefixItems"))) for branch in branches), default=0)
            inner = []
            for index, item in enumerate(value):
                if index <= longest:  # the items after those of a tuple have the same schemas
                    inner = self.branches([_item(branch, index) for branch in branches], depth + 1)
                yield from self.places(inner, item, (*at, index), depth + 1)

    def branches(self, parts: list[Any], depth: int) -> list[Schema]:
        """Every branch of these parts of the schema. Each reference is followed once: some double again and again."""
        if depth >= DEEPEST:
            return []
        self._spend(len(parts) // 8)
        followed = set[str]()
        return [branch for part in parts if is_object(part) for branch in self._branches(part, depth, followed)]

    def _branches(self, part: Any, depth: int, followed: set[str]) -> Iterator[Schema]:
        self._spend(1)
        if not is_object(part) or depth > DEEPEST:
            return
        if isinstance(ref := part.get("$ref"), str) and ref not in followed:
            followed.add(ref)
            yield from self._branches(self.document.target(ref), depth + 1, followed)
        for union in ("anyOf", "oneOf", "allOf"):
            for branch in items(part.get(union)):
                yield from self._branches(branch, depth + 1, followed)
        if not {"$ref", "anyOf", "oneOf"} & part.keys():
            yield part

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise InvalidInput(
                message="The input has too many parts to find its files in.", next_step="Send it in several calls."
            )


def is_file_object(branch: Schema) -> bool:
    """Whether it is the older form of a file: an object `{uri, path, content_type, size, filename}`."""
    return {"uri", "content_type", "filename"} <= as_object(branch.get("properties")).keys()


def _field(branch: Schema, name: str) -> Any:
    return as_object(branch.get("properties")).get(name, branch.get("additionalProperties"))


def _item(branch: Schema, index: int) -> Any:
    first = items(branch.get("prefixItems"))
    return first[index] if index < len(first) else branch.get("items")


def _takes_text(branch: Schema) -> bool:
    declared = branch.get("type")
    return declared == "string" or "string" in items(declared)
