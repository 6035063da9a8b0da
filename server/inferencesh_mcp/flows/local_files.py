"""The folders of this machine that a local caller may reach, and how files in them are opened and created.

A path is opened folder by folder, by descriptor, from the allowed folder down, and no link is followed. So what was checked
is what is opened, even while somebody swaps a folder for a link (threat T-12). A remote caller has no `Folders` at all.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.folder_identity import is_or_holds_home, steps_below

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

# Files that hold secrets in any folder, by the names and endings that programs give them. Names that begin with a dot
# are refused too. `secret.png` is a picture, and `deck.key` may be a presentation: see `_refuse_content`.
_DATA_FILE = r"(\.(json|ya?ml|toml|ini|txt|csv|env|xml|properties|conf|cfg|db|bak|old|enc|gpg))*"
_SECRET = re.compile(
    r"(?ix)"
    r"\.(pem|p12|pfx|jks|keystore|kdbx|ppk|p8|ovpn|keychain(-db)?|kubeconfig|tfstate|tfvars)(\.(bak|old|backup))?$"
    r"|^id_(rsa|dsa|ecdsa|ed25519)(_sk)?(\.|$)"
    rf"|^(credentials?|secrets?|kube[-_]?config|service[-_]?account([-_]?key)?|application_default_credentials){_DATA_FILE}$"
    r"|^(client_secret|service[-_]?account)[\w.@-]*\.json$"  # names that Google gives
    r"|^(\w+_accesskeys|rootkey)\.csv$"  # names that AWS gives
    r"|^(wallet\.dat|_netrc|htpasswd|pgpass\.conf|secring\.gpg|logins\.json|key[34]\.db|cookies\.sqlite)$"
)
_KEY_ENDING = ".key"  # of private keys and of Keynote presentations
_ZIP = b"PK\x03\x04"  # how a Keynote presentation begins
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PuTTY-User-Key-File")
_START = 128  # bytes that identify a private key

MOST_ENTRIES = 20_000  # of a folder that are compared with a missing name: some 20 ms

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK: opening a named pipe must not wait for a writer
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_BY_DESCRIPTOR = {os.open, os.mkdir, os.link, os.unlink, os.rename} <= os.supports_dir_fd

# Where chat hosts keep the files of their own code sandboxes: Claude, ChatGPT.
_HOST_SANDBOX = re.compile(r"(?i)^(sandbox:|attachment:|/mnt/(user-data|data)/|/home/(claude|oai)/)")


@dataclass(frozen=True)
class OpenFile:
    """A file that is open for reading. The caller closes the descriptor."""

    descriptor: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Folders:
    """`allowed` may be read; `saving` may be read and written."""

    allowed: tuple[Path, ...]
    saving: Path

    def with_roots(self, roots: list[Path]) -> Folders:
        """A copy that also allows the host's roots, except those that are or contain a home folder."""
        narrow = [root for root in roots if root.is_absolute() and _is_name(str(root)) and not is_or_holds_home(root)]
        return replace(self, allowed=(*self.allowed, *narrow))

    def open(self, path: str, *readings: str) -> OpenFile:
        """Open a regular file for reading.

        `readings` are other paths that it may mean, for example without quotes. They are tried if no file has the path
        itself, and exactly one file must match them.

        Raises:
            FileRefused: outside the allowed folders, hidden or secret, missing, unreadable, a folder, or special; or
                several files match.
        """
        if (exact := self._opened(path)) is not None:
            return exact
        files = {reading: file for reading in readings if (file := self._opened(reading)) is not None}
        first, *others = files.values() or (None,)
        if first and all(os.path.sameopenfile(first.descriptor, other.descriptor) for other in others):
            _close(others)
            return first
        _close(files.values())
        if files:
            raise _several(path, list(files))
        raise self._not_there(next(iter(readings), path))

    def writable(self, to: str) -> SaveFolder:
        """The folder that `to` names: a relative path below `saving`, or `saving` itself.

        Raises:
            FileRefused: it is not below `saving`.
        """
        root = Path(os.path.realpath(self.saving))
        target = Path(os.path.realpath(root / _at_home(to))) if _is_name(to) else None
        if target is None or not target.is_relative_to(root):
            raise FileRefused(
                message=f"Files are saved in {self.saving} only.",
                next_step="Leave `to` out or name a folder below it; INFERENCE_SAVE_DIR sets another place.",
            )
        return SaveFolder(root, target.relative_to(root).parts)

    def _opened(self, path: str) -> OpenFile | None:
        """The file at exactly this path; None if there is none, or the path is not absolute."""
        if not _is_name(path):
            raise FileRefused(
                message="The path has invalid characters (NUL or half a surrogate pair).", next_step="Correct the path."
            )
        absolute = Path(os.path.normpath(_at_home(path)))
        if not absolute.is_absolute():
            return None
        root, steps = self._inside(path, absolute)
        _refuse_secrets(path, steps)
        try:
            with _descended(root, steps[:-1]) as folder:
                name, descriptor = _open_in(folder, steps[-1], _FILE)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _refusal(path, exc) from exc
        try:
            _refuse_content(path, name, descriptor)
        except FileRefused:
            os.close(descriptor)
            raise
        return OpenFile(descriptor, name)

    def _inside(self, path: str, absolute: Path) -> tuple[Path, tuple[str, ...]]:
        """The allowed folder that contains a path, and the steps below it."""
        for root in (*self.allowed, self.saving):
            if steps := steps_below(absolute, root):
                return Path(os.path.realpath(root)), steps
        raise self._not_there(path, outside=True)

    def _not_there(self, path: str, *, outside: bool = False) -> FileRefused:
        """The error for a path that names no file here, or one outside the allowed folders."""
        folders = ", ".join(str(folder) for folder in (*self.allowed, self.saving))
        if not path.strip():
            return FileRefused(message="The path is empty.", next_step=f"Readable folders are {folders}.")
        if _HOST_SANDBOX.match(path) and (outside or not Path(path).is_absolute()):
            return FileRefused(
                message=f"{path} lies in the host's own sandbox, which this server cannot read.",
                next_step="Call file_upload without source for an upload ticket, and send the bytes from there. "
                f"Or have the person copy the file to an allowed folder: {folders}.",
            )
        if outside:
            return FileRefused(
                message=f"{path} is outside the folders this server may read ({folders}).",
                next_step="Move the file there, or have the person who runs this server add its folder to "
                "INFERENCE_ALLOWED_DIRS. Do not look for a way around it.",
            )
        if not Path(_at_home(path)).is_absolute():
            return FileRefused(
                message=f"{path} is not an absolute path.",
                next_step=f"Give the whole path; readable folders are {folders}.",
            )
        return _refusal(path, FileNotFoundError())


