"""The folders of this machine that a local caller may reach, and which files in them may be read and written.

`file_system` opens them. A remote caller has no `Folders` at all.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import unicodedata
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

from anyio import CapacityLimiter, to_thread

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.file_system import (
    SHORTEN,
    ambiguous_path,
    is_reserved,
    is_too_long,
    open_below,
    read_at,
    write_below,
)
from inferencesh_mcp.paths import expanded, foreign, is_name, is_or_holds_home, real, steps_below

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from inferencesh_mcp.flows.file_system import WriteFolder

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

# Files that hold secrets in any folder, by the names and endings that programs give them. Names that begin with a dot
# are refused too. `secret.png` is a picture, and `deck.key` may be a presentation: see `_refuse_content`.
_DATA_FILE = r"(\.(json|ya?ml|toml|ini|txt|csv|env|xml|properties|conf|cfg|db|bak|old|enc|gpg))*"
_SECRET_NAME = re.compile(
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

FILE_THREADS = 8  # that may wait for disks at a time, apart from those of stdin and stdout

# Where chat hosts keep the files of their own code sandboxes: Claude, ChatGPT.
_HOST_SANDBOX = re.compile(r"(?i)^(sandbox:|attachment:|/mnt/(user-data|data)/|/home/(claude|oai)/)")


@dataclass(frozen=True, kw_only=True)
class Folders:
    """`allowed` may be read; `saving` may be read and written."""

    allowed: tuple[Path, ...]
    saving: Path
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(FILE_THREADS), compare=False)

    async def in_thread(self, function: Callable[[Unpack[Arguments]], Result], *arguments: *Arguments) -> Result:
        """Call a function that may block for long: a share, a file that a cloud has to fetch, or a question of macOS to the person.

        If the caller is cancelled, the thread goes on alone.
        """
        return await to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=self.threads)

    def with_roots(self, roots: list[Path]) -> Folders:
        """A copy that also allows the host's roots, except those that are or contain a home folder."""
        narrow = [root for root in roots if root.is_absolute() and is_name(str(root)) and not is_or_holds_home(root)]
        return replace(self, allowed=(*self.allowed, *narrow))

    def open(self, path: str, *readings: str) -> tuple[int, str]:
        """Open a regular file for reading: its descriptor, and its name as the disk has it.

        `readings` are other paths that it may mean, for example without quotes. They are tried if no file has the path
        itself, and exactly one file must match them. A name alone is looked for in each folder.

        Raises:
            FileRefused: outside the allowed folders, hidden or secret, missing, unreadable, a folder, or special; or
                several files match.
        """
        if exact := self._opened(path):
            return exact
        display_path = path if foreign(path) else next(iter(readings), path)
        bare_names = [name for name in dict.fromkeys((path, *readings)) if _is_file_name(name)]
        readings = (*readings, *(str(folder / name) for folder in self._readable for name in bare_names))
        files: dict[str, tuple[int, str]] = {}
        with ExitStack() as stack:
            for reading in readings:
                if file := self._opened(reading):
                    files[reading] = file
                    stack.callback(os.close, file[0])
            statuses = [os.fstat(descriptor) for descriptor, _ in files.values()]
            if files and all(os.path.samestat(statuses[0], status) for status in statuses):
                descriptor, name = next(iter(files.values()))
                return os.dup(descriptor), name
        if files:
            raise ambiguous_path(path, list(files))
        raise self._no_such_file(display_path)

    @property
    def _readable(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((*self.allowed, self.saving)))

    def writable(self, to: str) -> SaveFolder:
        """The folder that `to` names: a relative path below `saving`, or `saving` itself.

        Raises:
            FileRefused: it is not below `saving`.
        """
        root = real(self.saving)
        target = Path(os.path.normpath(root / expanded(to))) if is_name(to) else None
        steps = steps_below(target / "file", root) if target else None
        if steps is None or (sys.platform == "win32" and any(map(is_reserved, steps))):
            raise self._not_in_save_folder(to)
        folder = SaveFolder(root, steps[:-1])
        if folder.has_a_link:
            raise self._not_in_save_folder(to)
        return folder

    def _not_in_save_folder(self, to: str) -> FileRefused:
        if foreign(to):
            return _path_of_another_system(to)
        return FileRefused(
            message=f"Files are saved in {self.saving} only.",
            next_step="Leave `to` out or name a folder below it; INFERENCE_SAVE_DIR sets another place.",
        )

    def _opened(self, path: str) -> tuple[int, str] | None:
        """The descriptor and name of the file at exactly this path; None if there is none, or the path is not absolute."""
        if not is_name(path):
            raise FileRefused(
                message="The path has invalid characters (NUL or half a surrogate pair).", next_step="Correct the path."
            )
        absolute = Path(os.path.normpath(expanded(path)))
        if not absolute.is_absolute():
            return None
        root, steps = self._inside(path, absolute)
        _refuse_names(path, steps)
        try:
            descriptor, steps = open_below(root, steps)
            with ExitStack() as stack:
                stack.callback(os.close, descriptor)
                _refuse_names(path, steps)
                _refuse_content(path, steps[-1], descriptor)
                stack.pop_all()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _cannot_open(path, exc) from exc
        return descriptor, steps[-1]

    def _inside(self, path: str, absolute: Path) -> tuple[Path, tuple[str, ...]]:
        """The allowed folder that contains a path, and the steps below it."""
        for root in self._readable:
            if steps := steps_below(absolute, root):
                return real(root), steps
        raise self._no_such_file(path, outside=True)

    def _no_such_file(self, path: str, *, outside: bool = False) -> FileRefused:
        """The error for a path that names no file here, or one outside the allowed folders."""
        folders = ", ".join(map(str, self._readable))
        if not path.strip():
            return FileRefused(message="The path is empty.", next_step=f"Readable folders are {folders}.")
        if _HOST_SANDBOX.match(path) and (outside or not Path(path).is_absolute()):
            return FileRefused(
                message=f"{path} lies in the host's own sandbox, which this server cannot read.",
                next_step="Call file_upload without source for an upload ticket, and send the bytes from there. "
                f"Or have the person copy the file to an allowed folder: {folders}.",
            )
        if foreign(path):
            return _path_of_another_system(path)
        if outside:
            return FileRefused(
                message=f"{path} is outside the folders this server may read ({folders}).",
                next_step="Move the file there, or have the person who runs this server add its folder to "
                "INFERENCE_ALLOWED_DIRS. Do not look for a way around it.",
            )
        if _is_file_name(path):
            return FileRefused(
                message=f"No readable folder has a file named {path}.",
                next_step=f"Give its whole path; readable folders are {folders}.",
            )
        if not expanded(path).is_absolute():
            return FileRefused(
                message=f"{path} is not an absolute path.",
                next_step=f"Give the whole path; readable folders are {folders}.",
            )
        return _cannot_open(path, FileNotFoundError())


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
        try:
            with write_below(self.root, self.steps) as folder:
                yield folder
        except OSError as exc:
            if exc.errno in {errno.ELOOP, errno.ENOTDIR} and self.has_a_link:
                raise FileRefused(
                    message=f"{self.path} was replaced by a link.",
                    next_step="Nothing was written. Name another folder in `to`.",
                ) from exc
            raise

    @property
    def has_a_link(self) -> bool:
        return real(self.path) != self.path


