"""HTTP, and the one module that names its library: imported with the first request, since a start does not wait for it.

aiohttp, because it was measured: a run through the bridge takes a tenth less time than on httpx2, whose share of it was half,
and an event of a stream less as well (a sixth to a third). The official Python SDK's async client runs on it too.

A connection serves one kind of request. There are no cookies that could mix callers up, no redirects, no
retries, nothing of the environment but where certificates are, and no decoding of bodies (T-15).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import anyio
import httpx2  # how mcp itself finds out whom to trust, and no more
from yarl import URL

from inferencesh_mcp.api.answers import Lost
from inferencesh_mcp.errors import SettingsError

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterable, Mapping

    from aiohttp.connector import Connection

    from inferencesh_mcp.api.transport import Kind

CLOSE_SECONDS = 2.0
READ_BYTES = 256 * 1024
"""What a file's connection is read by at a time, as asyncio itself does."""
HEAD_BYTES = 64 * 1024
"""Of one line of an answer's head: a platform may say much there, and a run that it began must not be lost for it."""
CONNECT_SECONDS = 10.0
"""For a connection, the look for its address included."""
READ_SECONDS = 30.0
"""Between two pieces of an answer, its beginning included. A stream is as silent as it likes."""
_PLAIN = re.compile(r"[!-~]*")
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""What happens before the first byte of a request leaves."""
_CONNECTIONS: dict[Kind, dict[str, Any]] = {
    # As many as there may be: a caller whose calls hang must not take the connection that another's needs (T-22). And for
    # seconds only, since those of a crowd would stay otherwise: the one that was idle longest is used first.
    "calls": {"limit": 0, "keepalive_timeout": 10.0},
    # A connection that was idle may have been closed at the other end, and a run sent on it would be lost without a trace. Or
    # something was said on it meanwhile, and would be taken for the answer: that a run was refused, say, so that it is sent again.
    "runs": {"limit": 0, "force_close": True},
    "streams": {"limit": 0, "keepalive_timeout": 5.0},
    # Connections are to addresses, not names: one that was made for a name must never serve another name there.
    "files": {"limit": 100, "force_close": True},
}


class _Answer(aiohttp.ClientResponse):
    """An answer that hears of the end of its connection."""

    gone: asyncio.Future[None] | None = None
    """Done when it ends; None when it has ended before the answer was looked at."""
    reset: BaseException | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if (protocol := connection.protocol) is not None:
            self.gone, self.reset = protocol.closed, protocol.exception()
        if self.gone is not None:  # once for a connection, however many answers come on it
            self.gone.remove_done_callback(_noticed)
            self.gone.add_done_callback(_noticed)
        return await super().start(connection)


class Response:
    """An answer whose body has not been read; whoever asked for it closes it."""

    def __init__(self, response: _Answer) -> None:
        self._response, self._body, self._gone = response, response.content, response.gone
        if self._gone is None:
            self._end()
        else:
            self._gone.add_done_callback(self._end)

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Found by their names in any case."""
        return self._response.headers

    def close(self) -> None:
        """Close the connection, there and then; where the body was read to its end, it serves again instead."""
        if self._gone is not None:
            self._gone.remove_done_callback(self._end)
        self._response.close()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes. Raises Lost where it ends too early, or nothing comes for too long."""
        try:
            async for chunk in self._body.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError) as exc:  # RuntimeError: it was closed before
            raise _lost(exc) from exc
        reset = _noticed(self._gone) if self._gone and self._gone.done() else self._response.reset
        if reset is not None and self._lasts_till_the_end:
            raise _lost(reset) from reset

    @property
    def _lasts_till_the_end(self) -> bool:
        """Whether nothing but the connection's end ends the body; the library takes a reset for an end too."""
        return not {"content-length", "transfer-encoding"} & {name.lower() for name in self.headers}

    def _end(self, _: object = None) -> None:
        """The connection has ended: so has the body. After a chunk that is none, the library lets its reader wait for ever."""
        if not self._body.is_eof() and self._body.exception() is None:
            self._body.set_exception(aiohttp.ServerDisconnectedError())


def _noticed(gone: asyncio.Future[None]) -> BaseException | None:
    """How a connection ended; asyncio would log an error that nobody asked for."""
    return None if gone.cancelled() else gone.exception()


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

        Raises Lost without an answer; ValueError for what is no URL; SettingsError where there is nobody to trust.
        """
        # As it stands, since a signature may be of it; what cannot stand in a request is encoded.
        target, named = URL(url, encoded=_PLAIN.fullmatch(url) is not None), None
        if address is not None:
            headers, named = {"host": target.host_port_subcomponent or "", **headers}, target.raw_host
            target = target.with_host(address)
        trusted = _trusted() if target.scheme == "https" else True
        try:
            return Response(cast("_Answer", await self._session(kind).request(
                method, target, headers=headers, data=content, allow_redirects=False, ssl=trusted, server_hostname=named,
                timeout=_timeout(kind),
            )))  # fmt: skip
        except aiohttp.InvalidURL:  # a ValueError, and a ClientError too
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _lost(exc) from exc

    def _session(self, kind: Kind) -> aiohttp.ClientSession:
        if kind not in self._sessions:
            self._sessions[kind] = session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(**_CONNECTIONS[kind]), cookie_jar=aiohttp.DummyCookieJar(),
                response_class=_Answer, auto_decompress=False, read_bufsize=READ_BYTES if kind == "files" else 2**16,
                skip_auto_headers=("accept", "accept-encoding", "user-agent"),
                max_line_size=HEAD_BYTES, max_field_size=HEAD_BYTES,
            )  # fmt: skip
            # It would send again by itself what the table of retries (`api/retry.py`) may not want sent, and nobody counted.
            session._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  - there is no public switch
        return self._sessions[kind]


@cache
def _trusted() -> ssl.SSLContext:
    """Whom to trust, read from disk once: it takes longer than a call to the API."""
    try:
        return httpx2.create_ssl_context()
    except OSError as exc:  # ssl.SSLError is one
        raise SettingsError(
            message="the certificates to trust cannot be read",
            next_step="Mend SSL_CERT_FILE or SSL_CERT_DIR, or unset it.",
        ) from exc


def _timeout(kind: Kind) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=None if kind == "streams" else READ_SECONDS,
        connect=READ_SECONDS if kind == "files" else CONNECT_SECONDS,  # files: the wait for one of a hundred places included
    )  # fmt: skip


def _lost(exc: BaseException) -> Lost:
    return Lost(sent=not isinstance(exc, _NEVER_SENT), in_time=not isinstance(exc, TimeoutError))
