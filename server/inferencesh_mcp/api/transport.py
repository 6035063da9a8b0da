"""inference.sh over HTTP: the one place that names the HTTP library, and the one shared pool.

It holds no key: a key is an argument of each call. Requests go straight to the library's transports, below its client: so
there are no cookies that could mix callers up, no redirects, no environment, and no log line with a URL in it.
"""

from __future__ import annotations

import json
import random as chance
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import anyio
import anyio.lowlevel
import httpx2

from inferencesh_mcp.api import addresses
from inferencesh_mcp.api.answers import Answer, Refusal, final, judged, lost, refused
from inferencesh_mcp.api.attempts import Attempts, GivenUp
from inferencesh_mcp.api.problems import Unwrapped, problem
from inferencesh_mcp.api.retry import Failure, Operation
from inferencesh_mcp.api.tracing import part_of, traced
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput, TimedOut, UpstreamError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping

    import httpcore2

    from inferencesh_mcp.api.keys import Key

BODY_LIMIT = 16 * 1024 * 1024
ERROR_BODY_LIMIT = 64 * 1024
ERROR_BODY_SECONDS = 5.0
OPEN_SECONDS = 30.0
"""Until a stream or a download has been answered with a status."""
DOWNLOAD_LIMIT = 512 * 1024 * 1024
UPLOAD_SECONDS = 3600.0
"""One upload in all: a large file needs its minutes, and may break off in the last of them."""
DOWNLOAD_SECONDS = 3600.0
"""One download in all, however slowly its bytes drip (T-16)."""
STREAMS_LIMIT = 1000
"""Streams open at a time; more wait. Our own count, because the library's pool fails the one too many (F-1)."""
READ_BYTES = 256 * 1024
"""What a file's connection is read by at a time, as asyncio itself does."""
CLOSE_SECONDS = 2.0
END_SECONDS = 0.05
"""Wait for a stream's end when its last line was read."""

_Kind = Literal["calls", "runs", "streams", "files"]
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
_LIMITS: dict[_Kind, httpx2.Limits] = {
    # As many as there may be: a caller whose calls hang must not take the connection that another's needs (T-22).
    "calls": httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=30.0),
    # A connection idle for longer may be closed at the other end: a run sent on it would be lost without a trace. So may one
    # that a stream was on, which may have stood for an hour: no run follows on it.
    "runs": httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=5.0),
    "streams": httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=5.0),  # F-1, F-2
    # Connections are to addresses, not names: one that was made for a name must never serve another name there.
    "files": httpx2.Limits(max_connections=100, max_keepalive_connections=0),
}
_TIMEOUT = {"connect": 10.0, "write": 30.0, "read": 30.0, "pool": 30.0}
_STREAM_TIMEOUT = {"connect": 10.0, "write": 30.0, "read": None, "pool": None}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the API. `path` begins with a slash and is encoded; without a `body` none is sent."""

    method: str
    path: str
    operation: Operation = Operation.READ
    body: Any = None


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that is being fetched; `chunks` ends with the file, or fails."""

    size: int | None
    """Bytes, where the other side tells."""
    content_type: str
    chunks: AsyncIterator[bytes] = field(repr=False)


