"""HTTP. This is the only module that uses the HTTP library: httpx2, which `mcp` uses too.

Only the library's transports are used, not its client, because a transport only opens connections and speaks HTTP. So there
are no cookies that could mix up callers, no redirects, no `.netrc`, no decoding of bodies (T-15), no retries and no log lines
with addresses. Of the environment only the location of certificates is read.
"""

from __future__ import annotations

import re
import ssl
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import anyio
import httpx2

from inferencesh_mcp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Mapping

    from inferencesh_mcp.api.proxies import Proxy

Kind = Literal["calls", "runs", "streams", "files"]
"""What a connection is used for: each kind has its own pool."""
CLOSE_SECONDS = 2.0
CONNECT_SECONDS = 10.0
"""Time to connect, including the name lookup."""
POOL_SECONDS = 20.0
"""Wait for a free connection in the pool for files."""
READ_SECONDS = 30.0
"""Wait for the next bytes of an answer. Streams have no such limit."""
WRITE_SECONDS = 30.0
"""Wait until the server accepts the next bytes of a file."""
_PLAIN_URL = re.compile(r"(?P<origin>[A-Za-z]+://[^/?#\\]+)(?P<path>[!\"$-~]*)(?:#[!-~]*)?")
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
"""Errors before the first byte of a request is sent."""
_IDLE = 20
"""Idle connections that are kept: each request checks all of them, and more would stay open unused."""
_IDLE_SECONDS = 90.0
"""How long they are kept: longer than a person pauses, since a new one takes three round trips instead of one. If the server
closes one earlier, that is noticed before the next request."""
_LIMITS: dict[Kind, httpx2.Limits] = {
    # No limit on connections: a caller whose calls hang must not block another caller (T-22).
    "calls": httpx2.Limits(max_keepalive_connections=_IDLE, keepalive_expiry=_IDLE_SECONDS),
    # What is never sent again does not reuse a connection. The server may have closed an idle one, so a start sent on it would
    # be lost. Or an idle one may hold an unrequested response (response smuggling), which would be taken for the start's answer.
    "runs": httpx2.Limits(max_keepalive_connections=0),
    "streams": httpx2.Limits(max_keepalive_connections=_IDLE, keepalive_expiry=_IDLE_SECONDS),
    # Connections are to addresses, not names: one that was opened for one name must never serve another.
    "files": httpx2.Limits(max_connections=100, max_keepalive_connections=0),
}
_OUT_OF_DATE = {
    10: "has expired",
    9: "is not valid yet",
    0x800B0101: "is not valid now",
    -67818: "has expired",
    -67819: "is not valid yet",
}
_OTHER_NAME = {62, 64, 0x800B010F, -67602}
"""Verification results that more trusted certificates would not fix: of OpenSSL, Windows and macOS."""


class Lost(Exception):
    """No complete answer arrived."""

    def __init__(self, *, sent: bool, in_time: bool, reason: str = "", next_step: str = "") -> None:
        """`sent`: a byte of the request may have left this process. `in_time`: it failed before the time limit.

        `reason`, `next_step`: why the request was never sent and what to do, if known: a certificate or a proxy.
        """
        super().__init__()
        self.sent, self.in_time = sent, in_time
        self.reason, self.next_step = reason, next_step


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it is sent: to the API, to a proxy in front of it, or to a file's host."""

    kind: Kind
    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)
    proxy: Proxy | None = None
    address: str | None = None
    """Replaces the host to connect to: an IP address, or the name for a proxy."""


