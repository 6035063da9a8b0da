r"""Whether two paths name one folder of this machine.

Folders are compared by device and inode. Text is not enough: one folder has many names where a disk ignores case or
normal form, through links and mounts, and as `//`, `/proc/self/root` or `\\?\C:\`.
"""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from pathlib import Path


def same_folder(first: Path, second: Path) -> bool:
    """Whether both paths name one folder. A folder that does not exist is compared by its path."""
    if first == second:
        return True
    with suppress(OSError, ValueError):
        return os.path.samestat(first.stat(), second.stat())
    return False


def is_or_holds_home(folder: Path) -> bool:
    """Whether a folder is the user's home or one above it, such as `/`: allowing that limits nothing (threat T-12)."""
    named = Path(os.path.realpath(folder))
    above = [Path(folder.anchor), *_home_and_above()]
    return any(place in {folder, named} or same_folder(folder, place) for place in above)


def steps_below(path: Path, folder: Path) -> tuple[str, ...] | None:
    """The names that lead from a folder to a path below it; None if the path is not below it.

    The text shows which parent of the path may be the folder, and its identity decides. Nothing else on the way is opened: it
    may be a share that does not answer, or one that must not learn of this server.
    """
    parts = _parts(path)
    for start in dict.fromkeys((folder, Path(os.path.realpath(folder)))):
        names = _parts(start)
        above, below = parts[: len(names)], parts[len(names) :]
        if below and _folded(above) == _folded(names) and same_folder(Path(*above), start):
            return below
    return None


def _parts(path: Path) -> tuple[str, ...]:
    """The parts of a path. `//` is the root too, on every POSIX system."""
    return (os.sep, *path.parts[1:]) if path.anchor == "//" else path.parts


def _folded(names: tuple[str, ...]) -> list[str]:
    return [unicodedata.normalize("NFC", name).casefold() for name in names]


def _home_and_above() -> list[Path]:
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no entry for the user
        return []
    real = Path(os.path.realpath(home))
    return [home, *home.parents, real, *real.parents]
