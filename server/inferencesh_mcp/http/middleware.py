"""What happens to an HTTP request before MCP sees it: host and origin, routes, authentication, limits, its body.

`slow_clients` closes connections before that: too many of one address, or too slow.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opentelemetry.context import attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware

from inferencesh_mcp.api.json import MAX_IN_A_MESSAGE, too_many_values
from inferencesh_mcp.context import VISITOR
from inferencesh_mcp.http.refusal import Page, Refused
from inferencesh_mcp.loopback import is_loopback_host

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from inferencesh_mcp.flows.run_limits import Drain
    from inferencesh_mcp.http.auth import Authenticator

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")

# Headers that a web page may read. There are no cookies.
_EXPOSED_HEADERS = ("mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after")
_PREFLIGHT_MAX_AGE = 3600


class HostOriginMiddleware:
    """Lets a request through if its Host is this server's and its Origin, if any, is allowed (T-7).

    Otherwise a web page could point its own name at this machine and use the server (DNS rebinding)."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts, self._origins = frozenset(hosts), frozenset(origins)
        # `_refusal` has checked the origin already. Any header is allowed, because MCP adds headers.
        self._app = CORSMiddleware(
            app,
            allow_origin_regex=".*",
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=_EXPOSED_HEADERS,
            max_age=_PREFLIGHT_MAX_AGE,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Headers(scope=scope))):
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> Refused | None:
        if not self._is_allowed_host(headers.getlist("host")):
            message = "This host name is not allowed. Add it to INFERENCE_ALLOWED_HOSTS."
            return Refused(status=421, code="forbidden", message=message)
        if any(not self._is_allowed_origin(origin, headers["host"]) for origin in headers.getlist("origin")):
            message = "This origin is not allowed. Add it to INFERENCE_ALLOWED_ORIGINS."
            return Refused(status=403, code="forbidden", message=message)
        return None

    def _is_allowed_origin(self, origin: str, host: str) -> bool:
        """An origin that is named, or a page of this machine that addresses the server as this machine."""
        scheme, _, page = origin.partition("://")
        is_local = scheme == "http" and _is_loopback(page) and _is_loopback(host)
        return is_local or origin in self._origins

    def _is_allowed_host(self, hosts: Sequence[str]) -> bool:
        """Whether it is this machine or an allowed name; with any port, unless the allowed name has one."""
        match = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        return match is not None and (is_loopback_host(match[1]) or not self._hosts.isdisjoint((match[0], match[1])))


def _is_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host.lower())
    return match is not None and is_loopback_host(match[1])