class Transport:
    """The pool. Nothing is opened before the first call; `aclose` closes all.

    `network` is the whole outside world, and replaces it in tests; `sleep`, `random` and `clock` (monotonic) are time.
    """

    def __init__(
        self,
        base_url: str,
        *,
        proxy_url: str | None = None,
        client: str = "inferencesh-mcp",
        network: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = chance.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`client` is `name/version`, as the API is told it. SettingsError for a URL that may not be used."""
        self.sleep, self.random, self.clock = sleep, random, clock
        self.skew = timedelta()
        """How far the API's clock is ahead of this machine's, by the `Date` of its last answer (to a second)."""
        self._base = addresses.base_url(base_url, "INFERENCE_BASE_URL")
        self._root = httpx2.URL(self._base)
        self._proxy = addresses.base_url(proxy_url, "INFERENCE_PROXY_URL") if proxy_url else ""
        self._home = addresses.loopback_port(self._base)
        self._client = client
        self._network = network
        self._pools: dict[_Kind, httpx2.AsyncBaseTransport] = {}
        self._streams: anyio.Semaphore | None = None
        self._attempts = Attempts(sleep, random, clock)

    @property
    def brings_key(self) -> bool:
        """Whether requests go to a proxy that adds a key of its own."""
        return bool(self._proxy)

    @property
    def failures(self) -> Mapping[str, int]:
        """How often a request failed, each attempt for itself, by the code of its error."""
        return self._attempts.failures

    def now(self) -> datetime:
        """The time by the API's clock."""
        return datetime.now(UTC) + self.skew

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    async def call(self, call: Call, key: Key | None) -> Unwrapped:
        """Send a request, again where that is safe, and read the JSON it is answered with.

        Raises the typed error of the last answer; TimedOut or Unavailable when there was none; UpstreamError for one that
        cannot be read. A call that STARTs something raises OutcomeUnknown instead wherever that may have happened.
        """
        content, sent_at = _encoded(call.body), self.now()

        async def once(seconds: float) -> Unwrapped | Refusal:
            nonlocal sent_at
            sent_at = self.now()
            return await self._attempt(call, self._request(call, content, key), seconds)

        try:
            found = await self._attempts.persist(call.operation, key, f"{call.method} {call.path}", once)
        except GivenUp as given_up:
            raise final(call.operation, given_up.refusal, sent_at) from given_up.__cause__
        return found or Unwrapped(value=None)

    @asynccontextmanager
    async def stream(self, path: str, key: Key | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a stream of lines, once, and give its bytes as they come; opening and reading raise what `call` does."""
        request = self._stream_request(path, key)
        async with self._stream_slots(), self._opened_in_time("streams", request) as response:
            if not 200 <= response.status_code < 300:
                raise problem(response.status_code, response.headers, await _error_body(response))
            async with aclosing(_chunks(response)) as chunks:
                yield chunks
                # After the last line the end follows at once: a connection that was read to it can be used again.
                with suppress(InferenceError), anyio.move_on_after(END_SECONDS):
                    await anext(chunks, None)

    async def put(
        self, url: str, content: Callable[[], AsyncIterable[bytes]], *, size: int, content_type: str, key: Key | None
    ) -> None:
        """Send a file's bytes to an address that was handed out for it. `key` is not sent: it says whose retries these are.

        `content` is asked for the bytes again at every attempt. FileRefused when they are not `size` bytes, or the address
        is none that a file may go to.
        """
        headers = {"content-type": content_type, "content-length": str(size)}

        async def once(seconds: float) -> bool | Refusal:
            counted = _Counted(content(), size)
            return await self._put(await self._file_request("PUT", url, headers, counted), counted, seconds)

        try:
            await self._attempts.persist(Operation.PUT, key, "PUT of a file", once, seconds=UPLOAD_SECONDS)
        except GivenUp as given_up:
            raise given_up.refusal.error from given_up.__cause__

    @asynccontextmanager
    async def download(self, url: str, key: Key | None) -> AsyncGenerator[Download]:
        """Fetch a file, at most 512 MiB in an hour. `key` is not sent. FileRefused for an address that may not be fetched."""
        until = self.clock() + DOWNLOAD_SECONDS
        async with AsyncExitStack() as stack:

            async def once(_: float) -> httpx2.Response | Refusal:
                return await self._open_download(await self._file_request("GET", url, {}), stack)

            try:
                response = await self._attempts.persist(Operation.READ, key, "GET of a file", once)
            except GivenUp as given_up:
                raise given_up.refusal.error from given_up.__cause__
            assert response is not None  # noqa: S101 - only a STOP ends without an answer
            chunks = await stack.enter_async_context(aclosing(self._bounded(_chunks(response, _whole), until)))
            yield Download(size=_length(response), content_type=response.headers.get("content-type", ""), chunks=chunks)

    async def _bounded(self, chunks: AsyncGenerator[bytes], until: float) -> AsyncGenerator[bytes]:
        size = 0
        async with aclosing(chunks):
            async for chunk in chunks:
                size += len(chunk)
                if size > DOWNLOAD_LIMIT:
                    raise FileRefused(message=f"the file is larger than {DOWNLOAD_LIMIT // 1024 // 1024} MiB")
                if self.clock() > until:
                    raise TimedOut(message=f"the file did not arrive within {DOWNLOAD_SECONDS / 60:.0f} minutes")
                yield chunk

    async def _attempt(self, call: Call, request: httpx2.Request, seconds: float) -> Unwrapped | Refusal:
        kind: _Kind = "runs" if call.operation is Operation.START else "calls"
        await anyio.lowlevel.checkpoint_if_cancelled()
        # The answer to a START is always read: cancelled in between, nobody would know what to cancel (D-5). The pauses
        # between attempts are not shielded, so that a call which was cancelled starts nothing later.
        try:
            with anyio.fail_after(seconds, shield=call.operation is Operation.START):
                async with self._opened(kind, request) as response:
                    well = 200 <= response.status_code < 300
                    body = await _body(response) if well else await _error_body(response)
        except UpstreamError as exc:
            return Refusal(failure=Failure(sent=True, status=exc.status), error=exc)
        except (TimeoutError, httpx2.HTTPError) as exc:
            return _lost(exc)
        return judged(Answer(status=response.status_code, headers=response.headers, body=body))

    async def _put(self, request: httpx2.Request, content: _Counted, seconds: float) -> bool | Refusal:
        try:
            with anyio.fail_after(seconds):
                async with self._opened("files", request) as response:
                    body = await _error_body(response)
        except (TimeoutError, httpx2.HTTPError) as exc:
            return _lost(exc)
        if not 200 <= response.status_code < 300:
            return refused(Answer(status=response.status_code, headers=response.headers, body=body))
        # A server that answers before it has read all of it has stored half a file, or none.
        return content.is_complete or lost(sent=True, in_time=True)

    async def _open_download(self, request: httpx2.Request, stack: AsyncExitStack) -> httpx2.Response | Refusal:
        """The response, which `stack` will close; one that is of no use is closed here."""
        try:
            async with AsyncExitStack() as attempt:
                response = await attempt.enter_async_context(self._opened_in_time("files", request))
                if response.status_code == 200:
                    _refuse_encoding(response)  # before anything is begun with what it may hold
                    stack.push_async_exit(attempt.pop_all())
                    return response
                body = await _error_body(response)
        except (TimeoutError, httpx2.HTTPError) as exc:
            return _lost(exc)
        return refused(Answer(status=response.status_code, headers=response.headers, body=body))

    @asynccontextmanager
    async def _opened_in_time(self, kind: _Kind, request: httpx2.Request) -> AsyncGenerator[httpx2.Response]:
        """As `_opened`, with a limit on the wait for the status."""
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(OPEN_SECONDS):
                    response = await stack.enter_async_context(self._opened(kind, request))
            except (TimeoutError, httpx2.HTTPError) as exc:
                if kind == "streams":
                    raise _lost(exc).error from exc
                raise
            yield response

    @asynccontextmanager
    async def _opened(self, kind: _Kind, request: httpx2.Request) -> AsyncGenerator[httpx2.Response]:
        """Send a request; its response is closed with the block, there and then, also when that is cancelled."""
        with traced(request.method, request.url.host, None if kind == "files" else request.url.path) as span:
            if kind != "files":
                request.headers.update(part_of(span))
            response = await self._pool(kind).handle_async_request(request)
            span.set_attribute("http.response.status_code", response.status_code)
        try:
            if kind != "files":
                self._note_date(response.headers.get("date", ""))
            yield response
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await response.aclose()

    def _request(self, call: Call, content: bytes | None, key: Key | None) -> httpx2.Request:
        headers = self._headers(key, "application/json")
        if content is not None:
            headers["content-type"] = "application/json"
        url = self._url(call.path)
        if self._proxy:
            headers["x-inf-target-url"], url = str(url), httpx2.URL(self._proxy)
        return httpx2.Request(call.method, url, headers=headers, content=content, extensions={"timeout": _TIMEOUT})

    def _stream_request(self, path: str, key: Key | None) -> httpx2.Request:
        headers = self._headers(key, "application/x-ndjson")
        url = self._url(path)
        if self._proxy:
            headers["x-inf-target-url"] = target = str(url)
            url = httpx2.URL(f"{self._proxy}?__inf_target={quote(target, safe='')}")
        return httpx2.Request("GET", url, headers=headers, extensions={"timeout": _STREAM_TIMEOUT})

    async def _file_request(
        self, method: str, url: str, headers: Mapping[str, str], content: AsyncIterable[bytes] | None = None
    ) -> httpx2.Request:
        """A request that goes to the very address that was checked (I-16), and carries nothing of ours."""
        # A sandbox keeps its files on this machine: at its own port, and nothing else here is anybody's file (T-8).
        at_home = self._home is not None and addresses.loopback_port(url) == self._home
        host, port = addresses.file_host(url, loopback=at_home)
        extensions: dict[str, Any] = {"timeout": _TIMEOUT, "sni_hostname": host}
        sent = {"user-agent": self._client, "accept": "*/*", "accept-encoding": "identity", **headers}
        try:
            request = httpx2.Request(method, url, headers=sent, content=content, extensions=extensions)
        except httpx2.InvalidURL as exc:
            raise FileRefused(message="the file's address is not a URL that can be fetched") from exc
        if self._network is None:
            request.url = request.url.copy_with(host=await self._checked_address(host, port, loopback=at_home))
        return request

    async def _checked_address(self, host: str, port: int, *, loopback: bool) -> str:
        try:
            with anyio.fail_after(_TIMEOUT["connect"]):
                found = await anyio.getaddrinfo(host, port)
        except (OSError, UnicodeError) as exc:
            raise FileRefused(message=f"the file's host {host!a} was not found") from exc
        names = [str(address[4][0]) for address in found]
        if not all(addresses.is_allowed(name, loopback=loopback) for name in names):
            raise FileRefused(message=f"the file's host {host!a} is not a public address")
        return names[0]

    def _headers(self, key: Key | None, accept: str) -> dict[str, str]:
        headers = {
            "accept": accept,
            "accept-encoding": "identity",  # T-15
            "user-agent": self._client,
            "x-api-version": "2",
            "x-client-source": self._client,
        }
        return headers | {"authorization": key.authorization} if key else headers

    def _url(self, path: str) -> httpx2.URL:
        """The base URL and the path; InvalidInput should the two together ever leave the base (I-19)."""
        url, base = httpx2.URL(self._base + path), self._root
        at_home = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
        below = url.raw_path.startswith(base.raw_path.rstrip(b"/") + b"/")
        if not (at_home and below) or {b"..", b"."} & set(url.raw_path.split(b"/")):
            raise InvalidInput(message="the request would have left the API's own address")
        return url

    def _pool(self, kind: _Kind) -> httpx2.AsyncBaseTransport:
        if self._network is not None:
            return self._network
        if kind not in self._pools:
            self._pools[kind] = httpx2.AsyncHTTPTransport(verify=_tls(), http2=False, limits=_LIMITS[kind])
        return self._pools[kind]

    def _stream_slots(self) -> anyio.Semaphore:
        self._streams = self._streams or anyio.Semaphore(STREAMS_LIMIT)
        return self._streams

    def _note_date(self, header: str) -> None:
        with suppress(ValueError):
            self.skew = parsedate_to_datetime(header).astimezone(UTC) - datetime.now(UTC)


@cache
def _tls() -> ssl.SSLContext:
    """Whom to trust, read from disk once: it takes longer than a call to the API."""
    return httpx2.create_ssl_context()


class _Counted:
    """A file's bytes on their way out, held to the size that was announced."""

    def __init__(self, content: AsyncIterable[bytes], size: int) -> None:
        self._content, self._left = content, size

    @property
    def is_complete(self) -> bool:
        return self._left == 0

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for chunk in self._content:
            if len(chunk) > self._left:
                raise _changed()
            yield chunk
            self._left -= len(chunk)
        if not self.is_complete:
            raise _changed()


def _changed() -> FileRefused:
    return FileRefused(message="the file changed while it was being sent", next_step="Call again when it is complete.")


def _encoded(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidInput(message="the input is not plain JSON: NaN, Infinity and the like cannot be sent") from exc


def _lost(exc: TimeoutError | httpx2.HTTPError) -> Refusal:
    """The library's exceptions as ours. "Never sent" is what happens before the first byte of a request leaves."""
    in_time = not isinstance(exc, TimeoutError | httpx2.TimeoutException)
    refusal = lost(sent=not isinstance(exc, _NEVER_SENT), in_time=in_time)
    refusal.error.__cause__ = exc
    return refusal


def _refuse_encoding(response: httpx2.Response) -> None:
    """A compressed body was not asked for, and a small one can hold gigabytes (T-15)."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "inference.sh compressed its answer although that was not asked for"
        raise UpstreamError(message=message, status=response.status_code)


async def _body(response: httpx2.Response) -> bytes:
    body = bytearray()
    async with aclosing(_raw(response)) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_LIMIT:
                raise UpstreamError(message="inference.sh's answer is larger than 16 MiB", status=response.status_code)
    return bytes(body)


async def _error_body(response: httpx2.Response) -> bytes:
    """As much of an error's body as comes in time: the status alone is an answer too."""
    body = bytearray()
    with suppress(httpx2.HTTPError, UpstreamError), anyio.move_on_after(ERROR_BODY_SECONDS):
        async with aclosing(_raw(response)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > ERROR_BODY_LIMIT:
                    break
    return bytes(body[:ERROR_BODY_LIMIT])


async def _raw(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """The bytes as they came, undecoded. The generators are closed by hand: the collector would do it too late."""
    _refuse_encoding(response)
    async with aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            yield chunk


async def _whole(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """The same, of a file. Where its length was told, only the first bytes go through the library's parser, which copies
    each of them three times; the rest is read from the connection as it comes, in half the time."""
    connection: httpcore2.AsyncNetworkStream | None = response.extensions.get("network_stream")
    async with aclosing(_raw(response)) as parsed:
        left = _length(response)
        if connection is None or left is None or "transfer-encoding" in response.headers:
            async for chunk in parsed:
                yield chunk
            return
        chunk = await anext(parsed, b"")  # all that the parser held
        while chunk:
            yield chunk
            left -= len(chunk)
            chunk = await _read(connection, left) if left else b""


async def _read(connection: httpcore2.AsyncNetworkStream, left: int) -> bytes:
    """The next bytes of a body that has some `left`; fails as the library's client does."""
    import httpcore2  # not paid for at the start: the library too imports it with its first connection

    try:
        chunk = await connection.read(min(READ_BYTES, left), timeout=_TIMEOUT["read"])
    except httpcore2.TimeoutException as exc:
        raise httpx2.ReadTimeout(str(exc)) from exc
    except httpcore2.NetworkError as exc:
        raise httpx2.ReadError(str(exc)) from exc
    if not chunk:
        raise httpx2.RemoteProtocolError(f"the connection ended {left} bytes too early")
    return chunk


async def _chunks(
    response: httpx2.Response, read: Callable[[httpx2.Response], AsyncGenerator[bytes]] = _raw
) -> AsyncGenerator[bytes]:
    """What `read` gives, failing in our words."""
    try:
        async with aclosing(read(response)) as chunks:
            async for chunk in chunks:
                yield chunk
    except httpx2.HTTPError as exc:
        raise _lost(exc).error from exc


def _length(response: httpx2.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
