"""Try every row of the faults in full, and print what came of each: `make faults`."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict

import pytest

os.environ["TEST_FAULTS"] = "all"  # which the tests read when they are imported

from tests.system.faults.rows import ROWS, wire_of

LONGEST = "600"
"""Seconds for one test: ten thousand messages take their minutes."""


class Table:
    """What became of the tests of each row."""

    def __init__(self) -> None:
        self.passed: dict[str, Counter[str]] = defaultdict(Counter)
        self.failed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for row in dict(report.user_properties).get("faults", ()):
            if report.failed:
                self.failed[row] += 1
            elif report.passed and report.when == "call":
                self.passed[row][wire_of(report.nodeid)] += 1

    def result_of(self, row: str) -> str:
        if self.failed[row]:
            return f"{self.failed[row]} failed"
        lacking = sorted(ROWS[row].wires - self.passed[row].keys())
        return f"not tried: {', '.join(lacking)}" if lacking else "ok"

    def lines(self) -> list[str]:
        """The table, and how many rows hold."""
        lines = [f"{'row':5} {'what':52} {'pipe':>5} {'HTTP':>5} {'beneath':>8}  result"]
        for name, row in ROWS.items():
            tried = [str(self.passed[name][wire] or "") for wire in ("pipe", "HTTP", "beneath")]
            for at, wire in enumerate(("pipe", "HTTP")):
                tried[at] = tried[at] or ("" if wire in row.wires else "-")
            lines.append(f"{name:5} {row.title:52} {tried[0]:>5} {tried[1]:>5} {tried[2]:>8}  {self.result_of(name)}")
        return [*lines, f"{self.held} of {len(ROWS)}"]

    @property
    def held(self) -> int:
        return sum(self.result_of(row) == "ok" for row in ROWS)


def main() -> int:
    table = Table()
    pytest.main(["-q", "-m", "fault", "--timeout", LONGEST, *sys.argv[1:]], plugins=[table])
    print("\n".join(table.lines()))  # noqa: T201 - the report is the product
    return 0 if table.held == len(ROWS) else 1


if __name__ == "__main__":
    sys.exit(main())
