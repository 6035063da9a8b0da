"""The page that says which test proves what: it has every id, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.findings.rows import marked
from tests.system.faults.rows import ROWS

TESTS = Path(__file__).parents[2]
PAGE = (Path(__file__).parent / "README.md").read_text("utf-8")
IDS = {f"{kind}-{number}" for kind, last in (("T", 27), ("A", 19), ("I", 24)) for number in range(1, last + 1)}
LINES = dict(re.findall(r"^\| ([TAI]-\d+) \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE))


def test_every_id_has_a_row() -> None:
    assert IDS == LINES.keys()


def test_every_id_in_the_code_is_explained() -> None:
    """To whoever has nothing but the repository."""
    code = "".join(path.read_text("utf-8") for path in (TESTS.parent / "server").rglob("*.py"))
    explained = PAGE + (TESTS.parent / "CONTRIBUTING.md").read_text("utf-8")
    ids = {*re.findall(r"\b[A-Z]-\d+\b", code), *re.findall(r"promise \d+|reliability \d\.\d", code)}

    assert set() == {item for item in ids if not re.search(rf"\b{item}\b", explained) and item not in ROWS}


def test_every_named_file_and_test_exists() -> None:
    """A file, or one test of it; a line without any says why."""
    missing = []
    for row, line in LINES.items():
        references = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", line)
        assert references or "; " in line, f"{row}: no test, and no reason"
        for file, test in references:
            path = TESTS / file
            if not path.is_file() or (test and f"def {test}(" not in path.read_text("utf-8")):
                missing.append((row, file, test))

    assert [] == missing


def test_every_fault_has_a_test() -> None:
    """By the markers in the source, which is quick: `make faults` looks at what is run."""
    assert ROWS.keys() == {row for path in TESTS.rglob("test_*.py") for row, _ in marked(path, "fault")}
