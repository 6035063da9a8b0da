"""Where the bytes of a file come from: a path, a `file:` URI, a data URI, base64, or an address.

An address is read through the one guarded client, which fetches from public https addresses only (I-16).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import os
import re
import string
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from anyio import to_thread

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput
from inferencesh_mcp.flows.file_system import read_at
from inferencesh_mcp.paths import readings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.api.file_transport import Download
    from inferencesh_mcp.flows.local_files import Folders

CHUNK = 256 * 1024  # bytes read and sent at a time
MAX_DATA_BYTES = 8 * 1024 * 1024  # decoded bytes of a data URI
LONG_TEXT = 256 * 1024  # characters: decoding so many takes up to 0.1 s
MAX_FILE_BYTES = 512 * 1024 * 1024
_DATA = re.compile(r"(?i)data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]+)*(?P<base64>;base64)?,", re.ASCII)
# The types that a data URI may have: those of RFC 6838 except multipart and message.
_KINDS = frozenset({"application", "audio", "font", "image", "model", "text", "video"})
_REMOTE = re.compile(r"(?i)(https?|inf):")
# What may stand between the characters of base64: line breaks and spaces, also those that a model escaped twice in JSON.
_SPACE = string.whitespace.encode()
_ESCAPED_SPACE = (r"\r", r"\n", r"\t")
_STANDARD = bytes.maketrans(b"-_", b"+/")

_FETCH_REMEDY = "Give an https address that anyone can read, or download the file and upload it from disk."

# First bytes that identify a type, for names that do not (WHATWG MIME Sniffing, section 6).
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"PK\x03\x04", "application/zip"),
    (b"fLaC", "audio/flac"),
)


class Source(Protocol):
    """Bytes that can be sent, and sent again from the first byte."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def state(self) -> tuple[int, ...]:
        """Equal for the same bytes; different if the file was written to, replaced or deleted since."""
        ...

    def chunks(self) -> AsyncGenerator[bytes]:
        """Read from the first byte.

        Raises:
            FileRefused: the bytes have changed since the source was opened.
        """
        ...

    def close(self) -> None: ...


def is_remote(reference: str) -> bool:
    """Whether a reference is an address that the platform can read itself."""
    return bool(_REMOTE.match(reference))


async def open_source(reference: str, folders: Folders | None) -> Source:
    """Open a data URI, a `file:` URI or a path. The caller closes it.

    Raises:
        InvalidInput: a data URI that cannot be read.
        FileRefused: a file that may not or cannot be read; every path if there are no `folders`.
    """
    if reference[:64].lstrip()[:5].lower() == "data:":
        return await decode_text(_from_data_uri, reference.lstrip())
    if folders is None:
        raise FileRefused(
            message="This server runs elsewhere and cannot read files of your machine.",
            next_step="Give an https URL or a data URI, or ask `file_upload` for an upload ticket.",
        )
    return await _open_in_thread(folders, readings(reference))


async def _open_in_thread(folders: Folders, paths: list[str]) -> _LocalFile:
    """Open a file in a thread. If the caller leaves before that is done, the file is closed then."""
    lock = threading.Lock()
    files: list[_LocalFile] = []
    caller_left = False

    def open_file() -> _LocalFile:
        descriptor, name = folders.open(*paths)
        try:
            file = _LocalFile(descriptor, name, folders)
        except BaseException:
            os.close(descriptor)
            raise
        with lock:
            files.append(file)
            if caller_left:
                file.close()
        return file

    try:
        return await folders.in_thread(open_file)
    except BaseException:
        with lock:
            caller_left = True
            for file in files:
                file.close()
        raise


