"""Download files into a folder of this machine: streamed, with safe names, never over an existing file."""

from __future__ import annotations

import errno
import json
import mimetypes
import os
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from anyio import to_thread

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput
from inferencesh_mcp.flows import Transfer
from inferencesh_mcp.flows.file_system import SHORTEN, is_reserved, is_too_long
from inferencesh_mcp.flows.output_files import OutputFile, output_files, output_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.file_system import WriteFolder
    from inferencesh_mcp.flows.local_files import SaveFolder

MOST_BESIDE_FILES = 4_000  # bytes of JSON that hold little more than the files' addresses
LONGEST_NAME = 120  # characters; every file system takes that many
MOST_NAMESAKES = 1000
MOST_FILES = 100  # of a task in one call: the app decides how many it makes, and the caller reads every name
_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Saved:
    uri: str
    path: Path
    size: int
    content_type: str


async def save_files(
    caller: Caller, report: Report, *, uri: str = "", task_id: str = "", to: str = "", part: int = 1
) -> tuple[list[Saved], int]:
    """Save one file, or one part of a task's files; return the saved files and how many are left after them.

    A part has MOST_FILES files. The first part includes the output as JSON, if that holds more than the files.

    Raises:
        InvalidInput: neither or both of `uri` and `task_id`; a task without output, or without such a part.
        FileRefused: the caller is remote, or the folder cannot be written; no partial file stays.
    """
    if bool(uri) == bool(task_id):
        raise InvalidInput(message="Give either `uri` or `task_id`.")
    if caller.folders is None:
        raise FileRefused(message="This server runs elsewhere and cannot write to your machine.",
                          next_step="Download the file from its address.")  # fmt: skip
    folder = caller.folders.writable(to)
    if uri:
        return [await save(caller.api, folder, uri, report)], 0
    task = await caller.api.task(task_id)
    output = output_of(task)
    all_files = output_files(output)
    files = _part(all_files, part)
    saved: list[Saved] = []
    for file in files:
        try:
            saved.append(await save(caller.api, folder, file.url, report, stem=f"{task.id}-{file.place}"))
        except InferenceError as exc:
            if not saved:
                raise
            done = ", ".join(str(file.path) for file in saved)  # they stay on disk, so the error names them
            raise exc.replace(next_step=f"Saved before that: {done}. {exc.next_step}".strip()) from exc
    whole = json.dumps(output, ensure_ascii=False, indent=1).encode(errors="replace")
    if not files or (part == 1 and len(whole) > MOST_BESIDE_FILES):
        saved.append(await _save_bytes(folder, f"{task.id}-output.json", whole))
    return saved, len(all_files) - (part - 1) * MOST_FILES - len(files)


def _part(files: list[OutputFile], part: int) -> list[OutputFile]:
    first = (part - 1) * MOST_FILES
    if part > 1 and first >= len(files):
        parts = max(1, -(-len(files) // MOST_FILES))
        raise InvalidInput(message=f"The task made {len(files)} files: there is no part {part}.",
                           next_step=f"Parts go from 1 to {parts}.")  # fmt: skip
    return files[first : first + MOST_FILES]


async def save(api: Api, folder: SaveFolder, uri: str, report: Report, *, stem: str = "") -> Saved:
    """Download `uri` into a folder, under a name made from `stem` or from the URI."""
    async with api.download(uri) as download:
        kind = download.content_type.partition(";")[0].strip()
        kind = kind if is_media_type(kind) else "application/octet-stream"
        name = safe_name(stem, uri, kind)
        size = 0
        with _new_file(folder, name) as draft:
            async for chunk in download.chunks:
                # Not in a thread: 64 KiB into the page cache take some 25 µs, a hop there and back takes longer.
                draft.write(chunk)
                size += len(chunk)
                report(Transfer("saving", name, size, download.size))
            path = await to_thread.run_sync(draft.publish)
    return Saved(uri, path, size, kind)


async def _save_bytes(folder: SaveFolder, name: str, content: bytes) -> Saved:
    with _new_file(folder, name) as draft:
        await to_thread.run_sync(draft.write, content)
        path = await to_thread.run_sync(draft.publish)
    return Saved("", path, len(content), "application/json")


def safe_name(stem: str, uri: str, content_type: str) -> str:
    """A safe file name: one plain component with an extension, the same each time for the same file."""
    name = PurePosixPath(unquote(path_of(uri))).name
    base, dot, ending = name.rpartition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9]{1,8}", ending):
        base, ending = name, (mimetypes.guess_extension(content_type) or ".bin").removeprefix(".")
    cleaned = _UNSAFE.sub("-", stem or base).strip("-.")[:LONGEST_NAME] or "file"
    return f"{'file-' if is_reserved(cleaned) else ''}{cleaned}.{ending.lower()}"


@dataclass
class _Draft:
    """A file that is being written under a hidden name until it is complete."""

    folder: WriteFolder
    name: str
    hidden: str
    descriptor: int
    is_closed: bool = False

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            os.close(self.descriptor)

    def publish(self) -> Path:
        """Close the file and give it its name, or the first free `name-2`, `name-3`…"""
        self.close()
        base, _, ending = self.name.rpartition(".")
        for number in range(1, MOST_NAMESAKES):
            name = self.name if number == 1 else f"{base}-{number}.{ending}"
            try:
                self.folder.rename(self.hidden, name)
            except FileExistsError:
                continue
            return self.folder.path / name
        raise FileRefused(
            message=f"{self.folder.path} holds {MOST_NAMESAKES} files named like {self.name}.",
            next_step="Delete or move some of them.",
        )


@contextmanager
def _new_file(folder: SaveFolder, name: str) -> Generator[_Draft]:
    """A file in a folder. The folder is opened only now: while waiting for the headers it may have become a link (T-12)."""
    hidden = f".{secrets.token_hex(8)}.part"
    try:
        with folder.opened() as opened:
            draft = _Draft(opened, name, hidden, opened.create(hidden))
            try:
                yield draft
            finally:
                draft.close()
                opened.remove(hidden)
    except OSError as exc:
        raise _cannot_write(folder.path, exc) from exc


def _cannot_write(folder: Path, exc: OSError) -> FileRefused:
    if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return FileRefused(
            message=f"There is no room left in {folder}.", next_step="Free some space, or set INFERENCE_SAVE_DIR."
        )
    if is_too_long(f"{folder}{os.sep}{'-' * LONGEST_NAME}"):
        return FileRefused(message=f"{folder} is too deep: Windows takes 259 characters.", next_step=SHORTEN)
    return FileRefused(
        message=f"{folder} cannot be written: {exc.strerror}.",
        next_step="Have the person who runs this server set INFERENCE_SAVE_DIR to a folder that can.",
    )
