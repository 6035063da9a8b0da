"""The folders of this machine that a local caller may reach, and how a file in them is opened.

A path is walked by descriptors from the allowed folder down, following no link: what was checked is what is
opened, even while somebody swaps a folder for a link (threat T-12). A remote caller has no `Folders` at all.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import FileRefused

if TYPE_CHECKING:
    from collections.abc import Generator

# Names that hold secrets wherever they stand; anything that begins with a dot is refused too.
_SECRET = re.compile(
    r"(?i)\.(pem|key|p12|pfx|jks|keystore|kdbx)$|^(id_(rsa|dsa|ecdsa|ed25519)|credentials|secrets?)(\.|$)"
)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK: opening a named pipe must not wait for a writer
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, kw_only=True)
class Folders:
    """`allowed` may be read; `saving` may be read and written."""

    allowed: tuple[Path, ...]
    saving: Path

    def with_roots(self, roots: list[Path]) -> Folders:
        """The same with folders that the host opened; one that holds a whole home, as everything does, opens nothing."""
        home = Path(os.path.realpath(Path.home()))
        narrow = [
            root
            for root in roots
            if root.is_absolute() and _is_name(str(root)) and not home.is_relative_to(os.path.realpath(root))
        ]
        return replace(self, allowed=(*self.allowed, *narrow))

    def open(self, path: str) -> int:
        """Open a regular file for reading and return its descriptor, which the caller closes.

        Raises:
            FileRefused: outside the allowed folders, hidden or secret, missing, unreadable, a folder, or special.
        """
        root, steps = self._inside(path)
        _refuse_secrets(path, steps)
        try:
            with _descended(root, steps[:-1]) as folder:
                descriptor = os.open(steps[-1], _FILE, dir_fd=folder)
        except OSError as exc:
            raise _refusal(path, exc) from exc
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise FileRefused(
                message=f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}.",
                next_step="Name one file.",
            )
        return descriptor

    def writable(self, to: str) -> Path:
        """The folder that is meant by `to`: a relative path below `saving`, or `saving` itself.

        Raises:
            FileRefused: it is elsewhere.
        """
        root = Path(os.path.realpath(self.saving))
        wanted = Path(os.path.realpath(root / _at_home(to))) if _is_name(to) else None
        if wanted is None or not wanted.is_relative_to(root):
            raise FileRefused(
                message=f"Files are saved in {self.saving} only.",
                next_step="Leave `to` out or name a folder below it; INFERENCE_SAVE_DIR sets another place.",
            )
        return wanted

    def _inside(self, path: str) -> tuple[Path, tuple[str, ...]]:
        """The allowed folder that a path lies under, and the steps below it."""
        if not _is_name(path):
            raise FileRefused(
                message="No path has such characters (NUL, or half of a pair).", next_step="Name one file."
            )
        wanted = Path(os.path.normpath(_at_home(path)))
        for root in (*self.allowed, self.saving):
            for start in dict.fromkeys((root, Path(os.path.realpath(root)))):
                if wanted.is_absolute() and wanted != start and wanted.is_relative_to(start):
                    return Path(os.path.realpath(root)), wanted.relative_to(start).parts
        raise self._outside(path, absolute=wanted.is_absolute())

    def _outside(self, path: str, *, absolute: bool) -> FileRefused:
        folders = ", ".join(str(folder) for folder in (*self.allowed, self.saving))
        if not path.strip():
            return FileRefused(message="The path is empty.", next_step=f"Readable folders are {folders}.")
        if not absolute:
            return FileRefused(
                message=f"{path} is not an absolute path.",
                next_step=f"Give the whole path; readable folders are {folders}.",
            )
        return FileRefused(
            message=f"{path} is outside the folders this server may read ({folders}).",
            next_step="Move the file there, or have the person who runs this server add its folder to "
            "INFERENCE_ALLOWED_DIRS. Do not look for a way around it.",
        )


def _is_name(path: str) -> bool:
    """Whether the system can be asked for such a name at all."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _at_home(path: str) -> Path:
    """The path, with `~` as the home that it means; as it is, where nobody has such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def _descended(root: Path, steps: tuple[str, ...]) -> Generator[int]:
    """A descriptor of the folder `steps` below `root`; every link on the way is refused."""
    descriptor = os.open(root, _FOLDER)
    try:
        for step in steps:
            below = os.open(step, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_secrets(path: str, steps: tuple[str, ...]) -> None:
    if any(step.startswith(".") or _SECRET.search(step) for step in steps):
        raise FileRefused(
            message=f"{path} is hidden or looks like a secret, so it is never uploaded.",
            next_step="If it really is to be sent, copy it under another name first.",
        )


def _refusal(path: str, exc: OSError) -> FileRefused:
    match exc:
        case FileNotFoundError():
            return FileRefused(message=f"{path} does not exist.", next_step="Check the path.")
        case PermissionError():
            return FileRefused(
                message=f"{path} cannot be read: permission denied.",
                next_step="Have its owner make it readable, or copy it.",
            )
        case OSError(errno=errno.ENXIO):  # a socket
            return FileRefused(message=f"{path} is not a regular file.", next_step="Name one file.")
        case OSError(errno=errno.ELOOP | errno.ENOTDIR):
            return FileRefused(
                message=f"{path} is a link, or lies behind something that is no folder.",
                next_step="Links are not followed: give the real path.",
            )
        case _:
            return FileRefused(message=f"{path} cannot be opened: {exc.strerror}.", next_step="Check the path.")
