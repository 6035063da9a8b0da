"""inference.sh over HTTP: the one place that names the HTTP library, and the one shared pool.

It holds no key: a key is an argument of each call. Requests go straight to the library's transports, below its client, so
there are no cookies to mix callers up, no redirects, no environment and no log line with a URL in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import random as chance
import secrets
import time
from collections import OrderedDict
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

import anyio
import httpx2

from inferencesh_mcp.api import addresses
from inferencesh_mcp.api.problems import Unwrapped, is_api_error, problem, unwrap
from inferencesh_mcp.api.retry import (
    LONGEST_RETRY_AFTER,
    Bucket,
    Failure,
    Operation,
    is_done,
    may_repeat,
    nothing_began,
    pause,
)
from inferencesh_mcp.api.strictjson import NotJson, parse
from inferencesh_mcp.errors import (
    FileRefused,
    InferenceError,
    InvalidInput,
    OutcomeUnknown,
    TimedOut,
    Unavailable,
    UpstreamError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping

    from inferencesh_mcp.api.keys import Key

BODY_LIMIT = 16 * 1024 * 1024
ERROR_BODY_LIMIT = 64 * 1024
ERROR_BODY_SECONDS = 5.0
CALL_SECONDS = 60.0
"""One call in all: its attempts, and the waits between them."""
OPEN_SECONDS = 30.0
"""Until a stream, an upload or a download has been answered with a status."""
DOWNLOAD_LIMIT = 512 * 1024 * 1024
STREAMS_LIMIT = 1000
"""Streams that are open at a time; more wait. Our own count, because the library's pool fails the one too many (F-1)."""
BUCKETS_LIMIT = 4096
CLOSE_SECONDS = 2.0

_Kind = Literal["calls", "runs", "streams", "files"]
_T = TypeVar("_T")
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
_LIMITS: dict[_Kind, httpx2.Limits] = {
    "calls": httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0),
    # A connection idle for longer may be closed at the other end: a run sent on it would be lost without a trace.
    "runs": httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0),
    "streams": httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=5.0),  # F-1, F-2
    # Connections are to addresses, not names: one kept for a name must never serve another name at the same address.
    "files": httpx2.Limits(max_connections=100, max_keepalive_connections=0),
}
_TIMEOUT = {"connect": 10.0, "write": 30.0, "read": 30.0, "pool": 30.0}
_STREAM_TIMEOUT = {"connect": 10.0, "write": 30.0, "read": None, "pool": None}

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    """An attempt that failed: what that means for the next attempt, and the error if there is none."""

    failure: Failure
    error: InferenceError


