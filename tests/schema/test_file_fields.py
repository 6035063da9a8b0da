"""Where a file goes: exactly where the schema says so, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.schema import file_fields
from inferencesh_mcp.schema.file_fields import file_places
from tests.schema.real import real_apps

FILE = {"type": "string", "format": "file"}
NULL = {"type": "null"}


def holding(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"it": schema}}


@pytest.mark.parametrize(
    ("schema", "value", "places"),
    [
        (FILE, "/a.png", [()]),
        ({"anyOf": [FILE, NULL]}, "/a.png", [()]),
        ({"anyOf": [FILE, NULL]}, None, []),
        ({"type": "array", "items": FILE}, ["a", "b"], [(0,), (1,)]),
        ({"anyOf": [{"type": "array", "items": FILE}, NULL]}, ["a"], [(0,)]),
        ({"anyOf": [FILE, {"type": "array", "items": FILE}]}, ["a"], [(0,)]),
        ({"type": "string"}, "/etc/hostname", []),
        ({"anyOf": [FILE, {"type": "string"}]}, "/etc/hostname", []),
        ({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": FILE}}}}, {"a": {"b": "x"}}, [("a", "b")]),
        ({"type": "object", "additionalProperties": FILE}, {"x": "a", "y": "b"}, [("x",), ("y",)]),
        ({"type": "object", "properties": {"uri": {}, "content_type": {}, "filename": {}}}, {"uri": "a"}, [("uri",)]),
        ({"$ref": "https://elsewhere.example/schema"}, "x", []),
        ({}, "/etc/hostname", []),
        (True, "/etc/hostname", []),
    ],
)  # fmt: skip
def test_a_file_is_found_only_where_the_schema_says_so(schema: Any, value: Any, places: list[tuple[Any, ...]]) -> None:
    assert [("it", *place) for place in places] == file_places(holding(schema), {"it": value})


def test_a_schema_that_contains_itself_is_followed_to_a_limited_depth() -> None:
    """A schema may refer to itself; a value may be deeper than anybody would write."""
    schema: dict[str, Any] = {
        "$ref": "#/$defs/Node",
        "$defs": {"Node": {"type": "object", "properties": {"file": FILE, "next": {"$ref": "#/$defs/Node"}}}},
    }
    value: dict[str, Any] = {"file": "deepest"}
    for _ in range(200):
        value = {"file": "x", "next": value}

    places = file_places(schema, value)

    assert ("file",) == places[0]
    assert ("next", "file") == places[1]
    assert len(places) < 200


def every_file(schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """A value that fits a schema, with a file reference at each place that is one, and a path at each that is not."""
    if depth > 12 or not isinstance(schema, dict):
        return "/etc/hostname"
    if "$ref" in schema:
        return every_file(root["$defs"][schema["$ref"].rpartition("/")[2]], root, depth + 1)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return every_file(next(part for part in schema[union] if part != NULL), root, depth + 1)
    if schema.get("format") == "file" or "content_type" in schema.get("properties", {}):
        return "FILE"
    match schema.get("type"):
        case "object":
            return {name: every_file(part, root, depth + 1) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [every_file(schema.get("items"), root, depth + 1)]
        case "string":
            return "/etc/hostname"
        case _:
            return 1


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        value = value[step]
    return value


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", real_apps())
def test_exactly_the_files_of_every_real_app_are_found(name: str) -> None:
    """Strings that happen to be paths stay strings."""
    schema = real_apps()[name]["input_schema"]
    value = every_file(schema, schema)

    places = file_places(schema, value)

    assert {"FILE"} >= {at(value, place) for place in places}
    assert leaves(value).count("FILE") == len(places)


@pytest.mark.finding("S4")
def test_an_input_too_large_to_search_for_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path would go upstream as text, and the run be paid: what is too much to look through is refused."""
    monkeypatch.setattr(file_fields, "MAX_READ", 1_000)
    field = {"anyOf": [{"$ref": "#/$defs/File"}, {"type": "null"}]}
    schema = {"type": "object", "additionalProperties": field, "$defs": {"File": {"type": "string", "format": "file"}}}

    assert 100 == len(file_places(schema, {str(number): "/a.png" for number in range(100)}))
    with pytest.raises(InvalidInput, match="too many parts"):
        file_places(schema, {str(number): "/a.png" for number in range(400)})


def test_the_items_of_a_long_list_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_fields, "MAX_READ", 20)
    schema = {
        "type": "object",
        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "file"}}},
    }

    assert 5_000 == len(file_places(schema, {"files": ["/a.png"] * 5_000}))
