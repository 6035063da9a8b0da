"""Upload files: create a record, then PUT the bytes to its presigned address. The model never sees them."""

from __future__ import annotations

import mimetypes
import re
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

import anyio

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.errors import FileRefused, Forbidden, InferenceError, InvalidInput, UpstreamError
from inferencesh_mcp.flows import Transfer
from inferencesh_mcp.flows.file_sources import Source, is_remote, open_source, remote_source
from inferencesh_mcp.schema.file_fields import file_places

MAX_OPEN = 8  # files of one call that stay open from their check to their upload; real apps take fewer

# Addresses that are safe in single quotes in POSIX shells, and in double quotes in cmd and PowerShell; curl cannot take them for an
# option or a file.
_SENDABLE = re.compile(r"https?://[^'\"`$\s\\\x00-\x1f\x7f]{1,8000}")

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.api.models import File
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.local_files import Folders
    from inferencesh_mcp.schema.file_fields import Place
    from inferencesh_mcp.schema.refs import Schema


async def store(
    caller: Caller, reference: str, report: Report, *, name: str = "", content_type: str = "", public: bool = False
) -> File:
    """Upload what a reference names: a path in an allowed folder, a data URI, or the bytes at an https URL."""
    if is_remote(reference):
        source = await remote_source(caller.api, reference)
    else:
        source = await open_source(reference, caller.folders)
    with closing(source):
        return await upload(caller.api, source, report, name=name, content_type=content_type, public=public)


@dataclass(frozen=True)
class Ticket:
    """A record whose bytes somebody else uploads: whoever has its address can write this one file."""

    file: File
    content_type: str
    expires_at: datetime | None

    @property
    def curl(self) -> str:
        """The command that uploads a file named FILE."""
        return (
            f"curl -sS --fail -X PUT -H 'Content-Type: {self.content_type}' --upload-file FILE '{self.file.upload_url}'"
        )

    @property
    def curl_windows(self) -> str:
        """The same for cmd and PowerShell, where single quotes do not quote and `curl` may be another command."""
        return f'curl.exe -sS --fail -X PUT -H "Content-Type: {self.content_type}" --upload-file FILE "{self.file.upload_url}"'


async def ticket(api: Api, *, name: str, content_type: str, public: bool) -> Ticket:
    """Create the record of a file whose bytes somebody else uploads.

    Raises:
        InvalidInput: the content type is malformed.
        UpstreamError: the address is not safe on a command line.
    """
    _check_content_type(content_type)
    kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    file = await api.create_file(filename=name or "upload", content_type=kind, public=public)
    if not _SENDABLE.fullmatch(file.upload_url):
        raise UpstreamError(message="The upload address is not safe on a command line.")
    return Ticket(file, kind, expiry(file.upload_url))


def _check_content_type(content_type: str) -> None:
    if content_type and not is_media_type(content_type):
        raise InvalidInput(message="`content_type` must look like image/png.", next_step="Correct it, or leave it out.")


