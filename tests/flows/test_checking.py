"""An input against its app's schema, in words a model can act on."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from inferencesh_mcp.api.json import parse
from inferencesh_mcp.schema.describe import expected
from inferencesh_mcp.schema.validate import problems, repaired
from tests.schema.test_hostile_schemas import HOSTILE

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string"},
        "size": {"$ref": "#/$defs/Size", "default": "small"},
        "steps": {"type": "integer", "minimum": 1, "maximum": 50},
        "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "image": {"anyOf": [{"type": "string", "format": "file"}, {"type": "null"}]},
        "styles": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/Style"}},
        "extra": {"type": "object", "additionalProperties": True},
    },
    "$defs": {
        "Size": {"type": "string", "enum": ["small", "medium", "large"]},
        "Style": {
            "type": "object",
            "required": ["id"],
            "properties": {"id": {"type": "string"}, "strength": {"type": "number", "exclusiveMinimum": 0}},
        },
    },
}


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "x"},
        {"prompt": "x", "seed": None, "image": "/a/b.png", "extra": {"anything": 1}},
        {"prompt": "x", "styles": [{"id": "a", "strength": 0.5}], "size": "large"},
    ],
)
def test_what_fits_has_no_problems(value: Any) -> None:
    assert [] == problems(SCHEMA, value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({}, ["'prompt' is missing: text"]),
        ({"prompt": 3}, ["'prompt' must be text; got 3"]),
        ({"prompt": "x", "steps": 99}, ["'steps' must be an integer from 1 to 50; got 99"]),
        ({"prompt": "x", "steps": "9"}, ["'steps' must be an integer from 1 to 50; got \"9\""]),
        ({"prompt": "x", "seed": "a"}, ["'seed' must be an integer; got \"a\""]),
        (
            {"prompt": "x", "size": "larg"},
            ['\'size\' must be one of ["small", "medium", "large"]; got "larg". Did you mean "large"?'],
        ),
        ({"prompt": "x", "promt": "y"}, ["'promt' is not a field of this app: did you mean 'prompt'?"]),
        (
            {"prompt": "x", "styles": [{"id": "a", "stength": 1}]},
            ["'styles.0.stength' is not a field of this app: did you mean 'strength'?"],
        ),
        ({"prompt": "x", "styles": [{}]}, ["'styles.0.id' is missing: text"]),
        ({"prompt": "x", "image": 5}, ["'image' must be a file (path, URL or data URI); got 5"]),
    ],
)
def test_a_problem_names_the_field_and_what_it_should_be(value: Any, told: list[str]) -> None:
    assert told == problems(SCHEMA, value)


def test_a_field_that_nobody_named_is_told_with_those_there_are() -> None:
    """Apps drop what they do not know in silence; the run would be paid for all the same."""
    (told,) = problems(SCHEMA, {"prompt": "x", "zzz": 1})

    assert told.startswith("'zzz' is not a field of this app: the fields are [")


def test_a_schema_that_allows_more_takes_more() -> None:
    assert [] == problems({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, {"b": 1})


def test_parts_that_make_up_one_object_do_not_refuse_each_other() -> None:
    parts = [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]

    assert [] == problems({"allOf": parts}, {"a": 1, "b": 2})


def test_a_broken_schema_leaves_the_decision_to_the_app() -> None:
    assert [] == problems({"type": "nonsense"}, {"a": 1})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {"type": "string", "format": "file"}}, "a list of file (path, URL or data URI)"),
        ({"type": "number", "minimum": 0}, "a number of at least 0"),
        ({"type": "string", "maxLength": 8}, "text of 0 to 8 characters"),
        ({"const": 7}, "7"),
        ({}, "as the app's schema says"),
        ({"type": ["string", "null"]}, "text or null"),
    ],
)
def test_what_a_field_takes_is_said_in_a_few_words(schema: dict[str, Any], words: str) -> None:
    assert words == expected(schema)


@pytest.mark.timing
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_schema_made_to_do_harm_does_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app's author writes it, and every caller's input is held against it: quickly, and without a look elsewhere (T-18)."""
    try:
        schema = parse(json.dumps(HOSTILE[name]).encode())
    except (ValueError, RecursionError):
        return  # what is no JSON, or nested too deep, is not taken from the API at all
    reached: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: reached.append(a))
    monkeypatch.setattr(socket.socket, "connect", lambda *a: reached.append(a))
    began = time.process_time()

    for value in ({"a": "a" * 40 + "!"}, {"a": {"a": {"a": [1]}}}, {"a" * 40 + "!": 1}):
        problems(schema, value)
        repaired(schema, value)

    assert [] == reached
    assert time.process_time() - began < 5, "seconds of CPU; what pins the processor takes minutes"


def test_what_is_never_taken_is_told() -> None:
    """A schema may be `false`: of a field that must not be there, or of a whole branch."""
    for schema in (
        {"properties": {"a": False}},
        {"properties": {"a": {"anyOf": [False, False]}}},
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": False}},
    ):
        assert ["the app's schema takes no value where you gave 1"] == problems(schema, {"a": 1})
    whole = problems({"if": {"required": ["a"]}, "then": False}, {"a": 1})
    assert ['the app\'s schema takes no value where you gave {"a": 1}'] == whole


def test_what_cannot_be_judged_is_left_to_the_app() -> None:
    """A reference that leads nowhere, a pattern, a schema that is none: the rest of it counts all the same."""
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "elsewhere": {"$ref": "https://elsewhere.example/schema"},
            "nowhere": {"$ref": "#/$defs/nowhere"},
            "word": {"type": "string", "pattern": "^x"},
        },
        "patternProperties": {"^y": {"type": "string"}},
        "additionalProperties": False,
    }

    assert [] == problems(schema, {"elsewhere": 1, "nowhere": [], "word": "y", "ya": 1})
    assert ["'n' must be an integer; got \"x\""] == problems(schema, {"elsewhere": 1, "n": "x"})
    assert [] == problems({"type": "no such type"}, {"n": 1})
