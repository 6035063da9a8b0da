"""Download files into a folder of this machine: streamed, with safe names, never over an existing file."""

from __future__ import annotations

import errno
import json
import mimetypes
import os
import re
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote

from anyio import to_thread

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.api.json import is_object
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput
from inferencesh_mcp.flows import Transfer
from inferencesh_mcp.flows.file_system import SHORTEN, is_reserved, is_too_long
from inferencesh_mcp.flows.output_files import METERING, output_files, output_of
from inferencesh_mcp.flows.run_details import files_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Sequence

    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.api.models import Task
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.file_system import WriteFolder
    from inferencesh_mcp.flows.local_files import Folders, SaveFolder

MAX_BESIDE_FILES = 4_000  # bytes of JSON that hold little more than the files' addresses
MAX_NAME_LENGTH = 120  # characters; every file system takes that many
MAX_NAMESAKES = 1000
MAX_FILES = 100  # in one call: apps decide how many they make, and the caller reads every name
_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Saved:
    uri: str
    path: Path
    size: int
    content_type: str


async def save_files(
    caller: Caller,
    report: Report,
    *,
    uris: Sequence[str] = (),
    task_ids: Sequence[str] = (),
    filename: str = "",
    to: str = "",
    part: int = 1,
) -> tuple[list[Saved], int]:
    """Save files, or one part of them; return the saved files and how many are left after them.

    A part has MAX_FILES files. What a task returned besides its files is saved too, a single text as text.

    Raises:
        InvalidInput: neither or both of `uris` and `task_ids`; a task without output; no such part; one `filename` for
            several files.
        FileRefused: the caller is remote, or the folder cannot be written; no partial file stays.
    """
    if bool(uris) == bool(task_ids):
        raise InvalidInput(
            message="Give either `uris` or `task_ids`.", next_step="Name the files or the tasks to save."
        )
    if caller.folders is None:
        raise FileRefused(
            message="This server runs elsewhere and cannot write to your machine.",
            next_step="Download the file from its address.",
        )
    if filename and len(uris) + len(task_ids) > 1:
        raise InvalidInput(message="`filename` names one file.", next_step="Leave it out, or save one file.")
    folder = await caller.folders.in_thread(_save_folder, caller.folders, to)
    first, number, saved = (part - 1) * MAX_FILES, 0, list[Saved]()
    try:
        async for items in _items_to_save(caller, uris, task_ids):
            if filename and len(items) > 1:
                raise InvalidInput(
                    message=f"`filename` names one file, and these are {len(items)}.",
                    next_step="Leave it out: each has a name of its own.",
                )
            for item in items:
                if first <= number < first + MAX_FILES:
                    saved.append(await item.save(caller.api, folder, report, filename))
                number += 1
    except InferenceError as exc:
        if not saved:
            raise
        saved_paths = ", ".join(str(file.path) for file in saved)  # they stay on disk, so the error names them
        raise exc.replace(next_step=f"Saved before that: {saved_paths}. {exc.next_step}".strip()) from exc
    if part > 1 and first >= number:
        raise InvalidInput(
            message=f"There are {number} files to save, and no part {part}.",
            next_step=f"Parts go from 1 to {max(1, -(-number // MAX_FILES))}.",
        )
    return saved, max(number - first - MAX_FILES, 0)


def _save_folder(folders: Folders, to: str) -> SaveFolder:
    """The folder to save in, after a first look into it: macOS may ask the person then, and a share may not answer."""
    folder = folders.writable(to)
    with suppress(OSError), os.scandir(folders.saving) as entries:
        next(entries, None)
    return folder


async def _items_to_save(
    caller: Caller, uris: Sequence[str], task_ids: Sequence[str]
) -> AsyncIterator[list[_Download | _Content]]:
    """What to save, one address or task at a time: the outputs of all tasks together may be large."""
    for uri in uris:
        yield [_Download(uri)]
    for task_id in task_ids:
        yield await _of_task(caller, await caller.api.task(task_id))


@dataclass(frozen=True)
class _Download:
    """A file to fetch from its address."""

    uri: str
    name: str = ""
    """Its name, if the app or the platform has one for it."""

    async def save(self, api: Api, folder: SaveFolder, report: Report, filename: str) -> Saved:
        """Download it, under `filename` or its own name, made safe."""
        async with api.download(self.uri) as download:
            kind = download.content_type.partition(";")[0].strip()
            kind = kind if is_media_type(kind) else "application/octet-stream"
            name = safe_name(filename or self.name, self.uri, kind)
            size = 0
            with _new_file(folder, name) as draft:
                async for chunk in download.chunks:
                    # Not in a thread: 64 KiB into the page cache take some 25 µs, a hop there and back takes longer.
                    draft.file.write(chunk)
                    size += len(chunk)
                    report(Transfer("saving", name, size, download.size))
                path = await to_thread.run_sync(draft.publish)
        return Saved(self.uri, path, size, kind)


