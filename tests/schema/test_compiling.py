"""What an app's schema becomes: a row for every transformation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferencesh_mcp.schema import compiled_input, compiled_output, tool_name

NULL = {"type": "null"}
FILE = "File: path, URL or data URI"


def field(schema: Any, **more: Any) -> Any:
    return compiled_input({"type": "object", "properties": {"a": schema}, **more}).schema["properties"]["a"]


ROWS: dict[str, tuple[Any, Any]] = {
    "a title is dropped": ({"type": "string", "title": "Prompt"}, {"type": "string"}),
    "what no host knows is dropped": (
        {"type": "string", "x-mcp-header": "X-Admin", "x-order": 3, "examples": ["a"], "$comment": "b", "nullable": True},
        {"type": "string"},
    ),
    "a nullable union is its other type": (
        {"anyOf": [{"type": "integer", "minimum": 0}, NULL], "default": None, "description": "Seed."},
        {"type": "integer", "minimum": 0, "description": "Seed"},
    ),
    "a list of types with null is the other type": ({"type": ["null", "string"]}, {"type": "string"}),
    "values that may be null are values": (
        {"anyOf": [{"enum": ["a", "b"], "type": "string"}, NULL], "description": "Which", "default": "a"},
        {"type": "string", "enum": ["a", "b"], "description": "Which", "default": "a"},
    ),
    "items that may be null are a choice": (
        {"type": "array", "items": {"type": ["string", "null"]}},
        {"type": "array", "items": {"anyOf": [{"type": "string"}, NULL]}},
    ),
    "null alone stays": (NULL, NULL),
    "a constant is the only value": ({"const": "fast"}, {"type": "string", "enum": ["fast"]}),
    "constants together are values": ({"oneOf": [{"const": "a"}, {"const": "b"}]}, {"type": "string", "enum": ["a", "b"]}),
    "integers in a row are a range": ({"enum": [4, 5, 6, 7]}, {"type": "integer", "minimum": 4, "maximum": 7}),
    "an empty text among values is a choice": (
        {"enum": ["", "a"]},
        {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "string", "maxLength": 0}]},
    ),
    "a value that no host lists is told": (
        {"type": "boolean", "const": True, "description": "Agree."},
        {"type": "boolean", "description": "Agree. One of: true"},
    ),
    "conditions are put together": (
        {"allOf": [{"type": "integer", "minimum": 1}, {"minimum": 3, "maximum": 9}], "maximum": 12},
        {"type": "integer", "maximum": 9, "minimum": 3},
    ),
    "types of a union are a choice": (
        {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "array", "items": {"type": "string"}}, NULL]},
        {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "array", "items": {"type": "string"}}]},
    ),
    "a closed object is open": (
        {"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": False},
        {"type": "object", "properties": {"b": {"type": "string"}}},
    ),
    "a wider branch is enough": ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, {"type": "number"}),
    "a list always has items": ({"type": "array"}, {"type": "array", "items": {}}),
    "a closed tuple has a length": (
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
        {"type": "array", "maxItems": 2, "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {}},
    ),
    "a tuple of old": (
        {"type": "array", "items": [{"type": "string"}], "additionalItems": False},
        {"type": "array", "maxItems": 1, "prefixItems": [{"type": "string"}], "items": {}},
    ),
    "a file says what it takes": (
        {"type": "string", "format": "file", "description": "The picture."},
        {"type": "string", "description": f"The picture. {FILE}"},
    ),
    "another format is a word": ({"type": "string", "format": "date-time"}, {"type": "string", "description": "date-time"}),
    "a text that may be a file is a text": (
        {"anyOf": [{"type": "string", "format": "file"}, {"type": "string"}]},
        {"type": "string"},
    ),
    "a default is kept": ({"type": "integer", "default": 5}, {"type": "integer", "default": 5}),
    "an empty default is not": ({"type": "array", "items": {}, "default": []}, {"type": "array", "items": {}}),
    "a long default is the app's": ({"type": "string", "default": "x" * 100}, {"type": "string"}),
    "a description ends with a sentence": (
        {"type": "string", "description": "What is to be seen in the picture, in a few words. " + "More about it. " * 20},
        {
            "type": "string",
            "description": "What is to be seen in the picture, in a few words. " + "More about it. " * 3 + "More about it",
        },
    ),
    "a pattern is looked at later": ({"type": "string", "pattern": "^a+$", "minLength": 1}, {"type": "string", "minLength": 1}),
    "anything": ({}, {}),
    "true is anything": (True, {}),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_field_becomes(row: str) -> None:
    """Every way to write a field has one short form."""
    written, wanted = ROWS[row]

    assert wanted == field(written)


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        pytest.param({}, {"type": "object", "properties": {}}, id="nothing said"),
        pytest.param({"anyOf": [NULL, {"type": "object"}]}, {"type": "object", "properties": {}}, id="null"),
        pytest.param(
            {
                "anyOf": [
                    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]},
                ],
                "properties": {"c": {"type": "integer"}},
                "required": ["c"],
            },
            {"type": "object", "properties": {"c": {"type": "integer"}, "a": {}, "b": {}}, "required": ["c"]},
            id="a choice: what all of them ask for",
        ),
        pytest.param(
            {
                "$ref": "#/$defs/Input",
                "$defs": {"Input": {"properties": {"a": {"$ref": "#/$defs/A"}}}, "A": {"const": 1}},
            },
            {"type": "object", "properties": {"a": {"type": "number", "enum": [1]}}},
            id="references",
        ),
    ],
)
def test_the_whole_is_one_object(schema: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Whatever stands at the top, hosts get an object with properties and no choice."""
    assert wanted == compiled_input(schema).schema