class TraceContextMiddleware:
    """Makes the spans of a request part of the trace in its `traceparent` header.

    `mcp` reads the one in a message's `_meta`, which takes precedence.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = attach(self._propagator.extract(Headers(scope=scope)))
        try:
            await self._app(scope, receive, send)
        finally:
            detach(token)


# Paths where hosts look for a sign-in (RFC 8414, RFC 9728, OpenID Connect).
_SIGN_IN = ("/.well-known/oauth-", "/.well-known/openid-", "/authorize", "/register", "/token")
_ACCEPT = "application/json, text/event-stream"
_CLOSE = {"Connection": "close"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Router:
    """Routes requests: MCP after authentication and limits, and pages that can only be read."""

    mcp: ASGIApp
    path: str
    """Of MCP."""
    pages: Mapping[str, Page]
    authenticator: Authenticator
    drain: Drain
    requests: UsageLimit
    body_bytes: UsageLimit
    max_body_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.mcp(scope, receive, send)  # lifespan events; there are no websockets
        elif scope["path"] in {self.path, f"{self.path}/"}:
            raw_path = self.path.encode()
            await self._serve_mcp({**scope, "path": self.path, "raw_path": raw_path}, receive, send)
        else:
            await self._page(scope)(scope, receive, send)

    async def _serve_mcp(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            _refuse_two_lengths(headers)
            visitor = await self.authenticator.admit(headers)
            self._check(scope)
            scope = {**scope, "headers": _with_accept(headers)}
            address = _address(scope)
            if not self.authenticator.identifies_callers:
                visitor = replace(visitor, address=address)
            source = visitor.principal if self.authenticator.identifies_callers else address
            with (
                self.requests.open_request(visitor.principal) as add_requests,
                self.body_bytes.open_request(source) as add_bytes,
            ):
                add_requests(1)
                body = await _read_body(receive, self.max_body_bytes, add_bytes)
                if body is not None:
                    await self.mcp({**scope, VISITOR: visitor}, _replay(body, receive), send)
        except Refused as refused:
            logger.info("refused %s from %s: %s", scope["method"], _address(scope), refused.code)
            await refused.response()(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        # There are no sessions, so a GET would stay open and receive nothing.
        if scope["method"] != "POST":
            message = "Only POST is allowed here."
            raise Refused(status=405, code="invalid_call", message=message, headers={"Allow": "POST"})
        if self.drain.refuses_calls:
            message = "This server is stopping. Nothing was started. Send the request again."
            raise Refused(status=503, code="stopping", message=message, retry_after=1, headers=_CLOSE)

    def _page(self, scope: Scope) -> Response:
        headers = Headers(scope=scope)
        try:
            _refuse_two_lengths(headers)
            return self._page_at(scope)(headers)
        except Refused as refused:
            return refused.page()

    def _page_at(self, scope: Scope) -> Page:
        """The page at a path. A host that looks for a sign-in shows its user the message of the refusal."""
        page = self.pages.get(scope["path"])
        if page is None and scope["path"].startswith(_SIGN_IN):
            raise Refused(status=404, code="invalid_request", message=self.authenticator.sign_in_hint)
        if page is None:
            raise Refused(status=404, code="not_found", message=f"Not found. MCP is at {self.path}.")
        if scope["method"] not in {"GET", "HEAD"}:
            message = "Only GET and HEAD are allowed here."
            raise Refused(status=405, code="invalid_call", message=message, headers={"Allow": "GET, HEAD"})
        return page


def _refuse_two_lengths(headers: Headers) -> None:
    """Refuse a request that a proxy and this server could read differently (RFC 9112 6.1)."""
    if "content-length" in headers and "transfer-encoding" in headers:
        message = "A request must not have both Content-Length and Transfer-Encoding."
        raise Refused(status=400, code="invalid_call", message=message, headers=_CLOSE)


def _with_accept(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers with an Accept that the SDK takes. Some hosts send only text/event-stream, or none.

    Raises:
        Refused: the client does not accept event streams.
    """
    accepted = [part.partition(";")[0].strip().lower() for part in ",".join(headers.getlist("accept")).split(",")]
    if any(accepted) and not {"text/event-stream", "text/*", "*/*"}.intersection(accepted):
        message = f"Answers may be streams: send Accept: {_ACCEPT}."
        raise Refused(status=406, code="invalid_call", message=message)
    changed = MutableHeaders(raw=[(name, value) for name, value in headers.raw if name != b"accept"])
    changed["accept"] = _ACCEPT
    return changed.raw


class UsageLimit:
    """Limits what open requests use, per caller and in total, so that no caller takes all (T-22)."""

    def __init__(self, limit: int, total_limit: int, message: str) -> None:
        """`message` is for a caller who has reached the limit."""
        self._limit, self._total_limit, self._message = limit, total_limit, message
        self._used: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self._used.total()

    @contextmanager
    def open_request(self, caller: str) -> Generator[Callable[[int], None]]:
        """Yields a function that adds to what the request uses. At the end, all of it is free again.

        Raises:
            Refused: by that function, if a limit would be exceeded.
        """
        added = 0

        def add(amount: int) -> None:
            nonlocal added
            if self._used[caller] + amount > self._limit:
                raise Refused(status=429, code="rate_limited", message=self._message, retry_after=1)
            if self.total + amount > self._total_limit:
                message = "This server has too many open requests. Try again later."
                raise Refused(status=503, code="unavailable", message=message, retry_after=5)
            added += amount
            self._used[caller] += amount

        try:
            yield add
        finally:
            self._used[caller] -= added
            if not self._used[caller]:
                del self._used[caller]


async def _read_body(receive: Receive, largest: int, add_bytes: Callable[[int], None]) -> bytes | None:
    """A request's body; None if the client disconnected or was cut off (see `slow_clients`)."""
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        chunk: bytes = event.get("body", b"")
        if len(body) + len(chunk) > largest:
            raise Refused(status=413, code="invalid_input", message=f"A message may have at most {largest} bytes.")
        add_bytes(len(chunk))
        body += chunk
        if not event.get("more_body", False):
            break
    content = bytes(body)
    if too_many_values(content, MAX_IN_A_MESSAGE):
        message = f"A message may have at most {MAX_IN_A_MESSAGE} values."
        raise Refused(status=413, code="invalid_input", message=message)
    return content


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body that was read, then what follows."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "unknown"
