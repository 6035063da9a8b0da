"""Open and create files below a folder without following links.

POSIX: folder by folder, by descriptor, from the folder down. So what was checked is what is opened, even while somebody swaps
a folder for a link (threat T-12). Windows has no such calls. There a file is opened by its path, and then the system is asked
which file that is.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import unicodedata
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.paths import plain, steps_below

if TYPE_CHECKING:
    from collections.abc import Generator

MAX_ENTRIES = 20_000  # of a folder that are compared with a missing name: some 20 ms


def _flags(*names: str) -> int:
    """The flags of `os.open` that this system has."""
    return sum({int(getattr(os, name, 0)) for name in names})


# O_NONBLOCK: opening a named pipe must not wait for a writer. O_BINARY: Windows would change line ends, and stop at 0x1A.
_READ = _flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
_CREATE = _flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")

_SHORT_NAME = re.compile(r"~\d")  # the second name of a file on Windows' disks: SERVER~1.PEM
# Names that Windows takes for a device in every folder, with any ending; and characters with a meaning of their own.
_RESERVED = re.compile(
    r"(?i)^(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]|conin\$|conout\$|clock\$) *(\.|$)|[\x00-\x1f:*?\"<>|]"
)


def is_reserved(name: str) -> bool:
    """Whether Windows takes a name for a device or a stream of a file."""
    return bool(_RESERVED.search(name))


SHORTEN = "Use a shorter path, or have an administrator set LongPathsEnabled."


def is_too_long(path: str) -> bool:
    """Whether Windows may refuse a path for its length."""
    return sys.platform == "win32" and len(path) >= 260  # MAX_PATH


@dataclass(frozen=True)
class WriteFolder:
    """A folder in which files are created. `descriptor` is None on Windows."""

    path: Path
    descriptor: int | None

    def create(self, name: str) -> int:
        """Create a file for writing.

        Raises:
            NotADirectoryError: the folder was replaced by a link.
            OSError: it cannot be created.
        """
        descriptor = os.open(self._at(name), _CREATE, 0o644, dir_fd=self.descriptor)
        if sys.platform == "win32" and (place := _path_of(descriptor)).parent != self.path:
            os.close(descriptor)
            place.unlink(missing_ok=True)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return descriptor

    def rename(self, name: str, new: str) -> None:
        """Give a closed file a new name. On POSIX it keeps the old one too, until `remove`.

        Raises:
            FileExistsError: the name is taken.
        """
        if sys.platform == "win32":
            os.rename(self._at(name), self._at(new))  # noqa: PTH104 - never replaces a file on Windows, unlike Path.replace
            return
        try:
            os.link(self._at(name), self._at(new), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links (FAT, some shares): reserve the name with an empty file
            os.close(self.create(new))
            try:
                os.replace(self._at(name), self._at(new), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            except OSError:
                self.remove(new)
                raise

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self.descriptor)

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else str(self.path / name)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read from an offset. Only one reader at a time may use the descriptor."""
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)
    return os.pread(descriptor, size, offset)


def _as_people_see(name: str) -> str:
    """A name as people see it: every kind of space is a plain space, and letters are composed (NFC)."""
    if name.isascii():
        return name
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in name)
    return unicodedata.normalize("NFC", spaced)


def _entry_that_looks_like(folder: int | Path, name: str) -> str:
    """The only entry of a folder whose name looks like this one.

    macOS writes U+202F before "PM" in the name of a screenshot, and some disks store names decomposed (NFD); models write
    a plain space and composed letters.

    Raises:
        FileNotFoundError: there is none, or the folder may not be listed.
        FileRefused: there are several.
    """
    shown, names = _as_people_see(name), list[str]()
    with suppress(PermissionError), os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, MAX_ENTRIES) if _as_people_see(entry.name) == shown]
    if not names:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if len(names) > 1:
        raise ambiguous_path(name, names)
    return names[0]


