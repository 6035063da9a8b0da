"""Values that came as the text of their JSON."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh_mcp.flows.judging import Judge
from inferencesh_mcp.flows.repairing import repaired

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"Size": {"type": "object", "properties": {"width": {"type": "integer"}}, "required": ["width"]}},
    "properties": {
        "prompt": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"$ref": "#/$defs/Size"},
        "steps": {"anyOf": [{"type": "integer", "maximum": 8}, {"type": "null"}]},
        "loud": {"type": "boolean"},
        "either": {"type": ["string", "integer"]},
    },
}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"tags": '["a", "b"]'}, {"tags": ["a", "b"]}),
        ({"size": '{"width": 3}'}, {"size": {"width": 3}}),
        ({"size": {"width": "3"}}, {"size": {"width": 3}}),
        ({"steps": "4", "loud": "true"}, {"steps": 4, "loud": True}),
        ({"prompt": "5", "either": "5"}, {"prompt": "5", "either": "5"}),  # a text that fits is a text
        ({"steps": "9"}, {"steps": "9"}),  # said as it was given, when it is told what is wrong
        ({"size": '{"width": "x"}'}, {"size": '{"width": "x"}'}),
        ({"tags": "not json", "loud": '"true"'}, {"tags": "not json", "loud": '"true"'}),
        ({"steps": "NaN", "tags": "[" * 500}, {"steps": "NaN", "tags": "[" * 500}),
    ],
)
def test_a_text_becomes_what_the_schema_asks_for_where_it_says_so(given: dict[str, Any], meant: dict[str, Any]) -> None:
    before = repr(given)

    assert meant == repaired(SCHEMA, given)
    assert before == repr(given), "what was given is left alone"


def test_however_many_there_are_the_value_is_judged_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each judging of it may follow thousands of references: a host that sends all as text must not hold the others up."""
    schema = {"type": "object", "$defs": SCHEMA["$defs"], "properties": {"sizes": {"items": {"$ref": "#/$defs/Size"}}}}
    judged: list[Any] = []
    errors = Judge.errors
    monkeypatch.setattr(Judge, "errors", lambda self, value: judged.append(value) or errors(self, value))

    found = repaired(schema, {"sizes": ['{"width": "3"}', *['{"width": 3}'] * 300]})

    assert {"sizes": ['{"width": "3"}', *[{"width": 3}] * 300]} == found
    assert 2 == len(judged)
