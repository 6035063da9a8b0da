"""Every schema of the catalogue compiles, takes the same inputs as before, and is one that every host takes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from inferencesh_mcp.schema import compiled_input, compiled_output
from inferencesh_mcp.schema.emit import CLOSED_LATER, NULL_LEFT_OUT
from tests.schema.hosts import RULES, refusals
from tests.schema.inputs import inputs
from tests.schema.real import real_apps
from tests.schema.written import WRITTEN


def schemas(key: str) -> list[Any]:
    """Those of real apps, where they lie beside the checkout; those written for the purpose always."""
    real = [pytest.param(app[key], id=name) for name, app in real_apps().items()]
    return real + [pytest.param(schema, id=name) for name, schema in WRITTEN.items()]


def nulls(value: Any) -> int:
    """How many nulls are in it."""
    return json.dumps(value).count("null")


@pytest.mark.parametrize("schema", schemas("input_schema"))
def test_the_same_inputs_are_taken(schema: dict[str, Any]) -> None:
    """Right or wrong in any way: the app's schema and the compiled one say the same of an input.

    But a null is left out: an input is compared once it was, and fits the app as before. And a closed object is open.
    """
    compiled = compiled_input(schema)
    theirs = jsonschema.Draft202012Validator(schema)
    ours = jsonschema.Draft202012Validator(compiled.schema)
    all_made = list(inputs(schema, seed=json.dumps(schema), count=200))
    whole = [made for made in all_made if nulls(made) == nulls(compiled.restored(made))]
    judged = [(ours.is_valid(made), theirs.is_valid(compiled.restored(made)), made) for made in whole]

    looser = CLOSED_LATER in compiled.notes
    assert [] == [made for mine, wanted, made in judged if mine != wanted and not (looser and mine)]
    assert [] == [made for made in all_made if theirs.is_valid(made) and not theirs.is_valid(compiled.restored(made))]
    assert {NULL_LEFT_OUT, CLOSED_LATER}.issuperset(compiled.notes)
    assert {True, False} == {wanted for _, wanted, _ in judged} or not schema


@pytest.mark.parametrize("schema", schemas("input_schema"))
def test_every_host_takes_it(schema: dict[str, Any]) -> None:
    """One schema suits every host."""
    compiled = compiled_input(schema).schema

    assert {} == {host: found for host in RULES if (found := refusals(compiled, host))}


@pytest.mark.parametrize("schema", schemas("output_schema"))
def test_no_output_fails_the_compiled_schema(schema: dict[str, Any]) -> None:
    """What an app may answer is told, and nothing that it does answer is refused: a run is paid for by then."""
    compiled = compiled_output(schema)
    theirs, ours = jsonschema.Draft202012Validator(schema), jsonschema.Draft202012Validator(compiled)
    made = [one for one in inputs(schema, seed=json.dumps(schema), count=60) if theirs.is_valid(one)]
    halves = [{name: value for at, (name, value) in enumerate(one.items()) if at % 2} for one in made]
    empty = [dict.fromkeys(one) for one in made]

    assert made
    assert [] == [one for one in (*made, *halves, *empty) if not ours.is_valid(one)]
    assert "required" not in json.dumps(compiled)
    assert [] == refusals(compiled, "Gemini CLI")
