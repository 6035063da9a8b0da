"""How large a process has grown, as Linux tells it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells what a process weighs")


@dataclass
class Growth:
    bytes: int = 0


@contextmanager
def growth(pid: int | None = None) -> Iterator[Growth]:
    """By how many bytes the peak inside the block was above what the process had before it."""
    process, grown = Path(f"/proc/{pid or os.getpid()}"), Growth()
    (process / "clear_refs").write_text("5")  # forget the old peak
    before = _read_kib(process, "VmRSS")
    yield grown
    grown.bytes = _read_kib(process, "VmHWM") - before


def _read_kib(process: Path, name: str) -> int:
    return int(re.findall(rf"{name}:\s+(\d+) kB", (process / "status").read_text("utf-8"))[0]) * 1024


def server_of_mine() -> int:
    """The process that this one started last: the server of a test on stdio."""
    assert os.environ.get("TEST_STDIO_START") == "fresh", "else it is a launcher: such a test uses the fixture `fresh`"
    children = (Path("/proc/self/task") / str(os.getpid()) / "children").read_text("utf-8").split()
    return int(children[-1])


def peak_memory() -> int:
    """Bytes that the same process held at most."""
    return _read_kib(Path(f"/proc/{server_of_mine()}"), "VmHWM")


def open_files(pid: int | None = None) -> list[str]:
    """What a process has open, by name."""
    names = []
    for descriptor in Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
        try:
            names.append(os.readlink(descriptor))
        except FileNotFoundError:
            continue  # the one that lists the folder
    return names
