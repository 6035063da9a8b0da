"""Every finding has a test, and the page beside this file says which."""

from __future__ import annotations

from pathlib import Path

from tests.findings.rows import ROWS, findings_with_tests, table


def test_every_marker_names_a_finding() -> None:
    assert set() == findings_with_tests().keys() - ROWS.keys()


def test_every_finding_has_a_test() -> None:
    assert [] == [row for row in ROWS if row not in findings_with_tests()]


def test_the_page_is_up_to_date() -> None:
    assert table() == (Path(__file__).parent / "README.md").read_text("utf-8"), "run `make generate`"
