"""Sends requests to inference.sh, with retries and limits. It holds no key: each call is given one."""

from __future__ import annotations

import logging
import random as chance
import re
import time
from collections import deque
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

import anyio
import anyio.lowlevel

from inferencesh_mcp.api import bodies, url_policy
from inferencesh_mcp.api.attempts import Attempts, GivenUp
from inferencesh_mcp.api.headers import clock_skew, content_length
from inferencesh_mcp.api.json import BODY_DEPTH_LIMIT, NotReadableBack, encoded
from inferencesh_mcp.api.keys import Polling
from inferencesh_mcp.api.problem_details import Unwrapped, problem
from inferencesh_mcp.api.proxies import Proxies
from inferencesh_mcp.api.responses import (
    Answer,
    Lost,
    Refusal,
    final_error,
    no_answer,
    no_answer_from,
    read_answer,
    read_refusal,
)
from inferencesh_mcp.api.retry import Failure, Operation
from inferencesh_mcp.api.spans import client_span, trace_headers
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput, SettingsError, TimedOut, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from inferencesh_mcp.api.http_client import Pools, Response
    from inferencesh_mcp.api.keys import Key
    from inferencesh_mcp.api.proxies import Proxy

WARNINGS_LIMIT = 100
"""Warnings of the API that are remembered, so that each is logged once."""
OPEN_SECONDS = 30.0
"""Wait for the status of a stream or a download."""
DOWNLOAD_LIMIT = 512 * 1024 * 1024
REDIRECTS_LIMIT = 5
"""Redirects of one download: a short link, a host's own name and its storage take three."""
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
UPLOAD_SECONDS = 3600.0
"""One upload with all its retries: a large file takes minutes and may break off in the last one."""
DOWNLOAD_SECONDS = 3600.0
"""One download, however slowly its bytes arrive (T-16)."""
ADDRESSES_LIMIT = 4
"""Addresses of a file's host that are tried: each dead one takes up to the connect limit."""
STREAMS_LIMIT = 1000
"""Streams that are open at a time; more wait."""
LARGE_ANSWERS_LIMIT = 4
"""Answers of more than 1 MiB that are read and parsed at a time; more wait."""
RESOLVE_SECONDS = 10.0
END_SECONDS = 0.05
"""Wait for the end of a stream after its last line."""

logger = logging.getLogger(__name__)

Kind = Literal["calls", "runs", "streams", "files"]
"""What a connection is used for: each kind has its own pool."""
_PATH = re.compile(r"/[!-~]*")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the API. `path` begins with a slash and is URL-encoded; None as `body` sends no body."""

    method: str
    path: str
    operation: Operation = Operation.READ
    body: Any = None


@dataclass(frozen=True)
class _Request:
    """A call or a stream as it is sent: to the API, or to a proxy in front of it."""

    method: str
    path: str
    url: str
    headers: dict[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that is being fetched; `chunks` ends with the file or raises."""

    size: int | None
    """Bytes, if the server says so."""
    content_type: str
    chunks: AsyncIterator[bytes] = field(repr=False)


