"""Bodies of HTTP messages, held to their limits: responses as they are read, uploads as they are sent."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.api.headers import is_encoded
from inferencesh_mcp.api.responses import Lost, no_answer_from
from inferencesh_mcp.errors import FileRefused, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable

    from inferencesh_mcp.api.http_client import Response

LIMIT = 16 * 1024 * 1024
LARGE = 1024 * 1024
"""An answer of more bytes waits for one of a few slots: only so many large ones are held and parsed at a time."""
ERROR_LIMIT = 64 * 1024
ERROR_SECONDS = 5.0


def refuse_encoding(response: Response) -> None:
    """Refuse a compressed body: it was not asked for, and a small one can expand to gigabytes (T-15)."""
    if is_encoded(response.headers):
        message = "inference.sh sent a compressed answer, which was not asked for"
        raise UpstreamError(message=message, status=response.status)


async def read_body(response: Response, take_slot: Callable[[], Awaitable[None]]) -> bytes:
    """The whole body, at most 16 MiB. `take_slot` is awaited once, before a large body is read further."""
    body, has_slot = bytearray(), False
    async with aclosing(_raw(response)) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > LIMIT:
                raise UpstreamError(message="inference.sh's answer is larger than 16 MiB", status=response.status)
            if len(body) > LARGE and not has_slot:
                has_slot = True
                await take_slot()
    return bytes(body)


async def read_error_body(response: Response) -> bytes:
    """As much of an error's body as arrives in time; the status alone is enough of an answer."""
    body = bytearray()
    with suppress(Lost, UpstreamError), anyio.move_on_after(ERROR_SECONDS):
        async with aclosing(_raw(response)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > ERROR_LIMIT:
                    break
    return bytes(body[:ERROR_LIMIT])


def _raw(response: Response) -> AsyncGenerator[bytes]:
    """The bytes as they came, undecoded. The reader must close the generator: garbage collection does it too late."""
    refuse_encoding(response)
    return response.chunks()


async def body_chunks(response: Response) -> AsyncGenerator[bytes]:
    """The body chunk by chunk, with typed errors if it breaks off."""
    try:
        async with aclosing(_raw(response)) as chunks:
            async for chunk in chunks:
                yield chunk
    except Lost as exc:
        raise no_answer_from(exc).error from exc.__cause__


class UploadBody:
    """A file's bytes, which must match the announced size: FileRefused if there are more or fewer."""

    def __init__(self, content: AsyncIterable[bytes], size: int) -> None:
        self._content, self._left = content, size

    @property
    def is_complete(self) -> bool:
        """Whether every byte was read."""
        return self._left == 0

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for chunk in self._content:
            if len(chunk) > self._left:
                raise _changed()
            yield chunk
            self._left -= len(chunk)
        if self._left:
            raise _changed()


def _changed() -> FileRefused:
    return FileRefused(message="the file changed while it was being sent", next_step="Call again when it is complete.")
