"""HTTP, and the one module that names its library: imported with the first request, since a start does not wait for it.

aiohttp, because it was measured: a run through the bridge takes a tenth less time than on httpx2, and an event of a stream
a third less, most of what either costs. The official Python SDK's async client runs on it too.

A connection serves one kind of request. There are no cookies that could mix callers up, no redirects, no environment, no
retries, and no decoding of bodies (T-15).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import httpx2  # how mcp itself finds out whom to trust, and no more
from yarl import URL

from inferencesh_mcp.api.answers import Lost

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterable, Mapping

    from inferencesh_mcp.api.transport import Kind

CLOSE_SECONDS = 2.0
READ_BYTES = 256 * 1024
"""What a file's connection is read by at a time, as asyncio itself does."""
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Between two pieces of an answer, its beginning included. A stream is as silent as it likes."""
_PLAIN = re.compile(r"[!-~]*")
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
"""What happens before the first byte of a request leaves."""
_CONNECTIONS: dict[Kind, dict[str, Any]] = {
    # As many as there may be: a caller whose calls hang must not take the connection that another's needs (T-22).
    "calls": {"limit": 0, "keepalive_timeout": 30.0},
    # A connection idle for longer may be closed at the other end: a run sent on it would be lost without a trace. So may one
    # that a stream was on, which may have stood for an hour: no run follows on it.
    "runs": {"limit": 0, "keepalive_timeout": 5.0},
    "streams": {"limit": 0, "keepalive_timeout": 5.0},
    # Connections are to addresses, not names: one that was made for a name must never serve another name there.
    "files": {"limit": 100, "force_close": True},
}


@dataclass(frozen=True)
class Response:
    """An answer whose body has not been read; whoever asked for it closes it."""

    _response: aiohttp.ClientResponse

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Found by their names in any case."""
        return self._response.headers

    def close(self) -> None:
        """Close the connection, there and then; where the body was read to its end, it serves again instead."""
        self._response.close()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes. Raises Lost where it ends too early, or nothing comes for too long."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _lost(exc) from exc


class Pools:
    """The connections. Nothing is opened before the first request; `aclose` closes all."""

    def __init__(self) -> None:
        self._sessions: dict[Kind, aiohttp.ClientSession] = {}

    async def aclose(self) -> None:
        """Close every connection, also where the server that had them is being cancelled."""
        sessions, self._sessions = self._sessions, {}
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for session in sessions.values():
                await session.close()

    async def open(
        self, kind: Kind, method: str, url: str, headers: Mapping[str, str], content: bytes | AsyncIterable[bytes] | None = None,
        *, address: str | None = None,
    ) -> Response:  # fmt: skip
        """Send a request to its URL, or to its URL at this IP address, and give the answer as soon as there is a status.

        Raises Lost without an answer; ValueError for what is no URL.
        """
        # As it stands, since a signature may be of it; what cannot stand in a request is encoded.
        target, named = URL(url, encoded=_PLAIN.fullmatch(url) is not None), None
        if address is not None:
            headers, named = {"host": target.authority, **headers}, target.raw_host
            target = target.with_host(address)
        trusted = _trusted() if target.scheme == "https" else True
        try:
            return Response(await self._session(kind).request(
                method, target, headers=headers, data=content, allow_redirects=False, ssl=trusted, server_hostname=named,
                timeout=_timeout(kind),
            ))  # fmt: skip
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _lost(exc) from exc

    def _session(self, kind: Kind) -> aiohttp.ClientSession:
        if kind not in self._sessions:
            self._sessions[kind] = session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(**_CONNECTIONS[kind]), cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False, read_bufsize=READ_BYTES if kind == "files" else 2**16,
                skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            )  # fmt: skip
            # It would send again by itself what the table of retries (reliability 4.2) may not want sent, and nobody counted.
            session._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  - there is no public switch
        return self._sessions[kind]


@cache
def _trusted() -> ssl.SSLContext:
    """Whom to trust, read from disk once: it takes longer than a call to the API."""
    return httpx2.create_ssl_context()


def _timeout(kind: Kind) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=None if kind == "streams" else READ_SECONDS,
        connect=READ_SECONDS if kind == "files" else None,  # the wait for one of a hundred places included
    )  # fmt: skip


def _lost(exc: Exception) -> Lost:
    return Lost(sent=not isinstance(exc, _NEVER_SENT), in_time=not isinstance(exc, TimeoutError))
