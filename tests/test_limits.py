"""The table of limits is that of the code, and each limit in it is one."""

from __future__ import annotations

import pytest

from tests.limits import ROWS, SECURITY, _value, with_table


@pytest.mark.finding("S4", "S11")
def test_the_table_of_limits_is_that_of_the_code() -> None:
    text = SECURITY.read_text(encoding="utf-8")

    assert with_table(text) == text
    assert 1 == text.count("<!-- limits -->")


@pytest.mark.parametrize("where", [where for _, where, _ in ROWS])
def test_each_limit_is_above_zero(where: str) -> None:
    assert _value(where) > 0
