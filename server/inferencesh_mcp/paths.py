r"""Paths of this machine: as people and hosts write them, and which of them name one folder.

Written with `~` or a variable for the home, in quotes, as `file:` URIs, as `\\?\C:\…`. Compared by device and inode: one folder has
many names where a disk ignores case or normal form, by short names (`PROGRA~1`), through links and mounts, and as `//` or
`/proc/self/root`. Some file systems in user space (exFAT by FUSE) give each spelling of a name its own inode. There the folder's
listing decides.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from inferencesh_mcp.errors import FileRefused

MAX_PATH_LENGTH = 8192  # characters; twice what an operating system accepts
# What a shell would have replaced by the home folder. No other variable is: its value would stand in errors.
_HOME = re.compile(r"(?i)^(%USERPROFILE%|%HOMEDRIVE%%HOMEPATH%|\$env:USERPROFILE|\$HOME|\$\{HOME\})(?=[\\/]|$)")
_VERBATIM = re.compile(r"(?i)^\\\\\?\\(UNC\\|(?=[a-z]:))")
_DRIVE = re.compile(r"/[A-Za-z]:($|[\\/])")
_WINDOWS_PATH = re.compile(r"/?([A-Za-z]):[\\/](.*)", re.DOTALL)
_WSL_SHARE = re.compile(r"(?i)[\\/]{2}wsl(?:\$|\.localhost)[\\/][^\\/]+(.*)", re.DOTALL)
_WSL_DRIVE = re.compile(r"/mnt/([a-z])(/.*)?", re.DOTALL)
_PATH = re.compile(r"(?i)[/~\\]|file:|[a-z]:[\\/]|%(user|home)|\$(\{?home|env:)")
_QUOTES = frozenset({'""', "''", "``", "“”", "‘’"})
_WRAPPING = " \t\r\n@" + "".join(quotes[0] for quotes in _QUOTES)


def may_be_path(text: str) -> bool:
    """Whether a text may be a path of this machine."""
    return bool(_PATH.match(text[:64].lstrip(_WRAPPING)))


def readings(reference: str) -> list[str]:
    """The paths that a reference may mean: as given; without quotes, a leading @ or spaces around it, as people paste
    paths; and without a shell's backslashes.

    Raises:
        FileRefused: it names another machine.
    """
    bare, before = reference, ""
    while bare != before and len(reference) <= MAX_PATH_LENGTH:
        before, bare = bare, bare.strip()
        if len(bare) > 1 and bare[0] + bare[-1] in _QUOTES:
            bare = bare[1:-1]
        bare = bare.removeprefix("@")
    unescaped = bare if sys.platform == "win32" else re.sub(r"\\(.)", r"\1", bare)
    paths = dict.fromkeys(map(from_uri, (reference, bare, unescaped)))
    if None in paths:
        raise FileRefused(message=f"{reference[:200]} names another machine.", next_step="Give a path of this one.")
    return [path for path in paths if path is not None]


def expanded(path: str) -> Path:
    """The path with the home folder filled in; unchanged if it is not known."""
    try:
        return plain(Path(_HOME.sub("~", path)).expanduser())
    except RuntimeError:
        return Path(path)


def plain(path: Path) -> Path:
    r"""The same path in its usual form: `/` for `//` on POSIX, and without `\\?\`, which Windows takes before any path."""
    if path.anchor == "//":
        return Path(os.sep, *path.parts[1:])
    if sys.platform == "win32" and (prefix := _VERBATIM.match(text := str(path))):
        return Path(("\\\\" if prefix[1] else "") + text[prefix.end() :])
    return path


def unquoted(text: str) -> str:
    """The text without a pair of quotes around it, which a shell would have taken away."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def from_uri(uri: str) -> str | None:
    """The path of a `file:` URI, or the text itself if it is not one; None if it names another machine."""
    if uri[:5].lower() != "file:":
        return uri
    rest = uri[5:]
    host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
    if unquote(host).lower() not in {"", "localhost"}:
        return None
    path = unquote(slash + path)
    return path[1:] if sys.platform == "win32" and _DRIVE.match(path) else path


def foreign(path: str) -> str:
    """The path as this system writes it, if another system that shares its disk wrote it; empty if not."""
    if sys.platform == "win32":
        drive = _WSL_DRIVE.fullmatch(path)
        return f"{drive[1].upper()}:{(drive[2] or '/')}".replace("/", "\\") if drive else ""
    if share := _WSL_SHARE.fullmatch(path):
        return share[1].replace("\\", "/") or "/"
    windows = _WINDOWS_PATH.fullmatch(path)
    return f"/mnt/{windows[1].lower()}/{windows[2]}".replace("\\", "/") if windows else ""


def is_name(path: str) -> bool:
    """Whether the operating system accepts such a path."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def real(folder: Path) -> Path:
    """The path of a folder without links."""
    return plain(Path(os.path.realpath(folder)))


def is_or_holds_home(folder: Path) -> bool:
    """Whether a folder is the user's home or one above it, such as `/`: allowing that limits nothing (threat T-12)."""
    named = {folder, real(folder)}
    return any(place in named or _same_folder(folder, place) for place in (Path(folder.anchor), *_home_and_above()))


def _home_and_above() -> list[Path]:
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no entry for the user
        return []
    return [home, *home.parents, real(home), *real(home).parents]


def _same_folder(first: Path, second: Path) -> bool:
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
        listed /= name if name in names else next((entry for entry in names if _folded(entry) == _folded(name)), name)
    return listed


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def steps_below(path: Path, folder: Path) -> tuple[str, ...] | None:
    """The names that lead from a folder to a path below it; None if the path is not below it.

    The path is walked from its root, and each folder on the way is compared with this one. The walk ends where it leaves the disks
    that lead to the folder. Beyond may be a share that does not answer, or one that must not learn of this server.
    """
    path, place = plain(path), real(folder)
    for start in (plain(folder), place):
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
