"""What happens to an HTTP request before MCP sees it: host and origin, routes, authentication, limits, its body."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from inferencesh_mcp.api.json import MOST_IN_A_MESSAGE, too_many_values
from inferencesh_mcp.context import VISITOR
from inferencesh_mcp.settings.types import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from inferencesh_mcp.flows.drain import Stopping
    from inferencesh_mcp.http.auth import Authenticator

Page = Callable[[Headers], Response]
"""Something that can only be read, at an address of its own."""

# JSON-RPC 2.0: invalid request, and the first code that is the server's own.
_INVALID_REQUEST, _SERVER_ERROR = -32600, -32000


@dataclass(eq=False, kw_only=True)
class Refused(Exception):
    """A request that goes no further: nothing was started, and nothing left this process."""

    status: int
    code: str
    """Stable, machine-readable, as those of `errors`."""
    message: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after: int | None = None
    """Seconds after which the same request may be let in."""

    def __str__(self) -> str:
        return self.message

    def page(self) -> JSONResponse:
        """The same where no MCP is spoken, in the form of an OAuth error (RFC 6749 5.2): hosts look for a sign-in there."""
        told = {"error": self.code, "error_description": self.message}
        return JSONResponse(told, status_code=self.status, headers=dict(self.headers))

    def response(self) -> JSONResponse:
        """The answer to a message of MCP."""
        told: dict[str, Any] = {"code": self.code, "outcome": "not_started"}
        headers = dict(self.headers)
        if self.retry_after is not None:
            told["retry_after_seconds"] = self.retry_after
            headers["Retry-After"] = str(self.retry_after)
        number = _SERVER_ERROR if self.status in {429, 503} else _INVALID_REQUEST
        body = {"jsonrpc": "2.0", "id": None, "error": {"code": number, "message": self.message, "data": told}}
        return JSONResponse(body, status_code=self.status, headers=headers)


LOOPBACK_HOSTS = tuple(f"[{host}]" if ":" in host else host for host in LOOPBACK)

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")

# What a browser lets a page read. No cookies: nobody is known here by what their browser adds by itself.
_READ = ("mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after")
_AN_HOUR = 3600


class HostOriginMiddleware:
    """Lets through what is addressed to this server by its name, and comes from no page or from one that is allowed."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts, self._origins = frozenset(hosts), frozenset(origins)
        # Whoever gets to it has an origin that may: `_refusal` has looked. It may send any header: those of MCP have no end.
        self._app = CORSMiddleware(
            app, allow_origin_regex=".*", allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=_READ,
            max_age=_AN_HOUR,
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Headers(scope=scope))):
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> Refused | None:
        if not self._is_ours(headers.getlist("host")):
            message = "This host name is not allowed. Add it to INFERENCE_ALLOWED_HOSTS."
            return Refused(status=421, code="forbidden", message=message)
        if any(not self._is_allowed(origin, headers["host"]) for origin in headers.getlist("origin")):
            message = "This origin is not allowed. Add it to INFERENCE_ALLOWED_ORIGINS."
            return Refused(status=403, code="forbidden", message=message)
        return None

    def _is_allowed(self, origin: str, host: str) -> bool:
        """A page that is named; or one of this machine, at a server that is spoken to as this machine."""
        scheme, _, page = origin.partition("://")
        at_home = scheme == "http" and _is_loopback(page) and _is_loopback(host)
        return at_home or origin in self._origins

    def _is_ours(self, given: Sequence[str]) -> bool:
        """A name that is allowed, with any port unless the allowed one names its own."""
        found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        return found is not None and (found[0] in self._hosts or found[1] in self._hosts)


def _is_loopback(host: str) -> bool:
    found = _HOST.fullmatch(host.lower())
    return found is not None and found[1] in LOOPBACK_HOSTS


