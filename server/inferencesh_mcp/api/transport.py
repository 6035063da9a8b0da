"""inference.sh over HTTP: what is sent, how often, and what its answers come to. It holds no key: a key is an argument of each call."""

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
from inferencesh_mcp.api.responses import Answer, Lost, Refusal, final, judged, lost, refused, unanswered
from inferencesh_mcp.api.retry import Failure, Operation
from inferencesh_mcp.api.spans import part_of, traced
from inferencesh_mcp.errors import FileRefused, InferenceError, InvalidInput, SettingsError, TimedOut, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from inferencesh_mcp.api.http_client import Pools, Response
    from inferencesh_mcp.api.keys import Key
    from inferencesh_mcp.api.proxies import Proxy

WARNED = 100  # of the API's warnings are remembered, so that none is said with every call
OPEN_SECONDS = 30.0
"""Until a stream or a download has been answered with a status."""
DOWNLOAD_LIMIT = 512 * 1024 * 1024
MOST_REDIRECTS = 5  # of one download: a short link, a host's own name and its storage take three
REDIRECTS = frozenset({301, 302, 303, 307, 308})
UPLOAD_SECONDS = 3600.0
"""One upload in all: a large file needs its minutes, and may break off in the last of them."""
DOWNLOAD_SECONDS = 3600.0
"""One download in all, however slowly its bytes drip (T-16)."""
ADDRESSES_LIMIT = 4
"""Of a file's host are tried: each dead one may take as long as a connection may."""
STREAMS_LIMIT = 1000
"""Streams open at a time; more wait."""
LARGE_ANSWERS = 4
"""Of more than 1 MiB each that are read and parsed at a time; more wait."""
RESOLVE_SECONDS = 10.0
END_SECONDS = 0.05
"""Wait for a stream's end when its last line was read."""

logger = logging.getLogger(__name__)

Kind = Literal["calls", "runs", "streams", "files"]
"""What a connection is for: each kind has its own."""
_PATH = re.compile(r"/[!-~]*")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the API. `path` begins with a slash and is encoded; without a `body` none is sent."""

    method: str
    path: str
    operation: Operation = Operation.READ
    body: Any = None


@dataclass(frozen=True)
class _Request:
    """A `Call`, or a stream, as it goes out: to the API, or to a proxy before it."""

    method: str
    path: str
    url: str
    headers: dict[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that is being fetched; `chunks` ends with the file, or fails."""

    size: int | None
    """Bytes, where the other side tells."""
    content_type: str
    chunks: AsyncIterator[bytes] = field(repr=False)