def test_names_come_back_at_any_depth() -> None:
    """A model writes the names that it was told, and the app gets its own; what is open is not touched."""
    box = {"type": "object", "properties": {"max size": {"type": "integer"}, "free": {"type": "object"}}}
    schema = {
        "type": "object",
        "properties": {
            "the box": {"anyOf": [box, NULL]},
            "boxes": {"type": "array", "prefixItems": [box], "items": {"type": "object", "additionalProperties": box}},
            "plain": {"type": "string"},
        },
    }
    compiled = compiled_input(schema)
    inside = {"max_size": 1, "free": {"max_size": 2}}
    wanted = {"max size": 1, "free": {"max_size": 2}}

    assert {
        "the box": wanted,
        "boxes": [wanted, {"max_size": wanted}],
        "plain": "max_size",
        "the_other": inside,
    } == compiled.restored(
        {"the_box": inside, "boxes": [inside, {"max_size": inside}], "plain": "max_size", "the_other": inside}
    )
    assert {} == compiled.restored({"the_box": None})


@pytest.mark.finding("F3")
def test_a_null_that_the_compiled_schema_does_not_take_is_dropped_at_any_depth() -> None:
    """Hosts in strict mode send null for every field they leave out. A required null, an item and open data stay."""
    nullable = {"anyOf": [{"type": "integer"}, NULL], "default": 3}
    box = {"type": "object", "properties": {"a": nullable, "must": nullable, "free": {}}, "required": ["must"]}
    schema = {
        "type": "object",
        "properties": {"seed": nullable, "box": {"anyOf": [box, NULL]}, "boxes": {"type": "array", "items": box}},
    }
    compiled = compiled_input(schema)
    inside = {"a": None, "must": None, "free": None}
    left = {"must": None, "free": None}

    assert '["' not in json.dumps(compiled.schema).replace('"required": ["', "")
    assert {"box": left, "boxes": [left, None], "other": None} == compiled.restored(
        {"seed": None, "box": inside, "boxes": [inside, None], "other": None}
    )
    assert {} == compiled.restored({"box": None})


def test_the_same_schema_compiles_to_the_same_bytes() -> None:
    """Hosts cache tools by their text; and what was given in is not changed by it."""
    schema = {
        "properties": {"b é": {"$ref": "#/$defs/A"}, "a": {"enum": ["x", "y"]}},
        "$defs": {"A": {"type": ["null", "string"]}},
    }
    before = json.dumps(schema)

    assert json.dumps(compiled_input(schema).schema) == json.dumps(compiled_input(schema).schema)
    assert before == json.dumps(schema)
    assert ["b_e", "a"] == list(compiled_input(schema).schema["properties"])


def test_an_output_tells_what_to_expect_and_requires_nothing() -> None:
    """A result that was paid for is never refused for its form: types and meaning are told, limits are not."""
    schema = {
        "type": "object",
        "required": ["image", "count"],
        "additionalProperties": False,
        "properties": {
            "image": {"type": "string", "format": "file", "description": "The picture"},
            "count": {"type": "integer", "minimum": 1},
            "tags": {"type": "array", "items": {"enum": ["a"]}, "maxItems": 1},
            "meta": {"type": "object", "properties": {"x": {"type": "object"}}, "required": ["x"]},
        },
    }

    assert {
        "type": "object",
        "properties": {
            "image": {"description": "The picture"},
            "count": {"anyOf": [{"type": "number"}, NULL]},
            "tags": {"anyOf": [{"type": "array", "items": {}}, NULL]},
            "meta": {"anyOf": [{"type": "object"}, NULL]},
        },
    } == compiled_output(schema)


@pytest.mark.parametrize(
    ("wanted", "taken", "before", "named"),
    [
        ("flux-schnell", (), 0, "flux-schnell"),
        ("bfl/flux 3.video", (), 0, "bfl_flux_3_video"),
        ("Bildgröße", (), 0, "Bildgroe"),
        ("日本", (), 0, "app"),
        ("a" * 60, (), 0, "a" * 60),
        ("a" * 61, (), 0, "a" * 53 + "_35d5fc"),
        ("a" * 40, (), 25, "a" * 28 + "_e33cdf"),
        ("hero", ("hero",), 0, "hero_ae6c79"),
    ],
)
def test_a_tool_has_a_name_that_hosts_take(wanted: str, taken: tuple[str, ...], before: int, named: str) -> None:
    """Letters, digits, `_` and `-`; with what a host puts before it no longer than 60; never one that is taken."""
    found = tool_name(wanted, taken, before=before)

    assert len(found) + before <= 60
    assert named == found