@dataclass(frozen=True)
class SaveFolder:
    """A folder to write to: `steps` below the save folder `root`, whose path contains no link."""

    root: Path
    steps: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.root.joinpath(*self.steps)

    @contextmanager
    def opened(self) -> Generator[WriteFolder]:
        """Open the folder for the block, and create it if it is missing.

        Raises:
            FileRefused: it was replaced by a link.
            OSError: it cannot be created or opened.
        """
        if not _BY_DESCRIPTOR:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._has_a_link:
                raise self._swapped()
            yield WriteFolder(self.path, None)
            return
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            with _descended(self.root, self.steps, make=True) as descriptor:
                yield WriteFolder(self.path, descriptor)
        except OSError as exc:
            if exc.errno in {errno.ELOOP, errno.ENOTDIR} and self._has_a_link:
                raise self._swapped() from exc
            raise

    @property
    def _has_a_link(self) -> bool:
        return Path(os.path.realpath(self.path)) != self.path

    def _swapped(self) -> FileRefused:
        return FileRefused(
            message=f"{self.path} was replaced by a link.",
            next_step="Nothing was written. Name another folder in `to`.",
        )


@dataclass(frozen=True)
class WriteFolder:
    """An open folder. Its entries are created and renamed by its descriptor, or by its path if the system has no such calls."""

    path: Path
    descriptor: int | None

    def create(self, name: str, flags: int, mode: int) -> int:
        return os.open(self._at(name), flags, mode, dir_fd=self.descriptor)

    def link(self, name: str, new: str) -> None:
        os.link(self._at(name), self._at(new), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def replace(self, name: str, new: str) -> None:
        os.replace(self._at(name), self._at(new), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self.descriptor)

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else str(self.path / name)


def _is_name(path: str) -> bool:
    """Whether the operating system accepts such a name."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _at_home(path: str) -> Path:
    """The path with `~` expanded, or unchanged if there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _close(files: Iterable[OpenFile]) -> None:
    for file in files:
        os.close(file.descriptor)


@contextmanager
def _descended(root: Path, steps: tuple[str, ...], *, make: bool = False) -> Generator[int]:
    """A descriptor of the folder `steps` below `root`. Links on the way are refused. `make`: create missing folders."""
    descriptor = os.open(root, _FOLDER)
    try:
        for step in steps:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=descriptor)
            _, below = _open_in(descriptor, step, _FOLDER)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _open_in(folder: int, name: str, flags: int) -> tuple[str, int]:
    """Open the entry of that name, or the only entry whose name looks the same.

    macOS writes U+202F before "PM" in the name of a screenshot, and some disks store names decomposed (NFD); models write
    a plain space and composed letters.
    """
    try:
        return name, os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        alike = _alike(folder, name)
        if len(alike) > 1:
            raise _several(name, alike) from None
        if not alike:
            raise
        return alike[0], os.open(alike[0], flags, dir_fd=folder)


