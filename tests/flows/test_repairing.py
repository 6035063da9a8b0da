"""Values that came as the text of their JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh_mcp.schema.validate import repaired, validator_for

INTEGER = {"type": "integer"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"Size": {"type": "object", "properties": {"width": INTEGER, "height": INTEGER}, "required": ["width"]}},
    "properties": {
        "prompt": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"$ref": "#/$defs/Size"},
        "steps": {"anyOf": [{"type": "integer", "maximum": 8}, {"type": "null"}]},
        "loud": {"type": "boolean"},
        "either": {"type": ["string", "integer"]},
        "choice": {"enum": ["a", "b"]},
        "maybe": {"anyOf": [{"$ref": "#/$defs/Size"}, {"type": "null"}]},
        "sizes": {"type": "array", "items": {"$ref": "#/$defs/Size"}},
        "long": {"type": "string", "minLength": 1},
        "free": {"type": "object"},
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
        # what an optional field cannot hold, and says nothing, is left out; what is required is said as it was given
        ({"prompt": None, "tags": None, "size": None, "loud": None}, {}),
        ({"tags": "", "size": "", "steps": "", "loud": "", "choice": ""}, {}),
        ({"prompt": "", "either": "", "steps": None}, {"prompt": "", "either": "", "steps": None}),
        ({"size": {"width": None}}, {"size": {"width": None}}),
        ({"size": {"width": 3, "height": None}}, {"size": {"width": 3}}),
        ({"maybe": {"width": "3", "height": None}}, {"maybe": {"width": 3}}),
        ({"maybe": {"width": "", "height": None}}, {"maybe": {"width": ""}}),
        ({"sizes": ['{"width": 3}', {"width": 3, "height": ""}]}, {"sizes": [{"width": 3}, {"width": 3}]}),
        ({"tags": ["a", None]}, {"tags": ["a", None]}),
        ({"long": "", "free": {"a": None, "b": ""}}, {"long": "", "free": {"a": None, "b": ""}}),
    ],
)
@pytest.mark.finding("F6", "F8")
def test_a_text_becomes_what_the_schema_asks_for_where_it_says_so(given: dict[str, Any], meant: dict[str, Any]) -> None:
    before = repr(given)

    assert meant == repaired(SCHEMA, given)
    assert before == repr(given), "what was given is left alone"


@pytest.mark.timing
def test_however_many_there_are_it_takes_as_long_as_to_judge_the_value_a_few_times() -> None:
    """Each judging may follow thousands of references: a host that sends all as text must not hold the others up."""
    schema = {"type": "object", "$defs": SCHEMA["$defs"], "properties": {"sizes": {"items": {"$ref": "#/$defs/Size"}}}}
    given = {"sizes": ['{"width": "3"}', *['{"width": 3}'] * 300]}

    assert {"sizes": ['{"width": "3"}', *[{"width": 3}] * 300]} == repaired(schema, given)
    assert seconds(lambda: repaired(schema, given)) < 10 * seconds(lambda: validator_for(schema).errors(given))


def seconds(work: Callable[[], object]) -> float:
    """Of the processor; the least of a few times."""
    took: list[float] = []
    for _ in range(5):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)
