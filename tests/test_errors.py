"""Errors are values: whoever knows more raises another one."""

import dataclasses

import pytest

from inferencesh_mcp.errors import InferenceError, InvalidInput, OutcomeUnknown


@pytest.mark.parametrize("kind", [InferenceError, InvalidInput, OutcomeUnknown])
def test_a_field_of_an_error_cannot_be_changed(kind):
    error = kind(message="m", outcome="started")

    with pytest.raises(dataclasses.FrozenInstanceError):
        error.outcome = "not_started"

    assert error.outcome == "started"


@pytest.mark.parametrize("kind", [InferenceError, InvalidInput, OutcomeUnknown])
def test_replace_returns_another_error_of_the_same_kind_and_cause(kind):
    error = kind(message="m", next_step="n")
    error.__cause__ = cause = ValueError("c")

    replaced = error.replace(outcome="started")

    assert type(replaced) is kind
    assert (replaced.message, replaced.next_step, replaced.outcome, replaced.__cause__) == ("m", "n", "started", cause)
    assert error.outcome is None
