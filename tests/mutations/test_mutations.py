"""The mutations fit the code and the tests as they are; that the tests see them is what `make mutants` shows."""

from __future__ import annotations

import pytest

from tests.conftest import COLLECTED
from tests.mutations.table import PACKAGE, TESTS, Mutation, mutations
from tests.system.threats.test_proofs import LINES

ALL = mutations()


def test_every_invariant_has_a_mutation() -> None:
    assert {line for line in LINES if line.startswith("I-")} == {mutation.invariant for mutation in ALL}


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: f"{mutation.invariant} {mutation.file}")
def test_a_mutation_fits_the_code_and_names_a_test(mutation: Mutation) -> None:
    """The one place it changes is there, what comes of it is Python, and its test is there, in the way that is
    named, and where the page of proofs says."""
    code = (TESTS.parent / PACKAGE / mutation.file).read_text("utf-8")
    file, _, name = mutation.test.partition("[")[0].partition("::")

    compile(mutation.applied(code), mutation.file, "exec")
    assert f"def {name}(" in (TESTS / file).read_text("utf-8")
    assert f"`{file}" in LINES[mutation.invariant]
    collected = [item for item in COLLECTED if item.startswith(f"tests/{file}::{name}")]
    assert not collected or f"tests/{mutation.test}" in collected, "it is not tried in this way"