class Transport:
    """The pool. Nothing is opened before the first call; `aclose` closes all.

    Two servers, or two tests, each have their own; `network` is the whole outside world and replaces it in tests.
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
        """How far the API's clock is ahead of this machine's, by the `Date` of its last answer."""
        self._base = addresses.base_url(base_url, "INFERENCE_BASE_URL")
        self._proxy = addresses.base_url(proxy_url, "INFERENCE_PROXY_URL") if proxy_url else ""
        self._local = addresses.is_loopback_host(urlsplit(self._base).hostname or "")
        self._client = client
        self._network = network
        self._pools: dict[_Kind, httpx2.AsyncBaseTransport] = {}
        self._tls: Any = None
        self._streams: anyio.Semaphore | None = None
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()
        self._pepper = secrets.token_bytes(32)

    @property
    def brings_keys(self) -> bool:
        """Whether requests go to a proxy that adds a key of its own."""
        return bool(self._proxy)

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

        Raises the typed error of the last answer; TimedOut or Unavailable without one; UpstreamError for an answer that
        cannot be read. A call that STARTs something raises OutcomeUnknown instead wherever it may have been started.
        """
        content = _encoded(call.body)
        sent_at = self.now()

        async def once(seconds: float) -> Unwrapped | _Refusal:
            nonlocal sent_at
            sent_at = self.now()
            return await self._attempt(call, content, key, seconds)

        try:
            found = await self._persist(call.operation, key, f"{call.method} {call.path}", once)
        except _GivenUp as given_up:
            raise _final(call, given_up.refusal, sent_at) from given_up.__cause__
        return found or Unwrapped(value=None)

    @asynccontextmanager
    async def stream(self, path: str, key: Key | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a stream of lines, once, and give its bytes as they come. Raises what `call` raises; so does reading."""
        async with self._stream_slots(), self._opened("streams", self._stream_request(path, key)) as response:
            if not 200 <= response.status_code < 300:
                raise problem(response.status_code, response.headers, await _error_body(response))
            async with aclosing(_chunks(response)) as chunks:
                yield chunks

    async def put(
        self, url: str, content: Callable[[], AsyncIterable[bytes]], *, size: int, content_type: str, key: Key | None
    ) -> None:
        """Send a file's bytes to an address that was handed out for it; `key` is not sent, it only says whose retries these are.

        `content` is asked for the bytes again at every attempt. FileRefused when they are not `size` bytes.
        """
        name = "PUT of a file"
        try:
            await self._persist(Operation.PUT, key, name, lambda _: self._put_once(url, content, size, content_type))
        except _GivenUp as given_up:
            raise given_up.refusal.error from given_up.__cause__

    @asynccontextmanager
    async def download(self, url: str, key: Key | None) -> AsyncGenerator[Download]:
        """Fetch a file, at most 512 MiB; `key` is not sent. FileRefused for an address that may not be fetched."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                response = await self._persist(
                    Operation.READ, key, "GET of a file", lambda _: self._download_once(stack, url)
                )
            except _GivenUp as given_up:
                raise given_up.refusal.error from given_up.__cause__
            assert response is not None  # noqa: S101 - only a STOP ends without an answer
            chunks = await stack.enter_async_context(aclosing(_capped(_chunks(response), DOWNLOAD_LIMIT)))
            yield Download(size=_length(response), content_type=response.headers.get("content-type", ""), chunks=chunks)

    async def _persist(
        self,
        operation: Operation,
        key: Key | None,
        name: str,
        once: Callable[[float], Awaitable[_T | _Refusal]],
    ) -> _T | None:
        """Attempt, pause, attempt again, as the policy allows; None when an earlier attempt of a STOP has done it."""
        bucket, sent_before, end = self._bucket(key), False, self.clock() + CALL_SECONDS
        for attempt in count(1):
            outcome = await once(end - self.clock())
            if not isinstance(outcome, _Refusal):
                if attempt == 1:
                    bucket.succeeded()
                return outcome
            failure = outcome.failure
            if is_done(operation, failure, sent_before=sent_before):
                return None
            wait = min(pause(failure, attempt, self.random), LONGEST_RETRY_AFTER)
            # A pause that outlasts the call could only end in the same error, later.
            if not may_repeat(operation, failure, attempt) or self.clock() + wait >= end or not bucket.take(failure):
                raise _GivenUp(outcome) from outcome.error.__cause__
            logger.info("%s: attempt %d failed (%s), again in %.2f s", name, attempt, outcome.error.code, wait)
            sent_before = sent_before or failure.sent
            await self.sleep(wait)
        raise AssertionError  # pragma: no cover - count() does not end

    async def _attempt(
        self, call: Call, content: bytes | None, key: Key | None, seconds: float
    ) -> Unwrapped | _Refusal:
        kind: _Kind = "runs" if call.operation is Operation.START else "calls"
        request = self._request(call, content, key)
        try:
            with anyio.fail_after(seconds):
                return _judged(await self._answer(kind, request))
        except (TimeoutError, httpx2.HTTPError, InferenceError) as exc:
            return _broken(exc)

    async def _answer(self, kind: _Kind, request: httpx2.Request) -> _Answer:
        async with self._opened(kind, request) as response:
            well = 200 <= response.status_code < 300
            body = await _body(response) if well else await _error_body(response)
            return _Answer(status=response.status_code, headers=response.headers, body=body)

    @asynccontextmanager
    async def _opened(self, kind: _Kind, request: httpx2.Request) -> AsyncGenerator[httpx2.Response]:
        """Send a request; the response is closed with the block, there and then, also when it is cancelled."""
        with anyio.fail_after(None if kind in {"calls", "runs"} else OPEN_SECONDS):
            response = await self._pool(kind).handle_async_request(request)
        try:
            if kind != "files":
                self._note_date(response.headers.get("date"))
            yield response
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await response.aclose()

    async def _put_once(
        self, url: str, content: Callable[[], AsyncIterable[bytes]], size: int, content_type: str
    ) -> bool | _Refusal:
        counted = _Counted(content(), size)
        headers = {"content-type": content_type, "content-length": str(size)}
        try:
            request = await self._file_request("PUT", url, headers, counted)
            with anyio.fail_after(None):
                answer = await self._answer_put(request)
        except (TimeoutError, httpx2.HTTPError) as exc:
            return _broken(exc)
        if not 200 <= answer.status < 300:
            return _judged_error(answer)
        if counted.sent != size:  # an early 200 stores nothing, or half a file
            return _broken(httpx2.WriteError("answered before all was sent"))
        return True

    async def _answer_put(self, request: httpx2.Request) -> _Answer:
        response = await self._pool("files").handle_async_request(request)
        try:
            body = b"" if 200 <= response.status_code < 300 else await _error_body(response)
            return _Answer(status=response.status_code, headers=response.headers, body=body)
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await response.aclose()

    async def _download_once(self, stack: contextlib.AsyncExitStack, url: str) -> httpx2.Response | _Refusal:
        try:
            request = await self._file_request("GET", url, {})
            response = await stack.enter_async_context(self._opened("files", request))
            if response.status_code == 200:
                _refuse_encoding(response)
                return response
            body = await _error_body(response)
        except (TimeoutError, httpx2.HTTPError) as exc:
            return _broken(exc)
        return _judged_error(_Answer(status=response.status_code, headers=response.headers, body=body))

    def _request(self, call: Call, content: bytes | None, key: Key | None) -> httpx2.Request:
        headers = self._headers(key, "application/json") | (
            {} if content is None else {"content-type": "application/json"}
        )
        target = self._url(call.path)
        if self._proxy:
            headers["x-inf-target-url"] = target
        extensions = {"timeout": dict(_TIMEOUT)}
        return httpx2.Request(
            call.method, self._proxy or target, headers=headers, content=content, extensions=extensions
        )

    def _stream_request(self, path: str, key: Key | None) -> httpx2.Request:
        headers = self._headers(key, "application/x-ndjson") | {"cache-control": "no-cache"}
        url = target = self._url(path)
        if self._proxy:
            headers["x-inf-target-url"] = target
            url = f"{self._proxy}?__inf_target={quote(target, safe='')}"
        return httpx2.Request("GET", url, headers=headers, extensions={"timeout": dict(_STREAM_TIMEOUT)})

    async def _file_request(
        self, method: str, url: str, headers: dict[str, str], content: AsyncIterable[bytes] | None = None
    ) -> httpx2.Request:
        """A request that connects to the very address that was checked; FileRefused when none may be used."""
        host, port = addresses.file_host(url, loopback=self._local)
        sent = {"user-agent": self._client, "accept": "*/*", "accept-encoding": "identity"} | headers
        extensions: dict[str, Any] = {"timeout": dict(_TIMEOUT)}
        request = httpx2.Request(method, url, headers=sent, content=content, extensions=extensions)
        if self._network is None:
            extensions["sni_hostname"] = host
            request.url = request.url.copy_with(host=await self._checked_address(host, port))
            request.extensions = extensions
        return request

    async def _checked_address(self, host: str, port: int) -> str:
        try:
            with anyio.fail_after(_TIMEOUT["connect"]):
                found = await anyio.getaddrinfo(host, port, type=1)  # 1: a stream socket
        except OSError as exc:
            raise httpx2.ConnectError("the file's host was not found") from exc
        names = [str(address[4][0]) for address in found]
        if not names or not all(addresses.is_allowed(name, loopback=self._local) for name in names):
            raise FileRefused(message=f"the file's host {host!a} is not a public address")
        return names[0]

    def _headers(self, key: Key | None, accept: str) -> dict[str, str]:
        headers = {
            "accept": accept,
            "accept-encoding": "identity",
            "user-agent": self._client,
            "x-api-version": "2",
            "x-client-source": self._client,
        }
        return headers | {"authorization": key.authorization} if key else headers

    def _url(self, path: str) -> str:
        """The base URL and the path; InvalidInput should the two together ever leave the base."""
        url = httpx2.URL(self._base + path)
        base = httpx2.URL(self._base)
        at_home = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
        segments = url.raw_path.partition(b"?")[0].split(b"/")
        if (
            not at_home
            or not url.raw_path.startswith(base.raw_path.rstrip(b"/") + b"/")
            or {b"..", b"."} & set(segments)
        ):
            raise InvalidInput(message="the request would have left the API's own address")
        return str(url)

    def _pool(self, kind: _Kind) -> httpx2.AsyncBaseTransport:
        if self._network is not None:
            return self._network
        if kind not in self._pools:
            self._tls = self._tls or httpx2.create_ssl_context()
            self._pools[kind] = httpx2.AsyncHTTPTransport(verify=self._tls, http2=False, limits=_LIMITS[kind])
        return self._pools[kind]

    def _stream_slots(self) -> anyio.Semaphore:
        self._streams = self._streams or anyio.Semaphore(STREAMS_LIMIT)
        return self._streams

    def _bucket(self, key: Key | None) -> Bucket:
        """The retries left to this principal, who is known by a keyed hash and never by the key (I-9)."""
        principal = hmac.digest(self._pepper, key.authorization.encode() if key else b"", hashlib.sha256)
        bucket = self._buckets.setdefault(principal, Bucket())
        self._buckets.move_to_end(principal)
        if len(self._buckets) > BUCKETS_LIMIT:
            self._buckets.popitem(last=False)
        return bucket

    def _note_date(self, header: str | None) -> None:
        with contextlib.suppress(ValueError):
            self.skew = parsedate_to_datetime(header or "").astimezone(UTC) - datetime.now(UTC)