def _is_file_name(path: str) -> bool:
    """Whether a path is the name of a file alone."""
    return path not in {"", ".."} and Path(path).name == path and is_name(path) and not foreign(path)


def _refuse_names(path: str, steps: tuple[str, ...]) -> None:
    """Refuse hidden files, secrets, and on Windows names of devices and streams."""
    for step in steps:
        if step.startswith(".") or _SECRET_NAME.search(step) or _SECRET_NAME.search(_as_stored(step)):
            raise _looks_secret(path)
    if sys.platform == "win32" and any(map(is_reserved, steps)):
        raise FileRefused(message=f"{path} is a name that Windows reserves.", next_step="Name a plain file.")


def _as_stored(name: str) -> str:
    """A name as some disks store it: without invisible characters, dots and spaces at the end, and what follows a colon."""
    visible = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return visible.partition(":")[0].rstrip(". ")


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
            message=f"{path} is a private file with a second hard link, perhaps outside the allowed folders.",
            next_step="To send it, copy it and pass the copy.",
        )
    start = read_at(descriptor, _START, 0)
    if _PRIVATE_KEY.search(start) or (name.lower().endswith(_KEY_ENDING) and not start.startswith(_ZIP)):
        raise _looks_secret(path)


def _looks_secret(path: str) -> FileRefused:
    return FileRefused(
        message=f"{path} is hidden or looks like a secret, so it is never uploaded.",
        next_step="If it really is to be sent, copy it under another name first.",
    )


def _path_of_another_system(path: str) -> FileRefused:
    system = "WSL" if sys.platform == "win32" or "wsl" in path[:16].lower() else "Windows"
    return FileRefused(
        message=f"{path} is a path as {system} writes it, and this server does not run there.",
        next_step=f"Try {foreign(path)}.",
    )


def _cannot_open(path: str, exc: OSError) -> FileRefused:
    match exc:
        case _ if is_too_long(path):
            return FileRefused(message=f"{path} is longer than Windows allows.", next_step=SHORTEN)
        case IsADirectoryError():
            return FileRefused(message=f"{path} is a folder.", next_step="Name one file.")
        case FileNotFoundError():
            return FileRefused(message=f"{path} does not exist.", next_step="Check the path.")
        case OSError(errno=errno.EPERM) if sys.platform == "darwin":
            return FileRefused(
                message=f"{path} cannot be read: macOS does not allow it to this program.",
                next_step="Allow it in System Settings > Privacy & Security > Files and Folders.",
            )
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
