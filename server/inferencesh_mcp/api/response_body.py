"""The body of an answer: as many bytes as may be, as they came, and in our words where they break off."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.api.headers import is_encoded
from inferencesh_mcp.api.responses import Lost, unanswered
from inferencesh_mcp.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from inferencesh_mcp.api.http_client import Response

LIMIT = 16 * 1024 * 1024
LARGE = 1024 * 1024
"""Bytes from which on an answer waits for one of a few places: so many large ones are held and parsed at a time."""
ERROR_LIMIT = 64 * 1024
ERROR_SECONDS = 5.0


def refuse_encoding(response: Response) -> None:
    """A compressed body was not asked for, and a small one can hold gigabytes (T-15)."""
    if is_encoded(response.headers):
        message = "inference.sh compressed its answer although that was not asked for"
        raise UpstreamError(message=message, status=response.status)


async def whole(response: Response, place: Callable[[], Awaitable[None]]) -> bytes:
    """All of it, at most 16 MiB. `place` is awaited once, before a large one is read on."""
    body, has_place = bytearray(), False
    async with aclosing(_raw(response)) as pieces:
        async for chunk in pieces:
            body += chunk
            if len(body) > LIMIT:
                raise UpstreamError(message="inference.sh's answer is larger than 16 MiB", status=response.status)
            if len(body) > LARGE and not has_place:
                has_place = True
                await place()
    return bytes(body)


async def of_error(response: Response) -> bytes:
    """As much of an error's body as comes in time: the status alone is an answer too."""
    body = bytearray()
    with suppress(Lost, UpstreamError), anyio.move_on_after(ERROR_SECONDS):
        async with aclosing(_raw(response)) as pieces:
            async for chunk in pieces:
                body += chunk
                if len(body) > ERROR_LIMIT:
                    break
    return bytes(body[:ERROR_LIMIT])


def _raw(response: Response) -> AsyncGenerator[bytes]:
    """The bytes as they came, undecoded. Whoever reads them closes the generator: the collector would do it too late."""
    refuse_encoding(response)
    return response.chunks()


async def chunks(response: Response) -> AsyncGenerator[bytes]:
    """The same, failing in our words."""
    try:
        async with aclosing(_raw(response)) as pieces:
            async for chunk in pieces:
                yield chunk
    except Lost as exc:
        raise unanswered(exc).error from exc.__cause__
