"""What a schema takes, in words, and the known names that misspelt ones may mean."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh_mcp.schema.describe import LONGEST_NAME, expected, nearest_name


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
    ],
)
def test_what_a_field_takes_is_said_in_a_few_words(schema: dict[str, Any], words: str) -> None:
    assert words == expected(schema)


@pytest.mark.finding("S3")
def test_a_name_is_not_compared_with_long_ones(compared: list[int]) -> None:
    known = [*("n" * (LONGEST_NAME + 1 + number) for number in range(1_000)), "prompt"]

    assert "prompt" == nearest_name("promt", known)
    assert max(compared) <= LONGEST_NAME
