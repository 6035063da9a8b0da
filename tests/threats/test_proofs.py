"""The page that says which test proves what: it has every id, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (Path(__file__).parent / "README.md").read_text("utf-8")
IDS = {
    f"{kind}-{number}" for kind, last in (("T", 27), ("A", 19), ("I", 24), ("X", 50)) for number in range(1, last + 1)
}
LINES = dict(re.findall(r"^\| ([TAIX]-\d+) \| (.+) \|$", PAGE, re.MULTILINE))


def test_every_id_has_a_line() -> None:
    assert IDS == LINES.keys()


def test_what_is_named_is_there() -> None:
    """A file, or one test of it; a line without any says why."""
    missing = []
    for one, line in LINES.items():
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", line)
        assert named or "; " in line, f"{one}: no test, and no reason"
        for file, test in named:
            path = TESTS / file
            if not path.is_file() or (test and f"def {test}(" not in path.read_text("utf-8")):
                missing.append((one, file, test))

    assert [] == missing


def test_a_row_of_a_file_is_cited_by_it() -> None:
    """Faults are told by name in the tests that inject them, so that a row can be found from either side."""
    silent = []
    for one in (name for name in LINES if name.startswith("X")):
        number = int(one[2:])
        files = [TESTS / file for file in re.findall(r"`([\w/]+\.py)", LINES[one])]
        spellings = (rf"\b{one}\b", rf"x{number:02}_", r"X-(\d+) to X-(\d+)")
        found = [match for file in files for way in spellings for match in re.finditer(way, file.read_text("utf-8"))]
        if not any(not match.groups() or int(match[1]) <= number <= int(match[2]) for match in found):
            silent.append(one)

    assert silent == [one for one in silent if "; " in LINES[one]], silent
