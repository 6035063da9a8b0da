"""Bytes from here to the platform: a record, then a presigned PUT that never passes through the model."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import anyio

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.errors import FileRefused, Forbidden, InferenceError, InvalidInput, UpstreamError
from inferencesh_mcp.flows import Transfer
from inferencesh_mcp.flows.file_sources import Source, is_remote, opened, remote_source
from inferencesh_mcp.schema.file_fields import Place, file_places

# What single quotes hold safely in every shell; and what begins otherwise curl would take for an option, or for a file.
_SENDABLE = re.compile(r"https?://[^'\s\\\x00-\x1f\x7f]{1,8000}")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferencesh_mcp.api import Api
    from inferencesh_mcp.api.models import File
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.local_files import Folders
    from inferencesh_mcp.schema.describe import Schema


async def store(
    caller: Caller, reference: str, report: Report, *, name: str = "", content_type: str = "", public: bool = False
) -> File:
    """Upload what a reference names: a path in an allowed folder, a data URI, or the bytes behind an https URL."""

    async def send(source: Source) -> File:
        return await upload(caller.api, source, report, name=name, content_type=content_type, public=public)

    if is_remote(reference):
        return await send(await remote_source(caller.api, reference))
    with opened(reference, caller.folders) as source:
        return await send(source)


@dataclass(frozen=True)
class Ticket:
    """A place to send bytes to without us: whoever has the address can write that one file."""

    file: File
    content_type: str
    expires_at: datetime | None

    @property
    def curl(self) -> str:
        """The line that sends a file named FILE."""
        return (
            f"curl -sS --fail -X PUT -H 'Content-Type: {self.content_type}' --upload-file FILE '{self.file.upload_url}'"
        )


async def ticket(api: Api, *, name: str, content_type: str, public: bool) -> Ticket:
    """Make the record of a file whose bytes come from elsewhere.

    Raises:
        InvalidInput: that is no content type.
        UpstreamError: the address could not be put on a command line safely.
    """
    _check(content_type)
    kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    file = await api.create_file(filename=name or "upload", content_type=kind, public=public)
    if not _SENDABLE.fullmatch(file.upload_url):
        raise UpstreamError(message="The upload address is none that could stand on a command line.")
    return Ticket(file, kind, expiry(file.upload_url))


def _check(content_type: str) -> None:
    if content_type and not is_media_type(content_type):
        raise InvalidInput(message="That `content_type` is none.", next_step="Write it as image/png.")


def expiry(url: str) -> datetime | None:
    """When a presigned address runs out, where it says so: `Expires` (unix seconds), or SigV4's date and seconds."""
    try:
        told = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
        if "x-amz-date" in told:
            made = datetime.strptime(told["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return made + timedelta(seconds=int(told["x-amz-expires"]))
        return datetime.fromtimestamp(int(told["expires"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


async def upload(
    api: Api, source: Source, report: Report, *, name: str = "", content_type: str = "", public: bool = False
) -> File:
    """Send a source and return its record, whose `uri` goes into an app's input.

    Raises:
        InvalidInput: that is no content type.
        FileRefused: the file changed meanwhile; nothing refers to what was sent.
        InferenceError: what the API or its storage answered.
    """
    _check(content_type or source.content_type)

    async def record() -> File:
        return await api.create_file(
            filename=name or source.name,
            content_type=content_type or source.content_type,
            size=source.size,
            public=public,
        )

    async def told() -> AsyncIterator[bytes]:
        done = 0
        async for chunk in source.chunks():
            done += len(chunk)
            report(Transfer("uploading", source.name, done, source.size))
            yield chunk

    file = await record()
    try:
        await api.put_file(file, told, source.size)
    except Forbidden:  # the address ran out, or was used: one fresh record and no more (O-9)
        file = await record()
        await api.put_file(file, told, source.size)
    return file.model_copy(update={"size": source.size})  # the record was made before there were bytes


class Uploads:
    """The files that one call sends: each is sent once, however many of its inputs name it, and however many at a time."""

    def __init__(self) -> None:
        self._turns: dict[str, anyio.Lock] = {}
        self._sent: dict[str, _Upload] = {}

    async def uri(self, api: Api, folders: Folders | None, reference: str, report: Report) -> str:
        """Where the file is that a reference names; sent by whoever asks first, and waited for by everybody else.

        Raises:
            FileRefused: the file is not the one any more that was sent for an earlier input.
            InferenceError: why it could not be sent, to each who asks.
        """
        async with self._turns.setdefault(reference, anyio.Lock()):
            with opened(reference, folders) as source:
                sent = self._sent.get(reference)
                if sent is None:
                    sent = self._sent[reference] = await _Upload.of(api, source, report)
                elif sent.state != source.state:
                    raise FileRefused(
                        message=f"{source.name} has changed since it was sent for another input of this call.",
                        next_step="Send the inputs that are left again when nothing writes to it.",
                    )
        return sent.uri


@dataclass(frozen=True)
class _Upload:
    """What became of a file that was sent."""

    state: tuple[int, ...]
    stored_at: str
    failure: InferenceError | None = None

    @classmethod
    async def of(cls, api: Api, source: Source, report: Report) -> _Upload:
        try:
            return cls(source.state, (await upload(api, source, report)).uri)
        except InferenceError as exc:
            return cls(source.state, "", exc)

    @property
    def uri(self) -> str:
        if self.failure:
            raise replace(self.failure) from self.failure  # each of them is told what became of its own input
        return self.stored_at


async def upload_all(
    api: Api, folders: Folders | None, schema: Schema, value: Any, report: Report, uploads: Uploads | None = None
) -> Any:
    """Return the input with each file it names replaced by the URI of its upload.

    Only places that the schema declares as files count; addresses that the platform can read are left as they are.
    `uploads` are those of the call that this input belongs to.
    """
    uploads = uploads or Uploads()
    for place in _to_send(schema, value):
        value = _replaced(value, place, await uploads.uri(api, folders, _at(value, place), report))
    return value


def refuse_unreadable(folders: Folders | None, schema: Schema, value: Any) -> None:
    """Open every file that an input names, so that a wrong path is told before anything is sent.

    Raises:
        FileRefused, InvalidInput: what is wrong with the first of them.
    """
    for place in _to_send(schema, value):
        with opened(_at(value, place), folders):
            pass


def _to_send(schema: Schema, value: Any) -> list[Place]:
    return [place for place in file_places(schema, value) if not is_remote(_at(value, place))]


def _at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def _replaced(value: Any, place: Place, uri: str) -> Any:
    """The same value with `uri` at `place`; what the caller gave is never changed."""
    if not place:
        return uri
    changed = value.copy()
    changed[place[0]] = _replaced(value[place[0]], place[1:], uri)
    return changed
