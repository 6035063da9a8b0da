"""Moves the bytes of files between this machine and file hosts, without our key, at addresses that were checked."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.api import url_policy
from inferencesh_mcp.api.headers import content_length
from inferencesh_mcp.api.http_client import Lost, Request
from inferencesh_mcp.api.responses import body_chunks, no_answer, read_error_body, refusal, refuse_encoding
from inferencesh_mcp.api.retry import Failure, Operation
from inferencesh_mcp.api.spans import client_span
from inferencesh_mcp.errors import FileRefused, TimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence

    from inferencesh_mcp.api.http_client import Pools, Response
    from inferencesh_mcp.api.proxies import Proxies
    from inferencesh_mcp.api.retry import Retrier

OPEN_SECONDS = 30.0
"""Wait for the status of a download."""
MAX_DOWNLOAD_BYTES = 512 * 1024 * 1024
DOWNLOAD_SECONDS = 3600.0
"""One download, however slowly its bytes arrive (T-16)."""
UPLOAD_SECONDS = 3600.0
"""One upload with all its retries: a large file takes minutes and may break off in the last one."""
MAX_REDIRECTS = 5
"""Redirects of one download: a short link, a host's own name and its storage take three."""
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
MAX_ADDRESSES = 4
"""Addresses of a file's host that are tried: each dead one takes up to the connect limit."""
RESOLVE_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that is being fetched; `chunks` ends with the file or raises."""

    size: int | None
    """Bytes, if the server says so."""
    content_type: str
    chunks: AsyncIterator[bytes] = field(repr=False)


class FileTransport:
    """Sends files to their upload addresses, and fetches files."""

    def __init__(
        self,
        pools: Pools,
        proxies: Proxies,
        retrier: Retrier,
        *,
        clock: Callable[[], float],
        client: str,
        sandbox_port: int | None,
    ) -> None:
        """`client` is the user agent. `sandbox_port`: a sandbox on this machine keeps its files there."""
        self._pools, self._proxies, self._retrier, self._clock = pools, proxies, retrier, clock
        self._headers = {"user-agent": client, "accept": "*/*", "accept-encoding": "identity"}
        self._sandbox_port = sandbox_port

    async def put(
        self, url: str, content: Callable[[], AsyncGenerator[bytes]], *, size: int, content_type: str, account: str
    ) -> None:
        """Send a file's bytes to its upload address. `account` selects the retry budget.

        `content` is called for each attempt. FileRefused if it is not `size` bytes or the address is not allowed.
        """
        headers = {"content-type": content_type, "content-length": str(size)}

        async def send_once(seconds: float) -> bool | Failure:
            async with aclosing(content()) as chunks:  # at once: it may hold a file, or a download, open
                return await self._put(url, headers, _UploadBody(chunks, size), seconds)

        result = await self._retrier.run(Operation.PUT, account, "PUT of a file", send_once, seconds=UPLOAD_SECONDS)
        if isinstance(result, Failure):
            raise result.error

    @asynccontextmanager
    async def download(self, url: str, account: str) -> AsyncGenerator[Download]:
        """Fetch a file, over a few redirects, at most 512 MiB in an hour. `account` selects the retry budget.

        FileRefused for an address that may not be fetched, or a file that is too large.
        """
        end = self._clock() + DOWNLOAD_SECONDS
        async with AsyncExitStack() as stack:

            async def send_once(_: float) -> Response | Failure:
                return await self._open_download(url, stack)

            response = await self._retrier.run(Operation.READ, account, "GET of a file", send_once)
            if isinstance(response, Failure):
                raise response.error
            size = content_length(response.headers)
            if size is not None and size > MAX_DOWNLOAD_BYTES:
                raise _too_large()
            chunks = await stack.enter_async_context(aclosing(self._bounded(body_chunks(response), end)))
            yield Download(size=size, content_type=response.headers.get("content-type", ""), chunks=chunks)

    async def _bounded(self, chunks: AsyncGenerator[bytes], end: float) -> AsyncGenerator[bytes]:
        size = 0
        async with aclosing(chunks):
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_DOWNLOAD_BYTES:
                    raise _too_large()
                if self._clock() > end:
                    raise TimedOut(message=f"the file did not arrive within {DOWNLOAD_SECONDS / 60:.0f} minutes")
                yield chunk

    async def _put(self, url: str, headers: Mapping[str, str], content: _UploadBody, seconds: float) -> bool | Failure:
        try:
            with anyio.fail_after(seconds):
                async with self._opened("PUT", url, headers, content) as response:
                    await read_error_body(response)
        except (TimeoutError, Lost) as exc:
            return no_answer(exc)
        if not response.is_ok:
            return _refusal(response)
        # A server that answers before it has read everything has stored half a file or none.
        return content.is_complete or no_answer(Lost(sent=True, in_time=True))

    async def _open_download(self, url: str, stack: AsyncExitStack) -> Response | Failure:
        """The response, which `stack` will close; any other response is closed here.

        Redirects are followed; each address is checked like the first. No request carries our key (T-10).
        """
        for _ in range(MAX_REDIRECTS + 1):
            try:
                async with AsyncExitStack() as attempt:
                    with anyio.fail_after(OPEN_SECONDS):
                        response = await attempt.enter_async_context(self._opened("GET", url, {}))
                    if response.status == 200:
                        refuse_encoding(response)  # before the caller uses it
                        stack.push_async_exit(attempt.pop_all())
                        return response
                    await read_error_body(response)
            except (TimeoutError, Lost) as exc:
                return no_answer(exc)
            target = response.headers.get("location", "") if response.status in REDIRECT_STATUSES else ""
            if not target:
                return _refusal(response)
            url = url_policy.redirected(url, target)
        raise FileRefused(message=f"the file's address redirects more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _opened(
        self, method: str, url: str, headers: Mapping[str, str], content: AsyncIterable[bytes] | None = None
    ) -> AsyncGenerator[Response]:
        """Send a request to the address that was checked (I-16). The response is closed when the block ends."""
        # Files of a sandbox on this machine are at its own port; no other loopback address is allowed (T-8).
        is_sandbox = self._sandbox_port is not None and url_policy.loopback_port(url) == self._sandbox_port
        host, port = url_policy.file_host(url, loopback=is_sandbox)
        proxy = self._proxies.for_url(url)
        if proxy is None:
            addresses: list[str] = await _checked_addresses(host, port, loopback=is_sandbox)
        else:
            # The proxy resolves the name, because this machine may not be able to; it gets the name that was checked.
            addresses = [url_policy.outside_name(host)]
        request = Request(
            kind="files", method=method, url=url, headers={**self._headers, **headers}, content=content, proxy=proxy
        )
        with client_span(method, host, None) as span:
            response = await self._open_at(addresses, request)
            span.set_attribute("http.response.status_code", response.status)
        async with aclosing(response):
            yield response

    async def _open_at(self, addresses: Sequence[str], request: Request) -> Response:
        """Send to the first of these addresses that accepts the connection."""
        for address in addresses:
            try:
                return await self._pools.open(replace(request, address=address))
            except ValueError as exc:
                raise FileRefused(message="the file's address is not a URL that can be fetched") from exc
            except Lost as exc:
                if exc.sent or address == addresses[-1]:
                    raise
                logger.info("an address of a file's host could not be reached; trying the next")
        raise AssertionError  # pragma: no cover - a resolved name has an address


class _UploadBody:
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


async def _checked_addresses(host: str, port: int, *, loopback: bool) -> list[str]:
    """The host's addresses in the system's order, at most `MAX_ADDRESSES`. FileRefused if any of them is not allowed."""
    try:
        with anyio.fail_after(RESOLVE_SECONDS):
            infos = await anyio.getaddrinfo(host, port)
    except (OSError, UnicodeError) as exc:
        raise FileRefused(message=f"the file's host {host!a} was not found") from exc
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    if not all(url_policy.is_allowed(address, loopback=loopback) for address in addresses):
        raise FileRefused(message=f"the file's host {host!a} is not a public address")
    return addresses[:MAX_ADDRESSES]


def _refusal(response: Response) -> Failure:
    """A file host's refusal without its body: storage services quote what was signed, and with which key."""
    return refusal(response, b"")


def _changed() -> FileRefused:
    return FileRefused(message="the file changed while it was being sent", next_step="Call again when it is complete.")


def _too_large() -> FileRefused:
    return FileRefused(message=f"the file is larger than {MAX_DOWNLOAD_BYTES // 1024 // 1024} MiB")
