"""The bytes behind an address, fetched by us: through the one guarded client, public https addresses only (I-16)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput
from inferencesh_mcp.flows.file_sources import LARGEST_DATA, Bytes, Source, content_type_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from inferencesh_mcp.api import Api, Download


INSTEAD = "Give an https address that anyone can read, or download the file and upload it from disk."


async def remote(api: Api, url: str) -> Source:
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
