r"""Whether two paths name one folder of this machine.

Folders are compared by device and inode. Text is not enough: one folder has many names where a disk ignores case or
normal form, by short names (`PROGRA~1`), through links and mounts, and as `//`, `/proc/self/root` or `\\?\C:\`. Some file
systems in user space (exFAT by FUSE) give each spelling of a name its own inode. There the folder's listing decides.
"""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from pathlib import Path

from inferencesh_mcp.path_syntax import plain


def same_folder(first: Path, second: Path) -> bool:
    """Whether both paths name one folder. A folder that does not exist is compared by its path."""
    if first == second:
        return True
    with suppress(OSError, ValueError):
        return os.path.samestat(first.stat(), second.stat()) or _is_listed_as(first, second)
    return False


def _is_listed_as(first: Path, second: Path) -> bool:
    """Whether two existing paths differ in case and normal form only, and their folders list the same names for both."""
    return _folded(str(first)) == _folded(str(second)) and _listed(first) == _listed(second)


def _listed(path: Path) -> Path:
    """The path with each name as its folder lists it.

    Raises:
        OSError: a folder may not be listed.
    """
    listed = Path(path.anchor)
    for name in path.parts[1:]:
        names = [entry.name for entry in listed.iterdir()]
        listed /= name if name in names else next((there for there in names if _folded(there) == _folded(name)), name)
    return listed


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def is_or_holds_home(folder: Path) -> bool:
    """Whether a folder is the user's home or one above it, such as `/`: allowing that limits nothing (threat T-12)."""
    named = real(folder)
    above = [Path(folder.anchor), *_home_and_above()]
    return any(place in {folder, named} or same_folder(folder, place) for place in above)


def real(folder: Path) -> Path:
    """The path of a folder without links."""
    return plain(Path(os.path.realpath(folder)))


def steps_below(path: Path, folder: Path) -> tuple[str, ...] | None:
    """The names that lead from a folder to a path below it; None if the path is not below it.

    The path is walked from its root, and each folder on the way is compared with this one. The walk ends where it leaves the disks
    that lead to the folder. Beyond may be a share that does not answer, or one that must not learn of this server.
    """
    path, place = _plain(path), real(folder)
    for start in (_plain(folder), place):
        if path != start and path.is_relative_to(start):
            return path.relative_to(start).parts
    if path.anchor.casefold() != place.anchor.casefold():  # another drive or share
        return None
    parts = path.parts
    try:
        status = folder.stat()
        disks = {above.stat().st_dev for above in (folder, *place.parents)}
    except (OSError, ValueError):
        return None
    for count in range(1, len(parts)):
        try:
            above = Path(*parts[:count]).stat()
            if os.path.samestat(above, status) or _is_listed_as(Path(*parts[:count]), place):
                return parts[count:]
        except (OSError, ValueError):
            return None
        if above.st_dev not in disks:
            return None
    return None


def _plain(path: Path) -> Path:
    """The path with one root: `//` is `/` on every POSIX system."""
    return Path(os.sep, *path.parts[1:]) if path.anchor == "//" else plain(path)


def _home_and_above() -> list[Path]:
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no entry for the user
        return []
    return [home, *home.parents, real(home), *real(home).parents]
