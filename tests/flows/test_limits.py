"""What one call's inputs may cost to check, whatever they are and whoever wrote the schema (S3, S4)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import pytest

from inferencesh_mcp.api.models import Task
from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.flows import batch
from inferencesh_mcp.schema import file_fields
from inferencesh_mcp.schema.file_fields import file_places
from inferencesh_mcp.schema.near_names import LONGEST_NAME, MOST_NAMES, nearest_name
from inferencesh_mcp.schema.validate import (
    MOST_ERRORS,
    MOST_SEARCHES,
    MOST_STEPS,
    MOST_STEPS_OF_A_CALL,
    ValidationBudget,
    problems,
    repaired,
    validator_for,
)

FIELDS = [f"field_name_number_{number:03d}_of_many" for number in range(300)]


def _doubling(levels: int) -> dict[str, Any]:
    """A schema that has twice as many readings with each level."""
    defs = {
        f"L{level}": {
            "type": "object",
            "properties": {"a": {"$ref": f"#/$defs/L{level + 1}"}},
            "anyOf": [{"$ref": f"#/$defs/L{level + 1}"}, {"$ref": f"#/$defs/L{level + 1}"}],
        }
        for level in range(levels)
    }
    return {"$ref": "#/$defs/L0", "$defs": {**defs, f"L{levels}": {"type": "string"}}}


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many letters each comparison of two names was of."""
    seen: list[int] = []

    class Noted(difflib.SequenceMatcher[str]):
        def set_seq1(self, a: Any) -> None:
            seen.append(len(a))
            super().set_seq1(a)

    monkeypatch.setattr(difflib, "SequenceMatcher", Noted)
    return seen


@pytest.mark.finding("S3")
def test_misspelt_names_are_compared_with_few_candidates(compared: list[int]) -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in FIELDS}}

    found = problems(schema, {f"{name[:-1]}x": "v" for name in FIELDS})

    assert "did you mean 'field_name_number_000_of_many'" in found[0]
    assert 8 == len(found)
    assert len(compared) <= MOST_SEARCHES * (MOST_NAMES + 1)


@pytest.mark.finding("S3")
@pytest.mark.parametrize("given", ["v" * 80_000, "v" * (LONGEST_NAME + 1)])
def test_a_long_value_gets_no_suggestion(given: str, compared: list[int]) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [f"{'v' * 60}{number}" for number in range(900)]}}}

    (told,) = problems(schema, {"a": given})

    assert told.startswith("'a' must be one of")
    assert len(told) < 400
    assert [] == compared


@pytest.mark.finding("S3")
def test_long_field_names_are_not_suggested(compared: list[int]) -> None:
    known = [*("n" * (LONGEST_NAME + 1 + number) for number in range(1_000)), "prompt"]

    assert "prompt" == nearest_name("promt", known)
    assert max(compared) <= LONGEST_NAME


@pytest.mark.finding("S3")
def test_a_call_gets_only_a_few_suggestions(compared: list[int]) -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in FIELDS}}
    work = ValidationBudget()

    for number in range(200):
        problems(schema, {f"{FIELDS[number][:-1]}x": "v"}, work)

    assert len(compared) <= MOST_SEARCHES * (MOST_NAMES + 1)


@pytest.mark.finding("S4")
def test_two_hundred_inputs_share_one_budget_of_steps() -> None:
    """What cannot be looked at any more is left to the app's own server."""
    work = ValidationBudget()
    schema = _doubling(30)

    for number in range(200):
        problems(schema, {"a": {"a": {"a": 1}}, "number": number}, work)

    assert 0 <= work.steps < MOST_STEPS_OF_A_CALL
    assert work.steps < MOST_STEPS, "the last ones found nothing left"


def _values() -> Iterator[Any]:
    items = {"type": "array", "items": {"type": "integer"}}
    yield pytest.param({"type": "object", "properties": {"a": items}}, {"a": ["x"] * 90_000}, id="wrong items")
    yield pytest.param({"type": "object", "properties": {"a": {**items, "items": {}}}}, {"a": [0] * 90_000}, id="items")
    required = {"type": "object", "required": [str(number) for number in range(15_000)]}
    yield pytest.param({"items": required}, [{}] * 50_000, id="required")
    yield pytest.param(_doubling(30), {"a": {"a": {"a": 1}}}, id="doubling")


@pytest.mark.finding("S4")
@pytest.mark.parametrize(("schema", "value"), list(_values()))
def test_one_value_is_checked_against_a_limited_number_of_rules(schema: Any, value: Any) -> None:
    work = ValidationBudget()

    found = validator_for(schema).errors(value, work)

    assert len(found) <= MOST_ERRORS
    assert MOST_STEPS_OF_A_CALL - work.steps <= MOST_STEPS


def test_problems_found_before_the_budget_ends_are_reported() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}

    told = problems(schema, {"a": ["x"] * 90_000})

    assert "'a.0' must be an integer; got \"x\"" == told[0]


def test_texts_whose_repair_cannot_be_checked_stay_texts() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    value = {"a": ["1"] * 90_000}
    work = ValidationBudget()
    work.steps = MOST_STEPS

    assert value == repaired(schema, value, work)


@pytest.mark.finding("S4")
def test_no_file_is_missed_in_a_large_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path would go upstream as text, and the run be paid: what is too much to look through is refused."""
    monkeypatch.setattr(file_fields, "MOST_READ", 1_000)
    field = {"anyOf": [{"$ref": "#/$defs/File"}, {"type": "null"}]}
    schema = {"type": "object", "additionalProperties": field, "$defs": {"File": {"type": "string", "format": "file"}}}

    assert 100 == len(file_places(schema, {str(number): "/a.png" for number in range(100)}))
    with pytest.raises(InvalidInput, match="too many parts"):
        file_places(schema, {str(number): "/a.png" for number in range(400)})


def test_each_item_of_a_long_list_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_fields, "MOST_READ", 20)
    schema = {
        "type": "object",
        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "file"}}},
    }

    assert 5_000 == len(file_places(schema, {"files": ["/a.png"] * 5_000}))


@pytest.mark.finding("S4")
def test_a_batch_holds_a_limited_size_of_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_KEPT", 2_500)
    budget = batch.OutputBudget()
    outputs = ["x" * 1_000, "y" * 1_000, "z" * 1_000, "w"]

    kept = [
        budget.trimmed(Task(id="t", status="completed", output=output, logs=(), input="i" * 1_000))
        for output in outputs
    ]

    assert ["x", "y", None, "w"] == [task.output and task.output[0] for task in kept]
    assert {None} == {task.input for task in kept}