def expiry(url: str) -> datetime | None:
    """When a presigned address expires, if it says so: `Expires` (unix seconds), or SigV4's date and seconds."""
    try:
        query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
        if "x-amz-date" in query:
            signed = datetime.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return signed + timedelta(seconds=int(query["x-amz-expires"]))
        return datetime.fromtimestamp(int(query["expires"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


async def upload(
    api: Api, source: Source, report: Report, *, name: str = "", content_type: str = "", public: bool = False
) -> File:
    """Upload a source and return its record, whose `uri` goes into an app's input.

    Raises:
        InvalidInput: the content type is malformed.
        FileRefused: the file changed during the upload; nothing refers to the bytes that were sent.
        InferenceError: what the API or its storage answered.
    """
    _check_content_type(content_type or source.content_type)

    async def create_record() -> File:
        return await api.create_file(
            filename=name or source.name,
            content_type=content_type or source.content_type,
            size=source.size,
            public=public,
        )

    async def chunks() -> AsyncGenerator[bytes]:
        done = 0
        async with aclosing(source.chunks()) as parts:
            async for chunk in parts:
                done += len(chunk)
                report(Transfer("uploading", source.name, done, source.size))
                yield chunk

    file = await create_record()
    try:
        await api.put_file(file, chunks, source.size)
    except Forbidden:  # the address has expired or was used: retry once with a new record
        file = await create_record()
        await api.put_file(file, chunks, source.size)
    return file.model_copy(update={"size": source.size})  # the record was created before the upload


@dataclass(frozen=True)
class Uploaded:
    """A file that a call uploaded; its URI can be used again."""

    name: str
    uri: str


class Uploads:
    """The files that the inputs of one call name.

    Each is uploaded once, even if several inputs name it at the same time. A file that was checked stays open until its
    upload, so what is sent is what was checked.
    """

    def __init__(self, api: Api, folders: Folders | None, report: Report) -> None:
        self._api, self._folders, self._report = api, folders, report
        self._checked = set[str]()
        self._open: dict[str, Source] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._results: dict[str, tuple[tuple[int, ...], Uploaded | InferenceError]] = {}
        """Of each upload: the state of what was sent, and the file or the failure."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for source in self._open.values():
            source.close()

    @property
    def sent(self) -> tuple[Uploaded, ...]:
        """What was uploaded so far."""
        return tuple(result for _, result in self._results.values() if isinstance(result, Uploaded))

    async def check(self, schema: Schema, value: Any) -> tuple[Place, ...]:
        """Find the files to upload in an input, and open each, so that a wrong path is an error before anything is sent.

        Only values that the schema declares as files count. Addresses that the platform can read stay as they are.

        Raises:
            FileRefused, InvalidInput: what is wrong with the first file that cannot be read.
        """
        places = tuple(place for place in file_places(schema, value) if not is_remote(_value_at(value, place)))
        for place in places:
            await self._check(_value_at(value, place))
        return places

    async def _check(self, reference: str) -> None:
        if reference in self._checked:
            return
        source = await open_source(reference, self._folders)
        self._checked.add(reference)
        if len(self._open) < MAX_OPEN:
            self._open[reference] = source
        else:
            source.close()

    async def upload(self, value: Any, places: Iterable[Place]) -> Any:
        """Upload the files at these places of an input, and return it with their URIs.

        Raises:
            FileRefused: a file has changed since it was checked, or uploaded for an earlier input.
            InferenceError: an upload failed; every input that needs it gets the error.
        """
        references = {place: _value_at(value, place) for place in places}
        uris = {reference: await self._uri(reference) for reference in dict.fromkeys(references.values())}
        for place, reference in references.items():
            value = _replaced(value, place, uris[reference])
        return value

    async def _uri(self, reference: str) -> str:
        """The URI of a file. The first caller uploads it, the others wait."""
        async with self._locks.setdefault(reference, anyio.Lock()):
            source = self._open.pop(reference, None) or await open_source(reference, self._folders)
            with closing(source):
                if reference not in self._results:
                    self._results[reference] = source.state, await self._upload(source)
                state, result = self._results[reference]
                if state != source.state:
                    raise FileRefused(
                        message=f"{source.name} has changed since it was sent for another input of this call.",
                        next_step="Send the remaining inputs again once nothing writes to it.",
                    )
        if isinstance(result, InferenceError):
            raise result.replace() from result  # each input gets an error of its own
        return result.uri

    async def _upload(self, source: Source) -> Uploaded | InferenceError:
        try:
            return Uploaded(source.name, (await upload(self._api, source, self._report)).uri)
        except InferenceError as exc:
            return exc


def _value_at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def _replaced(value: Any, place: Place, uri: str) -> Any:
    """A copy of the value with `uri` at `place`."""
    if not place:
        return uri
    changed = value.copy()
    changed[place[0]] = _replaced(value[place[0]], place[1:], uri)
    return changed