def _alike(folder: int, name: str) -> list[str]:
    """The entries of a folder whose names look like this one; none if it may not be listed."""
    looks = _looks(name)
    with suppress(PermissionError), os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, MOST_ENTRIES) if _looks(entry.name) == looks]
    return []


def _looks(name: str) -> str:
    """A name as people see it: every kind of space is a plain space, and letters are composed (NFC)."""
    if name.isascii():
        return name
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in name)
    return unicodedata.normalize("NFC", spaced)


def _several(path: str, names: list[str]) -> FileRefused:
    return FileRefused(
        message=f"Several files fit {path}: {', '.join(repr(name) for name in sorted(names)[:5])}.",
        next_step="Give the exact name of one.",
    )


def _refuse_secrets(path: str, steps: tuple[str, ...]) -> None:
    # Some disks treat a name with invisible characters as the name without them.
    visible = ["".join(letter for letter in step if unicodedata.category(letter) != "Cf") for step in steps]
    if any(step.startswith(".") or _SECRET.search(step) for step in (*steps, *visible)):
        raise _secret(path)


def _refuse_content(path: str, name: str, descriptor: int) -> None:
    """Refuse a file that is not regular, holds a private key, or may be a hard link to somebody's private file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused(
            message=f"{path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}.",
            next_step="Name one file.",
        )
    # A hard link may lead to a file outside the allowed folders. If everybody may read that file, the link reveals nothing
    # (packages and backups have such links). If not, another user may try to read it through this server.
    if status.st_nlink > 1 and not status.st_mode & stat.S_IROTH:
        raise FileRefused(
            message=f"{path} is a private file that has a second name, perhaps outside the allowed folders.",
            next_step="If it really is to be sent, copy it first.",
        )
    _refuse_secrets(path, (name,))
    start = os.pread(descriptor, _START, 0)
    if _PRIVATE_KEY.search(start) or (name.lower().endswith(_KEY_ENDING) and not start.startswith(_ZIP)):
        raise _secret(path)


def _secret(path: str) -> FileRefused:
    return FileRefused(
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
                message=f"{path} is a link, or a part of it is not a folder.",
                next_step="Links are not followed: give the real path.",
            )
        case _:
            return FileRefused(message=f"{path} cannot be opened: {exc.strerror}.", next_step="Check the path.")