def ambiguous_path(path: str, names: list[str]) -> FileRefused:
    """The error for a path that several files match."""
    shown = (
        repr(name).replace("\\\\", "\\") for name in sorted(names)[:5]
    )  # other spaces as \u202f, and paths as they are
    return FileRefused(
        message=f"Several files match {path}: {', '.join(shown)}.",
        next_step="Give the exact name of one.",
    )


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _final_path = ctypes.WinDLL("kernel32", use_last_error=True).GetFinalPathNameByHandleW
    _final_path.argtypes = (wintypes.HANDLE, wintypes.LPWSTR, wintypes.DWORD, wintypes.DWORD)
    _final_path.restype = wintypes.DWORD
    _MAX_PATH_LENGTH = 32_768  # characters, of Windows' paths
    _LINK = 0x2000_0000  # of the tag of a reparse point that names another place (ntifs.h: IsReparseTagNameSurrogate)

    def _path_of(descriptor: int) -> Path:
        """The path of an open file, without links and short names: whatever was done to its path since."""
        name = ctypes.create_unicode_buffer(_MAX_PATH_LENGTH)
        if not 0 < _final_path(msvcrt.get_osfhandle(descriptor), name, _MAX_PATH_LENGTH, 0) < _MAX_PATH_LENGTH:
            raise ctypes.WinError(ctypes.get_last_error())
        return plain(Path(name.value))

    def open_below(root: Path, steps: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
        """Open the file that `steps` lead to for reading: its descriptor, and its steps as the disk has them.

        `root` has no links in it.

        Raises:
            OSError: there is none, a part of the path is a link (ELOOP or ENOTDIR), or it cannot be opened.
            FileRefused: several entries of a folder look like the name.
        """
        path = root
        for step in steps:
            path /= step if os.path.lexists(path / step) else _entry_that_looks_like(path, step)
        _refuse_links(root, path.relative_to(root).parts)
        try:
            descriptor = os.open(path, _READ)
        except PermissionError:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
            raise
        try:
            real_steps = steps_below(_path_of(descriptor), root)
        except BaseException:
            os.close(descriptor)
            raise
        if real_steps is None:  # a folder was replaced by a link meanwhile
            os.close(descriptor)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return descriptor, real_steps

    @contextmanager
    def write_below(root: Path, steps: tuple[str, ...]) -> Generator[WriteFolder]:
        """Open a folder for writing for the block, and create it if it is missing. `root` has no links in it.

        Raises:
            OSError: it cannot be created, or a part of the path is a link (ELOOP or ENOTDIR).
        """
        path = root.joinpath(*steps)
        path.mkdir(parents=True, exist_ok=True)
        _refuse_links(root, steps)
        yield WriteFolder(plain(Path(os.path.realpath(path))), None)

    def _refuse_links(root: Path, steps: tuple[str, ...]) -> None:
        path = root
        for step in steps:
            path /= step
            status = path.lstat()
            # Not every reparse point is a link: a file that a cloud keeps is one too.
            if stat.S_ISLNK(status.st_mode) or status.st_reparse_tag & _LINK:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

else:
    _FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def open_below(root: Path, steps: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
        """As on Windows, but folder by folder: what was checked is what is opened."""
        with _folder_below(root, steps[:-1]) as (folder, above):
            name, descriptor = _open_in(folder, steps[-1], _READ)
            return descriptor, (*above, name)

    @contextmanager
    def write_below(root: Path, steps: tuple[str, ...]) -> Generator[WriteFolder]:
        root.mkdir(parents=True, exist_ok=True)
        with _folder_below(root, steps, make=True) as (descriptor, _):
            yield WriteFolder(root.joinpath(*steps), descriptor)

    @contextmanager
    def _folder_below(
        root: Path, steps: tuple[str, ...], *, make: bool = False
    ) -> Generator[tuple[int, tuple[str, ...]]]:
        """A descriptor of a folder, and its steps as the disk has them. Links on the way are refused."""
        descriptor, names = os.open(root, _FOLDER), list[str]()
        try:
            for step in steps:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(step, dir_fd=descriptor)
                name, below = _open_in(descriptor, step, _FOLDER)
                os.close(descriptor)
                descriptor = below
                names.append(name)
            yield descriptor, tuple(names)
        finally:
            os.close(descriptor)

    def _open_in(folder: int, name: str, flags: int) -> tuple[str, int]:
        """Open the entry of that name, or the only entry whose name looks the same; its name and descriptor."""
        try:
            descriptor = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            name = _entry_that_looks_like(folder, name)
            descriptor = os.open(name, flags, dir_fd=folder)
        if not _SHORT_NAME.search(name):
            return name, descriptor
        # The disk may be Windows' own, and this a second name of a file whose first name is refused.
        try:
            file = os.fstat(descriptor).st_ino
            with os.scandir(folder) as entries:
                names = [entry.name for entry in islice(entries, MAX_ENTRIES) if entry.inode() == file]
            if not names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except OSError:
            os.close(descriptor)
            raise
        return name if name in names else names[0], descriptor