class Transport:
    """Connections to inference.sh and to file hosts. Nothing is opened before the first call; `aclose` closes all.

    `sleep`, `random` and the monotonic `clock` can be replaced in tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        proxy_url: str | None = None,
        proxies: Mapping[str, str] | None = None,
        client: str = "inferencesh-mcp",
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = chance.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`client` is the user agent, `name/version`. SettingsError for a URL that may not be used.

        `proxy_url` receives all API requests; `proxies` are the variables HTTPS_PROXY and its like, for any address.
        """
        self.sleep, self.random, self.clock = sleep, random, clock
        self.polling = Polling()
        self.skew = timedelta()
        """How far the API's clock is ahead of this machine's, by the `Date` of its last answer (to a second)."""
        self._base = url_policy.base_url(base_url, "INFERENCE_BASE_URL")
        self._proxy = url_policy.base_url(proxy_url, "INFERENCE_PROXY_URL") if proxy_url else ""
        self._host = urlsplit(self._proxy or self._base).hostname or ""
        self._sandbox_port = url_policy.loopback_port(self._base)
        self._client = client
        self._proxies = Proxies(proxies or {})
        self._pools: Pools | None = None
        self._last_date: str = ""
        self._streams: anyio.Semaphore | None = None
        self._large: anyio.Semaphore | None = None
        self._attempts = Attempts(sleep, random, clock)
        self._warned: deque[str] = deque(maxlen=WARNINGS_LIMIT)

    @property
    def brings_key(self) -> bool:
        """Whether requests go to a proxy that adds a key of its own."""
        return bool(self._proxy)

    @property
    def failures(self) -> Mapping[str, int]:
        """Failed attempts by the code of their error."""
        return self._attempts.failures

    def now(self) -> datetime:
        """The time by the API's clock."""
        return datetime.now(UTC) + self.skew

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = self._pools, None
        if pools is not None:
            await pools.aclose()

    async def call(self, call: Call, key: Key | None) -> Unwrapped:
        """Send a request, retry it if that is safe, and parse the JSON answer.

        Raises the typed error of the last answer, TimedOut or Unavailable without an answer, UpstreamError for one that
        cannot be parsed. A START raises OutcomeUnknown instead if it may have taken effect.
        """
        content, sent_at = _encoded(call.body), self.now()

        async def send_once(seconds: float) -> Unwrapped | Refusal:
            nonlocal sent_at
            sent_at = self.now()
            return await self._attempt(call, self._request(call, content, key), seconds)

        try:
            answer = await self._attempts.run(call.operation, key, f"{call.method} {call.path}", send_once)
        except GivenUp as given_up:
            raise final_error(call.operation, given_up.refusal, sent_at) from given_up.__cause__
        for warning in answer.warnings if answer else ():
            if warning not in self._warned:
                self._warned.append(warning)
                logger.warning("inference.sh warns: %s", warning)
        return answer or Unwrapped(value=None)

    @asynccontextmanager
    async def stream(self, path: str, key: Key | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a stream, without retries, and yield its bytes as they arrive; raises what `call` raises."""
        request = self._stream_request(path, key)
        async with self._stream_opened(request) as response:
            if not 200 <= response.status < 300:
                raise problem(response.status, response.headers, await bodies.read_error_body(response))
            async with aclosing(bodies.body_chunks(response)) as chunks:
                yield chunks
                # The end follows the last line at once, and a connection that was read to its end can be reused.
                with suppress(InferenceError), anyio.move_on_after(END_SECONDS):
                    await anext(chunks, None)

    async def put(
        self, url: str, content: Callable[[], AsyncIterable[bytes]], *, size: int, content_type: str, key: Key | None
    ) -> None:
        """Send a file's bytes to its upload address. `key` is not sent: it selects the retry budget.

        `content` is called for each attempt. FileRefused if it is not `size` bytes or the address is not allowed.
        """
        headers = {"content-type": content_type, "content-length": str(size)}

        async def send_once(seconds: float) -> bool | Refusal:
            return await self._put(url, headers, bodies.UploadBody(content(), size), seconds)

        try:
            await self._attempts.run(Operation.PUT, key, "PUT of a file", send_once, seconds=UPLOAD_SECONDS)
        except GivenUp as given_up:
            raise given_up.refusal.error from given_up.__cause__

    @asynccontextmanager
    async def download(self, url: str, key: Key | None) -> AsyncGenerator[Download]:
        """Fetch a file, over a few redirects, at most 512 MiB in an hour. `key` is not sent. FileRefused for an address that may not be fetched."""
        until = self.clock() + DOWNLOAD_SECONDS
        async with AsyncExitStack() as stack:

            async def send_once(_: float) -> Response | Refusal:
                return await self._open_download(url, stack)

            try:
                response = await self._attempts.run(Operation.READ, key, "GET of a file", send_once)
            except GivenUp as given_up:
                raise given_up.refusal.error from given_up.__cause__
            assert response is not None  # noqa: S101 - only a STOP ends without an answer
            size = content_length(response.headers)
            if size is not None and size > DOWNLOAD_LIMIT:
                raise _too_large()
            chunks = await stack.enter_async_context(aclosing(self._bounded(bodies.body_chunks(response), until)))
            yield Download(size=size, content_type=response.headers.get("content-type", ""), chunks=chunks)

    async def _bounded(self, chunks: AsyncGenerator[bytes], until: float) -> AsyncGenerator[bytes]:
        size = 0
        async with aclosing(chunks):
            async for chunk in chunks:
                size += len(chunk)
                if size > DOWNLOAD_LIMIT:
                    raise _too_large()
                if self.clock() > until:
                    raise TimedOut(message=f"the file did not arrive within {DOWNLOAD_SECONDS / 60:.0f} minutes")
                yield chunk

    async def _attempt(self, call: Call, request: _Request, seconds: float) -> Unwrapped | Refusal:
        kind: Kind = "runs" if call.operation is Operation.START else "calls"
        await anyio.lowlevel.checkpoint_if_cancelled()
        # The answer to a START is always read: without it nobody knows which run to cancel (D-5). The pauses between
        # attempts are not shielded, so a cancelled call starts nothing later.
        try:
            async with AsyncExitStack() as slots:

                async def take_slot() -> None:
                    if call.operation is not Operation.START:  # a START's answer must not be lost while it waits
                        await slots.enter_async_context(self._large_answer_limit())

                with anyio.fail_after(seconds, shield=call.operation is Operation.START):
                    async with self._opened(kind, request) as response:
                        is_ok = 200 <= response.status < 300
                        body = (
                            await bodies.read_body(response, take_slot)
                            if is_ok
                            else await bodies.read_error_body(response)
                        )
                return read_answer(Answer(status=response.status, headers=response.headers, body=body))
        except UpstreamError as exc:
            return Refusal(failure=Failure(sent=True, status=exc.status), error=exc)
        except (TimeoutError, Lost) as exc:
            return no_answer_from(exc)

    async def _put(
        self, url: str, headers: Mapping[str, str], content: bodies.UploadBody, seconds: float
    ) -> bool | Refusal:
        try:
            with anyio.fail_after(seconds):
                async with self._file_opened("PUT", url, headers, content) as response:
                    await bodies.read_error_body(response)
        except (TimeoutError, Lost) as exc:
            return no_answer_from(exc)
        if not 200 <= response.status < 300:
            return read_refusal(_without_body(response))
        # A server that answers before it has read everything has stored half a file or none.
        return content.is_complete or no_answer(sent=True, in_time=True)

    async def _open_download(self, url: str, stack: AsyncExitStack) -> Response | Refusal:
        """The response, which `stack` will close; any other response is closed here.

        Redirects are followed; each address is checked like the first. No request carries our key (T-10).
        """
        for _ in range(REDIRECTS_LIMIT + 1):
            try:
                async with AsyncExitStack() as attempt:
                    with anyio.fail_after(OPEN_SECONDS):
                        response = await attempt.enter_async_context(self._file_opened("GET", url, {}))
                    if response.status == 200:
                        bodies.refuse_encoding(response)  # before the caller uses it
                        stack.push_async_exit(attempt.pop_all())
                        return response
                    await bodies.read_error_body(response)
            except (TimeoutError, Lost) as exc:
                return no_answer_from(exc)
            target = response.headers.get("location", "") if response.status in REDIRECT_STATUSES else ""
            if not target:
                return read_refusal(_without_body(response))
            url = url_policy.redirected(url, target)
        raise FileRefused(message=f"the file's address redirects more than {REDIRECTS_LIMIT} times")

    @asynccontextmanager
    async def _stream_opened(self, request: _Request) -> AsyncGenerator[Response]:
        """Like `_opened`, but with a time limit for a free stream slot and the status."""
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(OPEN_SECONDS):
                    await stack.enter_async_context(self._stream_limit())
                    response = await stack.enter_async_context(self._opened("streams", request))
            except (TimeoutError, Lost) as exc:
                raise no_answer_from(exc).error from exc
            yield response

    @asynccontextmanager
    async def _opened(self, kind: Kind, request: _Request) -> AsyncGenerator[Response]:
        """Send a request to the API. The response is closed when the block ends, also if that is cancelled."""
        with client_span(request.method, self._host, request.path) as span:
            headers, proxy = request.headers | trace_headers(span), self._proxies.for_url(request.url)
            try:
                response = await self._open_pools().open(
                    kind, request.method, request.url, headers, request.content, proxy=proxy
                )
            except ValueError as exc:
                raise SettingsError(message="INFERENCE_BASE_URL is not a valid address") from exc
            span.set_attribute("http.response.status_code", response.status)
        async with aclosing(response):
            self._note_date(response.headers.get("date", ""))
            yield response

    @asynccontextmanager
    async def _file_opened(
        self, method: str, url: str, headers: Mapping[str, str], content: AsyncIterable[bytes] | None = None
    ) -> AsyncGenerator[Response]:
        """Send a request to the address that was checked (I-16), without our key."""
        # A sandbox on this machine keeps its files at its own port; no other loopback address is allowed (T-8).
        is_sandbox = self._sandbox_port is not None and url_policy.loopback_port(url) == self._sandbox_port
        host, port = url_policy.file_host(url, loopback=is_sandbox)
        proxy = self._proxies.for_url(url)
        if proxy is None:
            addresses: list[str] = await self._checked_addresses(host, port, loopback=is_sandbox)
        else:
            # The proxy resolves the name, because this machine may not be able to; it gets the name that was checked.
            addresses = [url_policy.outside_name(host)]
        headers = {"user-agent": self._client, "accept": "*/*", "accept-encoding": "identity", **headers}
        with client_span(method, host, None) as span:
            response = await self._open_at(addresses, method, url, headers, content, proxy=proxy)
            span.set_attribute("http.response.status_code", response.status)
        async with aclosing(response):
            yield response

    async def _open_at(
        self,
        addresses: Sequence[str],
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: AsyncIterable[bytes] | None,
        *,
        proxy: Proxy | None,
    ) -> Response:
        """Send to the first of these addresses that accepts the connection."""
        for address in addresses:
            try:
                return await self._open_pools().open(
                    "files", method, url, headers, content, address=address, proxy=proxy
                )
            except ValueError as exc:
                raise FileRefused(message="the file's address is not a URL that can be fetched") from exc
            except Lost as exc:
                if exc.sent or address == addresses[-1]:
                    raise
                logger.info("an address of a file's host could not be reached; trying the next")
        raise AssertionError  # pragma: no cover - a resolved name has an address

    def _request(self, call: Call, content: bytes | None, key: Key | None) -> _Request:
        headers = self._headers(key, "application/json")
        if content is not None:
            headers["content-type"] = "application/json"
        url = self._url(call.path)
        if self._proxy:
            headers["x-inf-target-url"], url = url, self._proxy
        return _Request(call.method, call.path, url, headers, content)

    def _stream_request(self, path: str, key: Key | None) -> _Request:
        headers = self._headers(key, "application/x-ndjson")
        url = self._url(path)
        if self._proxy:
            headers["x-inf-target-url"] = url
            url = f"{self._proxy}?__inf_target={quote(url, safe='')}"
        return _Request("GET", path, url, headers)

    async def _checked_addresses(self, host: str, port: int, *, loopback: bool) -> list[str]:
        """The host's addresses in the system's order, at most `ADDRESSES_LIMIT`. FileRefused if any of them is not allowed."""
        try:
            with anyio.fail_after(RESOLVE_SECONDS):
                infos = await anyio.getaddrinfo(host, port)
        except (OSError, UnicodeError) as exc:
            raise FileRefused(message=f"the file's host {host!a} was not found") from exc
        names = list(dict.fromkeys(str(info[4][0]) for info in infos))
        if not all(url_policy.is_allowed(name, loopback=loopback) for name in names):
            raise FileRefused(message=f"the file's host {host!a} is not a public address")
        return names[:ADDRESSES_LIMIT]

    def _headers(self, key: Key | None, accept: str) -> dict[str, str]:
        headers = {
            "accept": accept,
            "accept-encoding": "identity",  # T-15
            "user-agent": self._client,
            "x-api-version": "2",
            "x-client-source": self._client,
        }
        return headers | {"authorization": key.authorization} if key else headers

    def _url(self, path: str) -> str:
        """The base URL and the path; InvalidInput if the path could leave the base (I-19)."""
        if not _PATH.fullmatch(path) or {"..", "."} & set(path.partition("?")[0].split("/")):
            raise InvalidInput(message="the request would have left the API's own address")
        return self._base + path

    def _open_pools(self) -> Pools:
        if self._pools is None:
            from inferencesh_mcp.api.http_client import Pools

            self._pools = Pools()
        return self._pools

    def _stream_limit(self) -> anyio.Semaphore:
        self._streams = self._streams or anyio.Semaphore(STREAMS_LIMIT)
        return self._streams

    def _large_answer_limit(self) -> anyio.Semaphore:
        self._large = self._large or anyio.Semaphore(LARGE_ANSWERS_LIMIT)
        return self._large

    def _note_date(self, header: str) -> None:
        if header == self._last_date:
            return  # the first answer within a second is the most exact
        skew = clock_skew({"date": header}, datetime.now(UTC))
        self.skew = self.skew if skew is None else skew
        self._last_date = header


def _too_large() -> FileRefused:
    return FileRefused(message=f"the file is larger than {DOWNLOAD_LIMIT // 1024 // 1024} MiB")


def _without_body(response: Response) -> Answer:
    """A file host's answer without its body: storage services quote what was signed, and with which key."""
    return Answer(status=response.status, headers=response.headers, body=b"")


def _encoded(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        return encoded(body, depth=BODY_DEPTH_LIMIT)
    except NotReadableBack as exc:
        raise InvalidInput(message=f"the request {exc}") from exc
