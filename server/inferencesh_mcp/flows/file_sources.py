"""What a caller may give where a file is wanted: a path, a `file:` URI, a data URI, or the address of bytes elsewhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import os
import re
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator

    from inferencesh_mcp.api import Api, Download
    from inferencesh_mcp.flows.local_files import Folders

CHUNK = 256 * 1024  # bytes read and sent at a time
LARGEST_DATA = 8 * 1024 * 1024  # decoded bytes of a data URI (limit of reliability 4.6)
LARGEST_FILE = 512 * 1024 * 1024
_DATA = re.compile(
    r"(?i)data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<parameters>(?:;[\w.+-]+=[\w.+-]+)*)(?P<base64>;base64)?,", re.ASCII
)
# What a data URI may hold: the kinds of RFC 6838 but those that are messages with parts of their own.
_KINDS = frozenset({"application", "audio", "font", "image", "model", "text", "video"})
_REMOTE = re.compile(r"(?i)(https?|inf):")
LONGEST_PATH = 8192  # characters; twice what a system takes
_QUOTES = frozenset({'""', "''", "``", "“”", "‘’"})
_WRAPPING = " \t\r\n@" + "".join(quotes[0] for quotes in _QUOTES)
# What stands between the characters of base64: line breaks and spaces, also as a model writes them in JSON once too often.
_BETWEEN = re.compile(r"(?:\s|\\[rnt])+")

INSTEAD = "Give an https address that anyone can read, or download the file and upload it from disk."

# First bytes that settle what a file is, for names that do not (WHATWG MIME Sniffing, section 6).
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"), (b"\x1aE\xdf\xa3", "video/webm"), (b"OggS", "audio/ogg"), (b"ID3", "audio/mpeg"),
    (b"PK\x03\x04", "application/zip"), (b"fLaC", "audio/flac"),
)  # fmt: skip


class Source(Protocol):
    """Bytes that can be sent, and sent again from the start."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def state(self) -> tuple[int, ...]:
        """Equal for the same bytes: another one tells that the file was written to, replaced or deleted since."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Read from the first byte.

        Raises:
            FileRefused: the bytes are no longer those that were opened.
        """
        ...


def is_remote(reference: str) -> bool:
    """Whether a reference is an address that the platform reads for itself: passed on, never fetched here."""
    return bool(_REMOTE.match(reference))


@contextmanager
def opened(reference: str, folders: Folders | None) -> Generator[Source]:
    """Open a data URI, a `file:` URI or a path for sending.

    Raises:
        InvalidInput: a data URI that cannot be read.
        FileRefused: a file that may not or cannot be read; any path at all, where there are no `folders`.
    """
    if reference[:64].lstrip()[:5].lower() == "data:":
        yield _from_data_uri(reference.lstrip())
        return
    if folders is None:
        raise FileRefused(
            message="This server runs elsewhere and cannot read files of your machine.",
            next_step="Give an https URL or a data URI, or ask `file_upload` for an upload ticket.",
        )
    file = folders.open(*readings(reference))
    try:
        yield _LocalFile.of(file.descriptor, file.name)
    finally:
        os.close(file.descriptor)


def readings(reference: str) -> list[str]:
    """The paths that a reference may mean: as it is; then as people paste it, without quotes, a leading @ or spaces
    around it; then without the backslashes of a shell."""
    bare, before = reference, ""
    while bare != before and len(reference) <= LONGEST_PATH:
        before, bare = bare, bare.strip()
        if len(bare) > 1 and bare[0] + bare[-1] in _QUOTES:
            bare = bare[1:-1]
        bare = bare.removeprefix("@")
    return list(dict.fromkeys(_path(path) for path in (reference, bare, re.sub(r"\\(.)", r"\1", bare))))


def may_be_path(text: str) -> bool:
    """Whether a text could be a path of this machine."""
    return text[:64].lstrip(_WRAPPING).lower().startswith(("/", "~", "file:"))


def _path(reference: str) -> str:
    if reference[:5].lower() != "file:":
        return reference
    rest = reference[5:]
    host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
    if host.lower() not in {"", "localhost"}:
        raise FileRefused(message=f"{reference[:200]} names another machine.", next_step="Give a path of this one.")
    return unquote(slash + path)


def content_type_of(name: str, start: bytes) -> str:
    """Tell the content type: by the first bytes where they settle it, else by the name, else octet-stream."""
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

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), CHUNK):
            yield self.content[start : start + CHUNK]


def _from_data_uri(reference: str) -> Bytes:
    """RFC 2397, strictly but for the form of its base64; the size is known from the length before anything is decoded (threat T-20)."""
    head = _DATA.match(reference[:1024])
    if head is None:
        raise InvalidInput(
            message="That data URI cannot be read.", next_step="Write it as data:image/png;base64,… (RFC 2397)."
        )
    kind = head["type"] or ""
    if kind and kind.partition("/")[0].lower() not in _KINDS:
        raise InvalidInput(
            message=f"A data URI may not be of type {kind[:80]}.",
            next_step=f"These can be: {', '.join(sorted(_KINDS))}.",
        )
    body = reference[head.end() :]
    if head["base64"]:
        return _decoded(unquote(body), kind)
    _small(len(body) / 3)  # at least, should every byte of it be percent-encoded
    content = unquote_to_bytes(body)
    _small(len(content))
    return _named(content, kind or "text/plain")


