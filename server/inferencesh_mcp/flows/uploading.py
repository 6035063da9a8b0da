"""Bytes from here to the platform: a record, then a presigned PUT that never passes through the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.errors import Forbidden
from inferencesh_mcp.flows import Moving
from inferencesh_mcp.flows.fetching import remote
from inferencesh_mcp.flows.places import Place, Schema, file_places
from inferencesh_mcp.flows.sources import Source, is_remote, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferencesh_mcp.api import Api
    from inferencesh_mcp.api.models import File
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.folders import Folders


async def store(
    caller: Caller, reference: str, report: Report, *, name: str = "", content_type: str = "", public: bool = False
) -> File:
    """Upload what a reference names: a path in an allowed folder, a data URI, or the bytes behind an https URL."""

    async def send(source: Source) -> File:
        return await upload(caller.api, source, report, name=name, content_type=content_type, public=public)

    if is_remote(reference):
        return await send(await remote(caller.api, reference))
    with opened(reference, caller.folders) as source:
        return await send(source)


async def upload(
    api: Api, source: Source, report: Report, *, name: str = "", content_type: str = "", public: bool = False
) -> File:
    """Send a source and return its record, whose `uri` goes into an app's input.

    Raises:
        FileRefused: the file changed meanwhile; nothing refers to what was sent.
        InferenceError: what the API or its storage answered.
    """

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
            report(Moving("uploading", source.name, done, source.size))
            yield chunk

    file = await record()
    try:
        await api.put_file(file, told, source.size)
    except Forbidden:  # the address ran out, or was used: one fresh record and no more (O-9)
        file = await record()
        await api.put_file(file, told, source.size)
    return file.model_copy(update={"size": source.size})  # the record was made before there were bytes


async def upload_all(api: Api, folders: Folders | None, schema: Schema, value: Any, report: Report) -> Any:
    """Return the input with each file it names replaced by the URI of its upload.

    Only places that the schema declares as files count; addresses that the platform can read are left as they are.
    All are opened before the first is sent, so that a wrong path costs nothing.
    """
    places = [place for place in file_places(schema, value) if not is_remote(_at(value, place))]
    for place in places:
        with opened(_at(value, place), folders):
            pass
    uris: dict[str, str] = {}
    for place in places:
        reference = _at(value, place)
        if reference not in uris:
            with opened(reference, folders) as source:
                uris[reference] = (await upload(api, source, report)).uri
        value = _replaced(value, place, uris[reference])
    return value


def _at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def _replaced(value: Any, place: Place, uri: str) -> Any:
    """The same value with `uri` at `place`; what the caller gave is never changed."""
    if not place:
        return uri
    copy = value.copy()
    copy[place[0]] = _replaced(value[place[0]], place[1:], uri)
    return copy