@dataclass(frozen=True)
class _Content:
    """What a task returned besides files."""

    name: str
    content: bytes
    content_type: str

    async def save(self, _api: Api, folder: SaveFolder, _report: Report, filename: str) -> Saved:
        name = safe_name(filename or self.name, "", self.content_type)
        with _new_file(folder, name) as draft:
            await to_thread.run_sync(draft.file.write, self.content)
            path = await to_thread.run_sync(draft.publish)
        return Saved("", path, len(self.content), self.content_type)


async def _of_task(caller: Caller, task: Task) -> list[_Download | _Content]:
    """What to save of a task: its files by their own names, and its output unless the files are all of it."""
    output = output_of(task)
    files = output_files(output)
    names = {file.uri: file.filename for file in await files_of(caller, task)}
    items: list[_Download | _Content] = [
        _Download(file.url, names.get(file.url) or file.name or file.place) for file in files
    ]
    texts = {name: value for name, value in (output.items() if is_object(output) else ()) if name != METERING}
    if isinstance(output, str) or (len(texts) == 1 and isinstance(next(iter(texts.values())), str)):
        if not files:
            name, text = ("output", output) if isinstance(output, str) else next(iter(texts.items()))
            items.append(_Content(f"{name}.txt", str(text).encode(errors="replace"), "text/plain"))
        return items
    whole = await to_thread.run_sync(_as_json, output)  # 0.2 s for the largest output
    if not files or len(whole) > MAX_BESIDE_FILES:
        items.append(_Content("output.json", whole, "application/json"))
    return items


def _as_json(output: Any) -> bytes:
    return json.dumps(output, ensure_ascii=False, indent=1).encode(errors="replace")


def safe_name(name: str, uri: str, content_type: str) -> str:
    """A safe file name: one plain component with an extension, the same each time for the same file."""
    in_uri = PurePosixPath(unquote(path_of(uri))).name if uri else ""
    base, ending = _split(name or in_uri)
    ending = ending or _split(in_uri)[1] or (mimetypes.guess_extension(content_type) or ".bin").removeprefix(".")
    cleaned = _UNSAFE.sub("-", base[: 4 * MAX_NAME_LENGTH]).strip("-.")[:MAX_NAME_LENGTH] or "file"
    return f"{'file-' if is_reserved(cleaned) else ''}{cleaned}.{ending.lower()}"


def _split(name: str) -> tuple[str, str]:
    """A name and its extension, if it has one."""
    base, dot, ending = name.rpartition(".")
    return (base, ending) if dot and re.fullmatch(r"[A-Za-z0-9]{1,8}", ending) else (name, "")


@dataclass(frozen=True)
class _Draft:
    """A file that is being written under a hidden name until it is complete."""

    folder: WriteFolder
    name: str
    hidden: str
    file: BinaryIO

    def publish(self) -> Path:
        """Close the file and give it its name, or the first free `name-2`, `name-3`…"""
        self.file.close()
        base, _, ending = self.name.rpartition(".")
        for number in range(1, MAX_NAMESAKES + 1):
            name = self.name if number == 1 else f"{base}-{number}.{ending}"
            try:
                self.folder.rename(self.hidden, name)
            except FileExistsError:
                continue
            return self.folder.path / name
        raise FileRefused(
            message=f"{self.folder.path} holds {MAX_NAMESAKES} files named like {self.name}.",
            next_step="Delete or move some of them.",
        )


@contextmanager
def _new_file(folder: SaveFolder, name: str) -> Generator[_Draft]:
    """A file in a folder. The folder is opened only now: while waiting for the headers it may have become a link (T-12)."""
    hidden = f".{secrets.token_hex(8)}.part"
    try:
        with folder.opened() as opened:
            descriptor = opened.create(hidden)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield _Draft(opened, name, hidden, file)
            finally:
                opened.remove(hidden)
    except OSError as exc:
        raise _cannot_write(folder.path, exc) from exc


def _cannot_write(folder: Path, exc: OSError) -> FileRefused:
    if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return FileRefused(
            message=f"There is no room left in {folder}.", next_step="Free some space, or set INFERENCE_SAVE_DIR."
        )
    if is_too_long(f"{folder}{os.sep}{'-' * MAX_NAME_LENGTH}"):
        return FileRefused(message=f"{folder} is too deep: Windows takes 259 characters.", next_step=SHORTEN)
    return FileRefused(
        message=f"{folder} cannot be written: {exc.strerror}.",
        next_step="Have the person who runs this server set INFERENCE_SAVE_DIR to a folder that can.",
    )
