"""Read a host's configuration file, and replace it atomically. Its encoding is kept."""

from __future__ import annotations

import codecs
import functools
import os
import stat
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import HostFileRefused

if TYPE_CHECKING:
    from collections.abc import Callable

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
ATTEMPTS, PAUSE = 5, 0.2
"""How often a change is tried on Windows while another program has the file open, and the seconds between attempts."""
PRIVATE = 0o600
"""The mode of a file that we create: it may hold a key later."""


@dataclass(frozen=True)
class ConfigFile:
    """A file as it was read; `raw` is None if it does not exist."""

    path: Path
    """The real path: a symbolic link is followed, and not replaced."""
    raw: bytes | None
    mark: bytes = b""
    encoding: str = "utf-8"
    mode: int = PRIVATE

    @property
    def text(self) -> str:
        return (self.raw or b"")[len(self.mark) :].decode(self.encoding)

    def written(self, text: str) -> bytes:
        return self.mark + text.encode(self.encoding)


def read(named: Path) -> ConfigFile:
    """Read a configuration file, which need not exist.

    Raises:
        HostFileRefused: it is not a regular file, or cannot be read as text.
    """
    path = Path(os.path.realpath(named))
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if path.is_dir() else "a broken link" if path.is_symlink() else "not a regular file"
            raise HostFileRefused(message=f"{named} is {kind}.", next_step="Move it away and try again.")
        raw = path.read_bytes()
    except FileNotFoundError:
        return ConfigFile(path, None)
    except (OSError, ValueError) as exc:
        raise HostFileRefused(message=f"{named} cannot be read: {_why(exc)}.") from exc
    mark, encoding = next(((mark, name) for mark, name in _BYTE_ORDER_MARKS if raw.startswith(mark)), (b"", "utf-8"))
    file = ConfigFile(path, raw, mark, encoding, stat.S_IMODE(status.st_mode))
    try:
        is_lossless = file.written(file.text) == raw
    except UnicodeDecodeError:
        is_lossless = False
    if not is_lossless:
        raise HostFileRefused(message=f"{named} is not UTF-8 text.", next_step="Save it as UTF-8 and try again.")
    return file


def replace(file: ConfigFile, raw: bytes | None, *, backup: Path | None = None) -> None:
    """Replace the content with `raw`, or remove the file if that is None. The old content is copied to `backup` first.

    The file is replaced atomically and keeps its mode.

    Raises:
        HostFileRefused: it cannot be written, or was changed since it was read.
    """
    path = file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_read_only(path)
        with ExitStack() as on_error:
            if backup and file.raw is not None:
                _write(backup, file.raw, PRIVATE)
                on_error.callback(backup.unlink, missing_ok=True)
            if (path.read_bytes() if path.exists() else None) != file.raw:
                message = f"{path} was changed by another program just now."
                raise HostFileRefused(message=message, next_step="Try again.")
            if raw is None:
                _retried(functools.partial(path.unlink, missing_ok=True))
            else:
                _write(path, raw, file.mode)
            on_error.pop_all()
    except OSError as exc:
        raise HostFileRefused(message=f"{path} cannot be written: {_why(exc)}.") from exc


def _refuse_read_only(path: Path) -> None:
    """Refuse read-only files here: replacing needs only the folder's permission, and root has all permissions."""
    places = {"it": path, "its folder": path.parent}
    if sys.platform == "win32":
        del places["its folder"]  # on Windows a read-only folder is one with its own icon
    for subject, place in places.items():
        if place.exists() and not place.stat().st_mode & 0o222:
            raise HostFileRefused(
                message=f"{path} cannot be written: {subject} is read-only.",
                next_step="Make it writable, then try again.",
            )


def _write(path: Path, raw: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(mode)
        if sys.platform != "win32" and path.exists():
            owner = path.stat()
            with suppress(PermissionError):
                os.chown(new, owner.st_uid, owner.st_gid)
        _retried(functools.partial(new.replace, path))
    finally:
        new.unlink(missing_ok=True)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _retried(change: Callable[[], object]) -> None:
    """Change a file. On Windows it is tried again: a host that is reading the file prevents it for a moment."""
    for _ in range(ATTEMPTS - 1 if sys.platform == "win32" else 0):
        try:
            change()
        except PermissionError:
            time.sleep(PAUSE)
        else:
            return
    change()


def _why(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