class Transport:
    """The pool. Nothing is opened before the first call; `aclose` closes all.

    `sleep`, `random` and `clock` (monotonic) are time and chance; tests turn them.
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
        """`client` is `name/version`, as the API is told it. SettingsError for a URL that may not be used.

        `proxy_url` stands in for the API; `proxies` are the variables HTTPS_PROXY and its like, for the way to any address.
        """
        self.sleep, self.random, self.clock = sleep, random, clock
        self.polling = Polling()
        self.skew = timedelta()
        """How far the API's clock is ahead of this machine's, by the `Date` of its last answer (to a second)."""
        self._base = url_policy.base_url(base_url, "INFERENCE_BASE_URL")
        self._proxy = url_policy.base_url(proxy_url, "INFERENCE_PROXY_URL") if proxy_url else ""
        self._host = urlsplit(self._proxy or self._base).hostname or ""
        self._home = url_policy.loopback_port(self._base)
        self._client = client
        self._proxies = Proxies(proxies or {})
        self._pools: Pools | None = None
        self._dated: str = ""
        self._streams: anyio.Semaphore | None = None
        self._large: anyio.Semaphore | None = None
        self._attempts = Attempts(sleep, random, clock)
        self._warned: deque[str] = deque(maxlen=WARNED)

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
        pools, self._pools = self._pools, None
        if pools is not None:
            await pools.aclose()

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
        for warning in found.warnings if found else ():
            if warning not in self._warned:
                self._warned.append(warning)
                logger.warning("inference.sh warns: %s", warning)
        return found or Unwrapped(value=None)

    @asynccontextmanager
    async def stream(self, path: str, key: Key | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a stream of lines, once, and give its bytes as they come; opening and reading raise what `call` does."""
        request = self._stream_request(path, key)
        async with self._stream_opened(request) as response:
            if not 200 <= response.status < 300:
                raise problem(response.status, response.headers, await bodies.read_error_body(response))
            async with aclosing(bodies.body_chunks(response)) as chunks:
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
            return await self._put(url, headers, bodies.UploadBody(content(), size), seconds)

        try:
            await self._attempts.persist(Operation.PUT, key, "PUT of a file", once, seconds=UPLOAD_SECONDS)
        except GivenUp as given_up:
            raise given_up.refusal.error from given_up.__cause__

    @asynccontextmanager
    async def download(self, url: str, key: Key | None) -> AsyncGenerator[Download]:
        """Fetch a file, over a few redirects, at most 512 MiB in an hour. `key` is not sent. FileRefused for an address that may not be fetched."""
        until = self.clock() + DOWNLOAD_SECONDS
        async with AsyncExitStack() as stack:

            async def once(_: float) -> Response | Refusal:
                return await self._open_download(url, stack)

            try:
                response = await self._attempts.persist(Operation.READ, key, "GET of a file", once)
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
        # The answer to a START is always read: cancelled in between, nobody would know what to cancel (D-5). The pauses
        # between attempts are not shielded, so that a call which was cancelled starts nothing later.
        try:
            async with AsyncExitStack() as places:

                async def place() -> None:
                    if call.operation is not Operation.START:  # whose answer must not be lost while it waits
                        await places.enter_async_context(self._large_answers())

                with anyio.fail_after(seconds, shield=call.operation is Operation.START):
                    async with self._opened(kind, request) as response:
                        well = 200 <= response.status < 300
                        body = (
                            await bodies.read_body(response, place) if well else await bodies.read_error_body(response)
                        )
                return judged(Answer(status=response.status, headers=response.headers, body=body))
        except UpstreamError as exc:
            return Refusal(failure=Failure(sent=True, status=exc.status), error=exc)
        except (TimeoutError, Lost) as exc:
            return unanswered(exc)

    async def _put(
        self, url: str, headers: Mapping[str, str], content: bodies.UploadBody, seconds: float
    ) -> bool | Refusal:
        try:
            with anyio.fail_after(seconds):
                async with self._file_opened("PUT", url, headers, content) as response:
                    await bodies.read_error_body(response)
        except (TimeoutError, Lost) as exc:
            return unanswered(exc)
        if not 200 <= response.status < 300:
            return refused(_without_body(response))
        # A server that answers before it has read all of it has stored half a file, or none.
        return content.is_complete or lost(sent=True, in_time=True)

    async def _open_download(self, url: str, stack: AsyncExitStack) -> Response | Refusal:
        """The response, which `stack` will close; one that is of no use is closed here.

        Redirects are followed, each address held to the same rules as the first. Nothing of ours is in any request (T-10).
        """
        for _ in range(MOST_REDIRECTS + 1):
            try:
                async with AsyncExitStack() as attempt:
                    with anyio.fail_after(OPEN_SECONDS):
                        response = await attempt.enter_async_context(self._file_opened("GET", url, {}))
                    if response.status == 200:
                        bodies.refuse_encoding(response)  # before anything is begun with what it may hold
                        stack.push_async_exit(attempt.pop_all())
                        return response
                    await bodies.read_error_body(response)
            except (TimeoutError, Lost) as exc:
                return unanswered(exc)
            target = response.headers.get("location", "") if response.status in REDIRECTS else ""
            if not target:
                return refused(_without_body(response))
            url = url_policy.redirected(url, target)
        raise FileRefused(message=f"the file's address redirects more than {MOST_REDIRECTS} times")

    @asynccontextmanager
    async def _stream_opened(self, request: _Request) -> AsyncGenerator[Response]:
        """As `_opened`, with a limit on the wait for a place among the streams and for the status."""
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(OPEN_SECONDS):
                    await stack.enter_async_context(self._stream_slots())
                    response = await stack.enter_async_context(self._opened("streams", request))
            except (TimeoutError, Lost) as exc:
                raise unanswered(exc).error from exc
            yield response

    @asynccontextmanager
    async def _opened(self, kind: Kind, request: _Request) -> AsyncGenerator[Response]:
        """Send a request to the API; its response is closed with the block, there and then, also when that is cancelled."""
        with traced(request.method, self._host, request.path) as span:
            headers, proxy = request.headers | part_of(span), self._proxies.for_url(request.url)
            try:
                response = await self._http().open(
                    kind, request.method, request.url, headers, request.content, proxy=proxy
                )
            except ValueError as exc:
                raise SettingsError(message="INFERENCE_BASE_URL is not an address that can be asked") from exc
            span.set_attribute("http.response.status_code", response.status)
        async with aclosing(response):
            self._note_date(response.headers.get("date", ""))
            yield response

    @asynccontextmanager
    async def _file_opened(
        self, method: str, url: str, headers: Mapping[str, str], content: AsyncIterable[bytes] | None = None
    ) -> AsyncGenerator[Response]:
        """Send a request to the very address that was checked (I-16), with nothing of ours in it."""
        # A sandbox keeps its files on this machine: at its own port, and nothing else here is anybody's file (T-8).
        at_home = self._home is not None and url_policy.loopback_port(url) == self._home
        host, port = url_policy.file_host(url, loopback=at_home)
        proxy = self._proxies.for_url(url)
        if proxy is None:
            checked: list[str] = await self._checked_addresses(host, port, loopback=at_home)
        else:
            # The proxy looks the name up, since this machine may not be able to: it is told the very name that was checked.
            checked = [url_policy.outside_name(host)]
        sent = {"user-agent": self._client, "accept": "*/*", "accept-encoding": "identity", **headers}
        with traced(method, host, None) as span:
            response = await self._open_at(checked, method, url, sent, content, proxy=proxy)
            span.set_attribute("http.response.status_code", response.status)
        async with aclosing(response):
            yield response

    async def _open_at(
        self,
        checked: Sequence[str],
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: AsyncIterable[bytes] | None,
        *,
        proxy: Proxy | None,
    ) -> Response:
        """Send to the first of these addresses that takes the connection: one that is dead is not the host's only one."""
        for address in checked:
            try:
                return await self._http().open("files", method, url, headers, content, address=address, proxy=proxy)
            except ValueError as exc:
                raise FileRefused(message="the file's address is not a URL that can be fetched") from exc
            except Lost as exc:
                if exc.sent or address == checked[-1]:
                    raise
                logger.info("an address of a file's host could not be reached; trying the next")
        raise AssertionError  # pragma: no cover - a name that was found has an address

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
        """All that the host's name stands for, in the system's order, at most `ADDRESSES_LIMIT`; refused where one may not be."""
        try:
            with anyio.fail_after(RESOLVE_SECONDS):
                found = await anyio.getaddrinfo(host, port)
        except (OSError, UnicodeError) as exc:
            raise FileRefused(message=f"the file's host {host!a} was not found") from exc
        names = list(dict.fromkeys(str(address[4][0]) for address in found))
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
        """The base URL and the path; InvalidInput should the two together ever leave the base (I-19)."""
        if not _PATH.fullmatch(path) or {"..", "."} & set(path.partition("?")[0].split("/")):
            raise InvalidInput(message="the request would have left the API's own address")
        return self._base + path

    def _http(self) -> Pools:
        if self._pools is None:
            from inferencesh_mcp.api.http_client import Pools

            self._pools = Pools()
        return self._pools

    def _stream_slots(self) -> anyio.Semaphore:
        self._streams = self._streams or anyio.Semaphore(STREAMS_LIMIT)
        return self._streams

    def _large_answers(self) -> anyio.Semaphore:
        self._large = self._large or anyio.Semaphore(LARGE_ANSWERS)
        return self._large

    def _note_date(self, header: str) -> None:
        if header == self._dated:
            return  # the first answer of a second tells it best
        skew = clock_skew({"date": header}, datetime.now(UTC))
        self.skew = self.skew if skew is None else skew
        self._dated = header


def _too_large() -> FileRefused:
    return FileRefused(message=f"the file is larger than {DOWNLOAD_LIMIT // 1024 // 1024} MiB")


def _without_body(response: Response) -> Answer:
    """What a file's host answered. Its words are not the API's: storage quotes what was signed, and with which key."""
    return Answer(status=response.status, headers=response.headers, body=b"")


def _encoded(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        return encoded(body, depth=BODY_DEPTH_LIMIT)
    except NotReadableBack as exc:
        raise InvalidInput(message=f"what would be sent {exc}") from exc