def content_type_of(name: str, start: bytes) -> str:
    """The content type: from the first bytes if they identify it, else from the name, else octet-stream."""
    if start[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(start[8:12], "application/octet-stream")
    if start[4:8] == b"ftyp":
        return mimetypes.guess_type(name)[0] or "video/mp4"
    by_bytes = next((kind for signature, kind in _SIGNATURES if start.startswith(signature)), None)
    by_name = mimetypes.guess_type(name)[0]
    if by_bytes == "application/zip" and by_name:
        return by_name  # office documents and many others are zips
    return by_bytes or by_name or "application/octet-stream"


@dataclass(frozen=True)
class Bytes:
    """Bytes already in memory."""

    name: str
    content_type: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def state(self) -> tuple[int, ...]:
        return ()

    async def chunks(self) -> AsyncGenerator[bytes]:
        for start in range(0, len(self.content), CHUNK):
            yield self.content[start : start + CHUNK]

    def close(self) -> None:
        """Nothing is open."""


async def decode_text(decode: Callable[[str], Bytes], text: str) -> Bytes:
    """Decode a text; a long one in a thread, so that others are answered in between."""
    return await to_thread.run_sync(decode, text) if len(text) > LONG_TEXT else decode(text)


def _from_data_uri(reference: str) -> Bytes:
    """Read a data URI (RFC 2397), strictly except for its base64. The size is checked before decoding (threat T-20)."""
    header = _DATA.match(reference[:1024])
    if header is None:
        raise InvalidInput(
            message="That data URI cannot be read.", next_step="Write it as data:image/png;base64,… (RFC 2397)."
        )
    kind = header["type"] or ""
    if kind and kind.partition("/")[0].lower() not in _KINDS:
        raise InvalidInput(
            message=f"A data URI may not be of type {kind[:80]}.",
            next_step=f"These can be: {', '.join(sorted(_KINDS))}.",
        )
    body = reference[header.end() :]
    if header["base64"]:
        return _decoded(unquote(body), kind)
    _refuse_large(len(body) / 3)  # a lower bound: every byte may be percent-encoded
    content = unquote_to_bytes(body)
    _refuse_large(len(content))
    return _bytes_named_by_hash(content, kind or "text/plain")


def from_base64(encoded: str, content_type: str) -> Bytes:
    """Bytes as base64 (RFC 4648), in either alphabet, with or without padding, line breaks or a `data:` prefix.

    Without a content type, the prefix or the first bytes decide it.

    Raises:
        InvalidInput: it is not base64.
        FileRefused: it is too large for a message.
    """
    bare = encoded.lstrip()
    if bare[:5].lower() == "data:":
        source = _from_data_uri(bare)
        return replace(source, content_type=content_type or source.content_type)
    return _decoded(bare, content_type)


def _decoded(encoded: str, content_type: str) -> Bytes:
    _refuse_large(len(encoded) / 4)  # before it is copied; real base64 is never half line breaks and spaces
    for escaped in _ESCAPED_SPACE:
        encoded = encoded.replace(escaped, "")
    if not encoded.isascii():
        encoded = "".join(encoded.split())  # spaces of every kind
    padded = encoded.encode("ascii", "replace").translate(_STANDARD, _SPACE)
    plain = padded.rstrip(b"=")
    _refuse_large(len(plain) * 3 // 4)
    try:
        content = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        content = None
    # Without padding, left-over bits at the end show that the text was cut, or is not base64 (a path, for example).
    cut = padded == plain and content and base64.b64encode(content).rstrip(b"=") != plain
    if content is None or cut:
        raise InvalidInput(message="The base64 is broken.", next_step="Encode the whole file (RFC 4648).")
    return _bytes_named_by_hash(content, content_type)


def _refuse_large(size: float) -> None:
    if size > MAX_DATA_BYTES:
        raise FileRefused(
            message=f"A message may carry at most {MAX_DATA_BYTES >> 20} MiB.",
            next_step="Give a path or a URL, or ask `file_upload` with no source for an upload ticket.",
        )


def _bytes_named_by_hash(content: bytes, content_type: str) -> Bytes:
    kind = content_type or content_type_of("", content[:16])
    return Bytes(
        f"{hashlib.sha256(content).hexdigest()[:12]}{mimetypes.guess_extension(kind) or '.bin'}", kind, content
    )


class _LocalFile:
    """An open file, of the length that it had when it was opened (threat T-13).

    A thread may be reading it while it is closed; then that thread closes it.
    """

    def __init__(self, descriptor: int, name: str, folders: Folders) -> None:
        self._descriptor, self._folders = descriptor, folders
        self._lock = threading.Lock()
        self._is_read = self._is_closed = False
        self.name = name
        self.state = self._state_now()
        self.size = self.state[0]
        if self.size > MAX_FILE_BYTES:
            raise FileRefused(
                message=f"{name} is {self.size >> 20} MiB; {MAX_FILE_BYTES >> 20} MiB is the most.",
                next_step="Send a smaller file, or give a URL that the platform can read.",
            )
        self.content_type = content_type_of(name, read_at(descriptor, 16, 0))

    async def chunks(self) -> AsyncGenerator[bytes]:
        sent = 0
        while sent < self.size:
            chunk = await self._folders.in_thread(self._read, min(CHUNK, self.size - sent), sent)
            if not chunk:
                break
            sent += len(chunk)
            if sent == self.size:
                self._refuse_changed()  # before the last bytes are sent: an incomplete PUT makes no file
            yield chunk
        if sent < self.size:
            self._refuse_changed()

    def _read(self, size: int, offset: int) -> bytes:
        """Read from an offset. One thread at a time may call it."""
        with self._lock:
            if self._is_closed:
                return b""
            self._is_read = True
        try:
            return read_at(self._descriptor, size, offset)
        finally:
            with self._lock:
                self._is_read = False
                if self._is_closed:
                    os.close(self._descriptor)

    def close(self) -> None:
        with self._lock:
            if not self._is_closed and not self._is_read:
                os.close(self._descriptor)
            self._is_closed = True

    def _state_now(self) -> tuple[int, ...]:
        file = os.fstat(self._descriptor)
        return (file.st_size, file.st_mtime_ns, file.st_ctime_ns)  # removing or replacing the name changes the ctime

    def _refuse_changed(self) -> None:
        if self._state_now() != self.state:
            raise FileRefused(
                message=f"{self.name} changed while it was being sent.",
                next_step="Send it again once nothing writes to it.",
            )


async def remote_source(api: Api, url: str) -> Source:
    """The bytes at an address. They are fetched again, chunk by chunk, when they are sent.

    Raises:
        FileRefused: the address may not be fetched, or does not declare its length and is too long.
        InvalidInput: the address is one of inference.sh's own files.
    """
    if url[:4].lower() == "inf:":
        raise InvalidInput(message=f"{url} is uploaded already.", next_step="Use it as it is.")
    name = PurePosixPath(unquote(path_of(url))).name or "download"
    async with _download(api, url) as download:
        kind = download.content_type.partition(";")[0].strip()
        kind = kind if is_media_type(kind) else content_type_of(name, b"")
        if download.size is not None:
            return _RemoteSource(api, url, name, download.size, kind)
        content = bytearray()
        async for chunk in download.chunks:
            content += chunk
            if len(content) > MAX_DATA_BYTES:
                raise FileRefused(
                    message=f"{name} does not declare its length, and is longer than {MAX_DATA_BYTES >> 20} MiB.",
                    next_step="Download it and upload it from disk.",
                )
    return Bytes(name, kind, bytes(content))


@asynccontextmanager
async def _download(api: Api, url: str) -> AsyncGenerator[Download]:
    """A download whose errors name that address, because it is not inference.sh that answers there."""
    try:
        async with api.download(url) as download:
            yield download
    except FileRefused as exc:
        raise exc.replace(next_step=exc.next_step or _FETCH_REMEDY) from exc
    except InferenceError as exc:
        answer = (
            f"it answered {exc.status}" if exc.status and exc.status != 200 else "the answer was missing or incomplete"
        )
        host = urlsplit(url).hostname
        raise FileRefused(
            message=f"The file at {host} could not be fetched: {answer}.", next_step=_FETCH_REMEDY
        ) from exc


@dataclass(frozen=True)
class _RemoteSource:
    api: Api
    url: str
    name: str
    size: int
    content_type: str
    state: tuple[int, ...] = ()

    async def chunks(self) -> AsyncGenerator[bytes]:
        async with _download(self.api, self.url) as download:
            async for chunk in download.chunks:
                yield chunk

    def close(self) -> None:
        """Nothing is open: each reading has a connection of its own."""