class _GivenUp(Exception):  # noqa: N818 - it never leaves this module
    def __init__(self, refusal: _Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class _Counted:
    """A file's bytes on their way out, held to the size that was announced."""

    def __init__(self, content: AsyncIterable[bytes], size: int) -> None:
        self.sent = 0
        self._content, self._size = content, size

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for chunk in self._content:
            if self.sent + len(chunk) > self._size:
                raise _changed()
            yield chunk
            self.sent += len(chunk)
        if self.sent != self._size:
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


def _judged(answer: _Answer) -> Unwrapped | _Refusal:
    if not 200 <= answer.status < 300:
        return _judged_error(answer)
    if not answer.body.strip():
        return Unwrapped(value=None)
    try:
        found = unwrap(parse(answer.body))
    except NotJson as exc:
        return _unreadable(answer.status, str(exc))
    if isinstance(found, Unwrapped):
        return found
    failure = Failure(sent=True, status=found.status, retry_after=found.retry_after, refused=True)
    return _Refusal(failure=failure, error=found)


def _judged_error(answer: _Answer) -> _Refusal:
    error = problem(answer.status, answer.headers, answer.body)
    refused = is_api_error(answer.body)
    failure = Failure(sent=True, status=answer.status, retry_after=error.retry_after, refused=refused)
    return _Refusal(failure=failure, error=error)


def _unreadable(status: int, why: str) -> _Refusal:
    error = UpstreamError(
        message=f"inference.sh answered {status} with something that cannot be read: {why}", status=status
    )
    return _Refusal(failure=Failure(sent=True, status=status), error=error)


def _broken(exc: Exception) -> _Refusal:
    """An attempt without a whole answer. The library's own text is never shown: it may quote an address."""
    if isinstance(exc, InferenceError):
        return _Refusal(failure=Failure(sent=True, status=exc.status or 200), error=exc)
    sent = not isinstance(exc, _NEVER_SENT)
    error: InferenceError
    if isinstance(exc, TimeoutError | httpx2.TimeoutException):
        error = TimedOut(message="inference.sh did not answer in time")
    elif sent:
        error = Unavailable(message="the connection to inference.sh broke before the answer was complete")
    else:
        error = Unavailable(
            message="inference.sh could not be reached", next_step="Check the network, then call again."
        )
    error.__cause__ = exc
    return _Refusal(failure=Failure(sent=sent), error=error)


def _final(call: Call, refusal: _Refusal, sent_at: datetime) -> InferenceError:
    """The error of a call that is given up; for one that STARTs something, with what became of it."""
    error = refusal.error
    if call.operation is not Operation.START:
        return error
    if not nothing_began(refusal.failure):
        return OutcomeUnknown(
            message=f"the run was sent, but its answer was lost: {error.message}",
            next_step="Do not send it again before looking for it with task_list.",
            outcome="unknown",
            retry_safe=False,
            status=error.status,
            upstream_code=error.upstream_code,
            sent_at=sent_at,
        )
    if not refusal.failure.sent:
        error = Unavailable(message="inference.sh could not be reached: nothing was sent", next_step=error.next_step)
    error.outcome, error.retry_safe = "not_started", True
    return error


def _refuse_encoding(response: httpx2.Response) -> None:
    """A compressed body was not asked for, and a small one can hold gigabytes (T-15)."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise UpstreamError(
            message="the answer was compressed although that was not asked for", status=response.status_code
        )


async def _body(response: httpx2.Response) -> bytes:
    _refuse_encoding(response)
    body = bytearray()
    async with _raw(response) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_LIMIT:
                raise UpstreamError(message="the answer is larger than 16 MiB", status=response.status_code)
    return bytes(body)


async def _error_body(response: httpx2.Response) -> bytes:
    """As much of an error's body as comes in time: the status alone is an answer too."""
    body = bytearray()
    with contextlib.suppress(httpx2.HTTPError, UpstreamError), anyio.move_on_after(ERROR_BODY_SECONDS):
        _refuse_encoding(response)
        async with _raw(response) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > ERROR_BODY_LIMIT:
                    break
    return bytes(body[:ERROR_BODY_LIMIT])


async def _chunks(response: httpx2.Response) -> AsyncGenerator[bytes]:
    _refuse_encoding(response)
    try:
        async with _raw(response) as chunks:
            async for chunk in chunks:
                yield chunk
    except httpx2.HTTPError as exc:
        raise _broken(exc).error from exc


def _raw(response: httpx2.Response) -> aclosing[AsyncGenerator[bytes]]:
    """The bytes as they came: undecoded, and closed with the block."""
    return aclosing(response.aiter_raw())


async def _capped(chunks: AsyncGenerator[bytes], limit: int) -> AsyncGenerator[bytes]:
    size = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise FileRefused(message=f"the file is larger than {limit // 1024 // 1024} MiB")
            yield chunk


def _length(response: httpx2.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
