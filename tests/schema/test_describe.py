"""What a schema takes, in words, and the known names that misspelt ones may mean."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from inferencesh_mcp.schema.describe import MAX_NAME_LENGTH, expected, nearest_name
from inferencesh_mcp.tools.app_description import fields, sample_input
from tests.schema.hostile import HOSTILE, lists


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {"type": "string", "format": "file"}}, "a list of file (path, URL or data URI)"),
        ({"type": "number", "minimum": 0}, "a number of at least 0"),
        ({"type": "string", "maxLength": 8}, "text of 0 to 8 characters"),
        ({"const": 7}, "7"),
        ({}, "any JSON"),
        ({"allOf": [{"type": "string"}]}, "as the app's schema says"),
        ({"type": ["string", "null"]}, "text or null"),
        ({"type": ["string", 5, {}, "string"]}, "text"),
        ({"type": "integer", "minimum": True, "maximum": 10**31}, "an integer"),
    ],
)
def test_what_a_field_takes_is_said_in_a_few_words(schema: dict[str, Any], words: str) -> None:
    assert words == expected(schema)


@pytest.mark.finding("S3")
def test_a_name_is_not_compared_with_long_ones(compared: list[int]) -> None:
    known = [*("n" * (MAX_NAME_LENGTH + 1 + number) for number in range(1_000)), "prompt"]

    assert "prompt" == nearest_name("promt", known)
    assert max(compared) <= MAX_NAME_LENGTH


def test_lists_within_lists_are_described_in_a_few_words() -> None:
    words = expected(lists(40)["properties"]["a"])

    assert words.startswith("a list of list of list")
    assert len(words) < 100


def test_a_description_that_is_no_text_is_not_shown() -> None:
    assert ["a: any JSON"] == fields({"properties": {"a": {"description": {"text": "x"}}}})


LONG = "x" * 10_000_000
LARGE: dict[str, dict[str, Any]] = {
    "1,000 fields of one long text": {f"f{at}": {"enum": [LONG]} for at in range(1_000)},
    "a long text inside a default": {"a": {"default": {"b": [LONG]}}},
    "a long name inside a default": {"a": {"default": {LONG: 1}}},
    "references to a large part": HOSTILE["100 references to 60,000 keywords"]["properties"],
}


@pytest.mark.parametrize("name", LARGE)
def test_the_description_of_a_field_holds_only_what_it_shows(name: str) -> None:
    schema = {**HOSTILE["100 references to 60,000 keywords"], "properties": LARGE[name]}
    tracemalloc.start()
    try:
        lines = fields(schema)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(lines) == len(LARGE[name])
    assert max(map(len, lines)) < 300
    assert peak < 5_000_000


@pytest.mark.timing
# Numbers out of proportion are never taken from the API.
@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"numbers out of proportion"}))
def test_a_hostile_schema_is_described_in_bounded_time(name: str) -> None:
    began = time.process_time()

    fields(HOSTILE[name])
    sample_input(HOSTILE[name])

    assert time.process_time() - began < 5, "seconds of CPU; what pins the processor takes minutes"