class Response:
    """An answer whose body has not been read yet; the caller must close it."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        """Names are matched without regard to case."""

    @property
    def is_ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    async def aclose(self) -> None:
        """Release the connection, also when cancelled: it is reused after a complete body, else closed."""
        await self._response.aclose()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it arrives. Raises Lost if it ends too early or nothing arrives for too long."""
        try:
            async with aclosing(self._response.aiter_raw()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (httpx2.TransportError, httpx2.StreamError, ssl.SSLError) as exc:  # StreamError: it was closed before
            raise Lost(sent=True, in_time=not isinstance(exc, httpx2.TimeoutException)) from exc


class Pools:
    """All connections. Nothing is opened before the first request; `aclose` closes all."""

    def __init__(self) -> None:
        self._transports: dict[tuple[Kind, str, Proxy | None], httpx2.AsyncHTTPTransport] = {}

    async def aclose(self) -> None:
        """Close every connection, also during cancellation."""
        transports, self._transports = self._transports, {}
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for transport in transports.values():
                await transport.aclose()

    async def open(self, request: Request) -> Response:
        """Send a request, and return the answer as soon as its status arrives.

        Raises Lost without an answer, ValueError for an invalid URL, SettingsError if the trusted certificates cannot be read.
        """
        headers, extensions = dict(request.headers), dict[str, Any](timeout=_timeouts(request.kind))
        try:
            if plain := _PLAIN_URL.fullmatch(request.url):
                # The path is sent unchanged, because a signature may cover it.
                target, path = _origin(plain["origin"]), plain["path"]
                extensions["target"] = (path if path.startswith("/") else f"/{path}").encode("ascii")
            else:
                target = httpx2.URL(request.url)  # encodes characters that are not allowed in a request
            host = target.raw_host.decode("ascii")
            if request.address is not None:
                headers.setdefault("host", target.netloc.decode("ascii"))
                extensions["sni_hostname"] = host
                target = target.copy_with(host=request.address)
        except httpx2.InvalidURL as exc:
            raise ValueError(str(exc)) from exc
        if _LIMITS[request.kind].max_keepalive_connections == 0:
            headers["connection"] = "close"
        sent = httpx2.Request(request.method, target, headers=headers, content=request.content, extensions=extensions)
        try:
            return Response(
                await self._transport(request.kind, target.scheme, request.proxy).handle_async_request(sent)
            )
        except (httpx2.TransportError, ssl.SSLError) as exc:
            raise _lost(exc, host, request.proxy) from exc

    def _transport(self, kind: Kind, scheme: str, proxy: Proxy | None) -> httpx2.AsyncHTTPTransport:
        key = (kind, scheme, proxy)
        if key not in self._transports:
            # For http:// no certificates are read from disk.
            trusted = _trusted() if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._transports[key] = httpx2.AsyncHTTPTransport(
                verify=trusted, http2=False, limits=_LIMITS[kind], proxy=_httpx_proxy(proxy) if proxy else None
            )
        return self._transports[key]


@lru_cache(maxsize=64)
def _origin(url: str) -> httpx2.URL:
    """Cached: a transport uses one API and few file hosts."""
    return httpx2.URL(url)


@cache
def _trusted() -> ssl.SSLContext:
    """The trusted certificates, read once because that takes longer than a call. SSL_CERT_FILE and SSL_CERT_DIR apply."""
    try:
        return httpx2.create_ssl_context()
    except OSError as exc:  # ssl.SSLError is one
        raise SettingsError(
            message="the certificates to trust cannot be read",
            next_step="Fix SSL_CERT_FILE or SSL_CERT_DIR, or unset it.",
        ) from exc


def _httpx_proxy(proxy: Proxy) -> httpx2.Proxy:
    return httpx2.Proxy(proxy.url, ssl_context=_trusted() if proxy.url.startswith("https:") else None)


def _timeouts(kind: Kind) -> dict[str, float | None]:
    read = None if kind == "streams" else READ_SECONDS
    return {"connect": CONNECT_SECONDS, "pool": POOL_SECONDS, "write": WRITE_SECONDS, "read": read}


def _lost(exc: Exception, host: str, proxy: Proxy | None) -> Lost:
    in_time = not isinstance(exc, httpx2.TimeoutException)
    if not isinstance(exc, _NEVER_SENT):
        return Lost(sent=True, in_time=in_time)
    reason, next_step = "", ""
    if (certificate_error := _certificate_error(exc)) is not None:
        reason, next_step = _certificate_problem(certificate_error, host)
    elif isinstance(exc, httpx2.ProxyError) and proxy is not None:
        status = str(exc)[:3]  # the rest is the proxy's own text
        reason = f"the proxy {proxy.address} refused to connect to {host}: {status}"
        next_step = (
            f"Put a user and a password into {proxy.variable}."
            if status == "407"
            else f"Check {proxy.variable}, or add {host} to NO_PROXY."
        )
    elif proxy is not None:
        reason = f"{host} could not be reached through the proxy {proxy.address}"
        next_step = f"Check the network and {proxy.variable}, then call again."
    return Lost(sent=False, in_time=in_time, reason=reason, next_step=next_step)


def _certificate_error(exc: BaseException) -> ssl.SSLCertVerificationError | None:
    inner: BaseException | None = exc
    while inner is not None and not isinstance(inner, ssl.SSLCertVerificationError):
        inner = inner.__cause__ or inner.__context__
    return inner


def _certificate_problem(exc: ssl.SSLCertVerificationError, host: str) -> tuple[str, str]:
    """What is wrong with a certificate, and what to do about it."""
    code = getattr(exc, "verify_code", 0)  # the system's own verification may fail without one
    if when := _OUT_OF_DATE.get(code):
        return (
            f"the certificate of {host} {when}",
            "Check this machine's clock. If it is right, the server is at fault.",
        )
    if code in _OTHER_NAME:
        return f"the certificate of {host} is for another name", "Check the address, and any proxy on the way."
    return (
        f"the certificate of {host} is not trusted: set SSL_CERT_FILE",
        "Let it name a file with your network's certificates, then restart.",
    )