class TraceContextMiddleware:
    """An application whose spans belong to the trace that a request's `traceparent` names.

    `mcp` itself reads the one in a message's `_meta`, which comes first.
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


# Where hosts look for a way to sign in (RFC 8414, RFC 9728, OpenID Connect), or go when they find none.
_SIGN_IN = ("/.well-known/oauth-", "/.well-known/openid-", "/authorize", "/register", "/token")
_BOTH = "application/json, text/event-stream"
_CLOSE = {"Connection": "close"}

logger = logging.getLogger(__name__)


class Router:
    """The routes. MCP is the only one that does anything, and nobody gets there but through the door."""

    def __init__(
        self, mcp: ASGIApp, authenticator: Authenticator, *,
        path: str, pages: Mapping[str, Page], stopping: Stopping, shares: RequestLimits, bodies: BodyBudget, largest_body: int,
    ) -> None:  # fmt: skip
        self._mcp, self._authenticator, self._path, self._pages = mcp, authenticator, path, pages
        self._stopping, self._shares, self._bodies, self._largest_body = stopping, shares, bodies, largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._mcp(scope, receive, send)  # the start and the end of the server: there are no websockets
        elif scope["path"] in {self._path, f"{self._path}/"}:
            raw_path = self._path.encode()
            await self._entered({**scope, "path": self._path, "raw_path": raw_path}, receive, send)
        else:
            await self._page(scope)(scope, receive, send)

    async def _entered(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            _refuse_two_lengths(headers)
            visitor = await self._authenticator.admit(headers)
            self._check(scope)
            scope = {**scope, "headers": _accepting(headers)}
            address = _address(scope)
            if not self._authenticator.vouches:
                visitor = replace(visitor, address=address)
            source = visitor.principal if self._authenticator.vouches else address
            with self._shares.held(visitor.principal), self._bodies.read_by(source) as note:
                body = await _whole(receive, self._largest_body, note)
                if body is not None:
                    await self._mcp({**scope, VISITOR: visitor}, _again(body, receive), send)
        except Refused as refused:
            logger.info("refused %s from %s: %s", scope["method"], _address(scope), refused.code)
            await refused.response()(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        # A GET would be held open for ever, with nothing to come on it: there are no sessions, whatever id it names.
        if scope["method"] != "POST":
            message = "Only POST is allowed here."
            raise Refused(status=405, code="invalid_call", message=message, headers={"Allow": "POST"})
        if self._stopping.announced:
            message = "This server is stopping. Nothing was started. Send the request again."
            raise Refused(status=503, code="stopping", message=message, retry_after=1, headers=_CLOSE)

    def _page(self, scope: Scope) -> Response:
        headers = Headers(scope=scope)
        try:
            _refuse_two_lengths(headers)
            return self._found(scope)(headers)
        except Refused as refused:
            return refused.page()

    def _found(self, scope: Scope) -> Page:
        """The page at a path. Where there is none, a host that looks for a sign-in shows its person what it is told."""
        page = self._pages.get(scope["path"])
        if page is None and scope["path"].startswith(_SIGN_IN):
            raise Refused(status=404, code="invalid_request", message=self._authenticator.instead_of_signing_in)
        if page is None:
            raise Refused(status=404, code="not_found", message=f"Not found. MCP is at {self._path}.")
        if scope["method"] not in {"GET", "HEAD"}:
            message = "Only GET and HEAD are allowed here."
            raise Refused(status=405, code="invalid_call", message=message, headers={"Allow": "GET, HEAD"})
        return page


def _refuse_two_lengths(headers: Headers) -> None:
    """Refuse what a proxy and this server could read as different requests (RFC 9112 6.1)."""
    if "content-length" in headers and "transfer-encoding" in headers:
        message = "A request must not have both Content-Length and Transfer-Encoding."
        raise Refused(status=400, code="invalid_call", message=message, headers=_CLOSE)


def _accepting(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of a request that takes a stream of events, and so any answer: some hosts name that alone, or nothing.

    Raises:
        Refused: it takes none.
    """
    told = [part.partition(";")[0].strip().lower() for part in ",".join(headers.getlist("accept")).split(",")]
    if any(told) and not {"text/event-stream", "text/*", "*/*"}.intersection(told):
        message = f"Answers may be streams: send Accept: {_BOTH}."
        raise Refused(status=406, code="invalid_call", message=message)
    changed = MutableHeaders(raw=[(name, value) for name, value in headers.raw if name != b"accept"])
    changed["accept"] = _BOTH
    return changed.raw


class RequestLimits:
    """How many requests each caller has open, so that one who has many leaves room for the others (T-22)."""

    def __init__(self, most: int, most_in_all: int) -> None:
        self._most, self._most_in_all = most, most_in_all
        self._open: Counter[str] = Counter()
        self.open = 0

    @contextmanager
    def held(self, principal: str) -> Generator[None]:
        """Hold one of a caller's places for as long as a request is open.

        Raises:
            Refused: they are all taken.
        """
        if self._open[principal] >= self._most:
            message = f"You have {self._most} requests open, the most allowed. Wait for one to end."
            raise Refused(status=429, code="rate_limited", message=message, retry_after=1)
        if self.open >= self._most_in_all:
            raise Refused(
                status=503,
                code="unavailable",
                message="This server has too many open requests. Try again later.",
                retry_after=5,
            )
        self._open[principal] += 1
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            self._open[principal] -= 1
            if not self._open[principal]:
                del self._open[principal]


class BodyBudget:
    """How many bytes of requests are held at a time: of one source, and in all. A made-up key is a caller like any other."""

    def __init__(self, most: int, most_in_all: int) -> None:
        self._most, self._most_in_all = most, most_in_all
        self._held: Counter[str] = Counter()

    @contextmanager
    def read_by(self, source: str) -> Generator[Callable[[int], None]]:
        """Hold the bytes of a request for as long as it is open; what is yielded notes so many more of them.

        Raises:
            Refused: in the block, by what notes them, where they would be too many.
        """
        mine = 0

        def note(more: int) -> None:
            nonlocal mine
            if self._held[source] + more > self._most:
                message = f"Your open requests hold {self._most} bytes, the most allowed. Try again later."
                raise Refused(status=429, code="rate_limited", message=message, retry_after=1)
            if self._held.total() + more > self._most_in_all:
                raise Refused(
                    status=503,
                    code="unavailable",
                    message="This server has too many open requests. Try again later.",
                    retry_after=5,
                )
            mine += more
            self._held[source] += more

        try:
            yield note
        finally:
            self._held[source] -= mine
            if not self._held[source]:
                del self._held[source]


async def _whole(receive: Receive, largest: int, note: Callable[[int], None]) -> bytes | None:
    """A request's body; None when whoever sent it has gone, or took too long (see `connections`)."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        more: bytes = message.get("body", b"")
        if len(body) + len(more) > largest:
            raise Refused(status=413, code="invalid_input", message=f"A message may have at most {largest} bytes.")
        note(len(more))
        body += more
        if not message.get("more_body", False):
            break
    if too_many_values(whole := bytes(body), MOST_IN_A_MESSAGE):
        raise Refused(
            status=413, code="invalid_input", message=f"A message may have at most {MOST_IN_A_MESSAGE} values."
        )
    return whole


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read, for MCP to read, and then whatever else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "unknown"
