"""What an app's schema becomes: a table for every transformation."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh_mcp.errors import SchemaUnusable
from inferencesh_mcp.schemas import Compiled, compiled_input


def compiled(**fields: Any) -> Compiled:
    return compiled_input({"type": "object", "properties": fields})


@pytest.mark.parametrize(
    ("written", "compiled_as"),
    [
        pytest.param({"type": "string", "title": "Prompt"}, {"type": "string"}, id="a title is dropped"),
        pytest.param(
            {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}], "default": None},
            {"type": ["integer", "null"], "minimum": 0},
            id="a nullable union is a list of types",
        ),
    ],
)
def test_a_field_becomes(written: dict[str, Any], compiled_as: dict[str, Any]) -> None:
    """Every way to write a field has one short form."""
    assert {"type": "object", "properties": {"field": compiled_as}} == compiled(field=written).schema


@pytest.mark.parametrize(
    "schema", [{"type": "string"}, {"enum": []}, {"type": "object", "required": ["a"], "properties": {"a": False}}]
)
def test_a_schema_that_takes_no_object_is_refused(schema: dict[str, Any]) -> None:
    """A tool's arguments are an object: nothing else can be given to it."""
    with pytest.raises(SchemaUnusable):
        compiled_input(schema)