def from_base64(encoded: str, content_type: str) -> Bytes:
    """Bytes as base64 (RFC 4648), in either alphabet, with or without padding, line breaks or a `data:` prefix.

    Without a content type the prefix or the first bytes tell it.

    Raises:
        InvalidInput: it is not base64.
        FileRefused: it is too much to pass through a message.
    """
    bare = encoded.lstrip()
    if bare[:5].lower() == "data:":
        found = _from_data_uri(bare)
        return replace(found, content_type=content_type or found.content_type)
    return _decoded(bare, content_type)


def _decoded(encoded: str, content_type: str) -> Bytes:
    _small(len(encoded) / 4)  # before it is copied; line breaks and spaces are never half of a real one
    padded = _BETWEEN.sub("", encoded).translate({ord("-"): "+", ord("_"): "/"})
    plain = padded.rstrip("=")
    _small(len(plain) * 3 // 4)
    try:
        content = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        content = None
    # Without padding, bits that are left over at the end tell a cut text, or one that is no base64 at all (a path).
    cut = padded == plain and content and base64.b64encode(content).decode().rstrip("=") != plain
    if content is None or cut:
        raise InvalidInput(message="The base64 is broken.", next_step="Encode the whole file (RFC 4648).")
    return _named(content, content_type)


def _small(size: float) -> None:
    if size > LARGEST_DATA:
        raise FileRefused(
            message=f"{LARGEST_DATA >> 20} MiB is the most that a message may carry.",
            next_step="Give a path or a URL, or ask `file_upload` with no source for an upload ticket.",
        )


def _named(content: bytes, content_type: str) -> Bytes:
    kind = content_type or content_type_of("", content[:16])
    return Bytes(
        f"{hashlib.sha256(content).hexdigest()[:12]}{mimetypes.guess_extension(kind) or '.bin'}", kind, content
    )


@dataclass(frozen=True, kw_only=True)
class _LocalFile:
    """An open file, fixed at the length it had when it was opened (threat T-13)."""

    descriptor: int
    name: str
    size: int
    content_type: str
    state: tuple[int, ...]

    @classmethod
    def of(cls, descriptor: int, name: str) -> _LocalFile:
        found = os.fstat(descriptor)
        if found.st_size > LARGEST_FILE:
            raise FileRefused(
                message=f"{name} is {found.st_size >> 20} MiB; {LARGEST_FILE >> 20} MiB is the most.",
                next_step="Send a smaller file, or give a URL that the platform can read.",
            )
        kind = content_type_of(name, os.pread(descriptor, 16, 0))
        return cls(descriptor=descriptor, name=name, size=found.st_size, content_type=kind, state=_state(found))

    async def chunks(self) -> AsyncIterator[bytes]:
        sent = 0
        while sent < self.size:
            # Not in a thread: so much of a file that is read in order takes some 50 µs, a hop there and back takes longer.
            chunk = os.pread(self.descriptor, min(CHUNK, self.size - sent), sent)
            if not chunk:
                break
            sent += len(chunk)
            if sent == self.size:
                self._unchanged()  # before the last bytes leave: a PUT that is not completed is not a file
            yield chunk
        if sent < self.size:
            self._unchanged()

    def _unchanged(self) -> None:
        if _state(os.fstat(self.descriptor)) != self.state:
            raise FileRefused(
                message=f"{self.name} changed while it was being sent.",
                next_step="Send it again when nothing writes to it.",
            )


async def remote_source(api: Api, url: str) -> Source:
    """Look at what an address holds; its bytes are fetched again, chunk by chunk, when they are sent.

    Raises:
        FileRefused: an address that may not be fetched, or bytes of unknown number that turn out to be many.
        InferenceError: what the other side answered.
    """
    if url[:4].lower() == "inf:":
        raise InvalidInput(message=f"{url} is uploaded already.", next_step="Use it as it is.")
    name = PurePosixPath(unquote(path_of(url))).name or "download"
    async with _fetched(api, url) as found:
        kind = found.content_type.partition(";")[0].strip()
        kind = kind if is_media_type(kind) else content_type_of(name, b"")
        if found.size is not None:
            return _Remote(api, url, name, found.size, kind)
        content = b""
        async for chunk in found.chunks:
            content += chunk
            if len(content) > LARGEST_DATA:
                raise FileRefused(
                    message=f"{name} does not say how long it is, and is longer than {LARGEST_DATA >> 20} MiB.",
                    next_step="Download it and upload it from disk.",
                )
    return Bytes(name, kind, content)


@asynccontextmanager
async def _fetched(api: Api, url: str) -> AsyncGenerator[Download]:
    """The same download, failing in words about that address: it is not inference.sh that answers there."""
    try:
        async with api.download(url) as found:
            yield found
    except FileRefused as exc:
        exc.next_step = exc.next_step or INSTEAD
        raise
    except InferenceError as exc:
        answer = (
            f"it answered {exc.status}"
            if exc.status and exc.status != 200
            else "no answer, or not all of it, came from there"
        )
        host = urlsplit(url).hostname
        raise FileRefused(message=f"The file at {host} could not be fetched: {answer}.", next_step=INSTEAD) from exc


@dataclass(frozen=True)
class _Remote:
    api: Api
    url: str
    name: str
    size: int
    content_type: str
    state: tuple[int, ...] = ()

    async def chunks(self) -> AsyncIterator[bytes]:
        async with _fetched(self.api, self.url) as found:
            async for chunk in found.chunks:
                yield chunk


def _state(file: os.stat_result) -> tuple[int, ...]:
    return (file.st_size, file.st_mtime_ns, file.st_ctime_ns)  # a name that is taken away or over changes the last
