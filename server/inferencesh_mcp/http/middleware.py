"""What happens to a request before MCP sees it: its route, its door, its caller's share, its whole body."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from inferencesh_mcp.api.json import MOST_IN_A_MESSAGE, too_many_values
from inferencesh_mcp.context import VISITOR
from inferencesh_mcp.http.error_responses import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from inferencesh_mcp.flows.drain import Drain
    from inferencesh_mcp.http.auth import Door
    from inferencesh_mcp.http.error_responses import Page

# Where hosts look for a way to sign in (RFC 8414, RFC 9728, OpenID Connect), or go when they find none.
_SIGN_IN = ("/.well-known/oauth-", "/.well-known/openid-", "/authorize", "/register", "/token")
_BOTH = "application/json, text/event-stream"
_CLOSE = {"Connection": "close"}

logger = logging.getLogger(__name__)


class Gate:
    """The routes. MCP is the only one that does anything, and nobody gets there but through the door."""

    def __init__(
        self, mcp: ASGIApp, door: Door, *,
        path: str, pages: Mapping[str, Page], drain: Drain, shares: Shares, bodies: Bodies, largest_body: int,
    ) -> None:  # fmt: skip
        self._mcp, self._door, self._path, self._pages = mcp, door, path, pages
        self._drain, self._shares, self._bodies, self._largest_body = drain, shares, bodies, largest_body

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
            visitor = await self._door.admit(headers)
            self._check(scope)
            scope = {**scope, "headers": _accepting(headers)}
            address = _address(scope)
            if not self._door.vouches:
                visitor = replace(visitor, address=address)
            source = visitor.principal if self._door.vouches else address
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
            message = "Messages are sent by POST."
            raise Refused(status=405, code="invalid_call", message=message, headers={"Allow": "POST"})
        if self._drain.refuses_calls:
            message = "This server is stopping. Nothing was started; send the same again, and another takes it."
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
            raise Refused(status=404, code="invalid_request", message=self._door.instead_of_signing_in)
        if page is None:
            raise Refused(status=404, code="not_found", message=f"There is nothing here; MCP is at {self._path}.")
        if scope["method"] not in {"GET", "HEAD"}:
            message = "This can only be read."
            raise Refused(status=405, code="invalid_call", message=message, headers={"Allow": "GET, HEAD"})
        return page


def _refuse_two_lengths(headers: Headers) -> None:
    """Refuse what a proxy and this server could read as different requests (RFC 9112 6.1)."""
    if "content-length" in headers and "transfer-encoding" in headers:
        message = "A request has a Content-Length or a Transfer-Encoding, not both."
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


class Shares:
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
            message = f"{self._most} requests of yours are open already, the most this server allows one caller."
            raise Refused(status=429, code="rate_limited", message=message, retry_after=1)
        if self.open >= self._most_in_all:
            raise Refused(status=503, code="unavailable", message="This server is full.", retry_after=5)
        self._open[principal] += 1
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            self._open[principal] -= 1
            if not self._open[principal]:
                del self._open[principal]


class Bodies:
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
                message = f"Requests of yours hold {self._most} bytes already, the most this server allows."
                raise Refused(status=429, code="rate_limited", message=message, retry_after=1)
            if self._held.total() + more > self._most_in_all:
                raise Refused(status=503, code="unavailable", message="This server is full.", retry_after=5)
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
            raise Refused(status=413, code="invalid_input", message=f"A message is at most {largest} bytes long.")
        note(len(more))
        body += more
        if not message.get("more_body", False):
            break
    if too_many_values(whole := bytes(body), MOST_IN_A_MESSAGE):
        raise Refused(
            status=413, code="invalid_input", message=f"A message has at most {MOST_IN_A_MESSAGE} values in it."
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
