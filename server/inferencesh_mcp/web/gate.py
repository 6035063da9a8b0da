"""What happens to a request before MCP sees it: its route, its door, its caller's share, its whole body."""

from __future__ import annotations

import logging
import math
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

from inferencesh_mcp.caller import VISITOR
from inferencesh_mcp.web.replies import Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from inferencesh_mcp.flows.stopping import Stopping
    from inferencesh_mcp.web.auth import Door
    from inferencesh_mcp.web.replies import Page

logger = logging.getLogger(__name__)


class Gate:
    """The routes. MCP is the only one that does anything, and nobody gets there but through the door."""

    def __init__(
        self, mcp: ASGIApp, door: Door, *,
        path: str, pages: Mapping[str, Page], stopping: Stopping, shares: Shares, largest_body: int,
    ) -> None:  # fmt: skip
        self._mcp, self._door, self._path, self._pages = mcp, door, path, pages
        self._stopping, self._shares, self._largest_body = stopping, shares, largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._mcp(scope, receive, send)  # the start and the end of the server: there are no websockets
        elif scope["path"] == self._path:
            await self._entered(scope, receive, send)
        else:
            await self._page(scope)(scope, receive, send)

    async def _entered(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            visitor = await self._door.admit(headers)
            self._check(scope, headers)
            with self._shares.held(visitor.principal):
                body = await _whole(receive, self._largest_body)
                if body is not None:
                    await self._told({**scope, VISITOR: visitor}, _again(body, receive), send)
        except Refused as refused:
            logger.info("refused %s from %s: %s", scope["method"], _address(scope), refused.code)
            await refused.response()(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        # A GET would be held open for ever: outside a session nothing ever comes on it.
        if scope["method"] != "POST" and "mcp-session-id" not in headers:
            message = "Messages are sent by POST."
            raise Refused(status=405, code="invalid_call", message=message, headers={"Allow": "POST"})
        if self._stopping.announced:
            message = "This server is stopping. Nothing was started; send the same again, and another takes it."
            raise Refused(status=503, code="stopping", message=message, retry_after=1, headers={"Connection": "close"})

    async def _told(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to MCP. A GET, which would be open for ever, is let go when this server ends; others end by themselves."""
        if scope["method"] != "GET":
            await self._mcp(scope, receive, send)
            return
        unfinished = False

        async def noted(message: Message) -> None:
            nonlocal unfinished
            unfinished = message["type"] == "http.response.start" or message.get("more_body", False)
            await send(message)

        with self._stopping.waiting(math.inf):
            await self._mcp(scope, receive, noted)
        if unfinished:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _page(self, scope: Scope) -> Response:
        page = self._pages.get(scope["path"])
        if page is None:
            return PlainTextResponse("There is nothing here.", 404)
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("This can only be read.", 405, headers={"Allow": "GET, HEAD"})
        return page(Headers(scope=scope))


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


async def _whole(receive: Receive, largest: int) -> bytes | None:
    """A request's body; None when whoever sent it has gone, or took too long (see `connections`)."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > largest:
            raise Refused(status=413, code="invalid_input", message=f"A message is at most {largest} bytes long.")
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read, for MCP to read, and then whatever else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "unknown"
