"""The memory that a batch takes for the outputs of its runs."""

from __future__ import annotations

import pytest

from inferencesh_mcp.api.models import Task
from inferencesh_mcp.flows import batch


@pytest.mark.finding("S4")
def test_a_batch_holds_a_limited_amount_of_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_KEPT", 2_500)
    budget = batch.OutputBudget()
    outputs = ["x" * 1_000, "y" * 1_000, "z" * 1_000, "w"]

    trimmed = [
        budget.trimmed(Task(id="t", status="completed", output=output, logs=(), input="i" * 1_000))
        for output in outputs
    ]

    assert ["x", "y", None, "w"] == [task.output and task.output[0] for task in trimmed]
    assert {None} == {task.input for task in trimmed}
