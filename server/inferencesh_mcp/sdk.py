"""The parts of the MCP SDK that it does not export, or that its documentation does not name."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import anyio
from mcp.server.lowlevel import NotificationOptions
from mcp.server.runner import serve_dual_era_loop
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server import MCPServer
    from mcp.server.connection import Connection
    from mcp.server.lowlevel import Server
    from mcp.shared.message import SessionMessage

    from inferencesh_mcp.context import Request, Shared

    Handler = Callable[[Request, Any], Awaitable[Any]]

Params = TypeVar("Params", bound=BaseModel)

ANSWER_SECONDS = 1.0  # for the answer to server/discover, which takes a millisecond and may be cancelled


def _lowlevel(server: MCPServer[Shared]) -> Server[Shared]:
    return server._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  - there is no public way in


def request_handler(server: MCPServer[Shared], method: str) -> Handler:
    """The SDK's own handler of a method that `MCPServer` always serves."""
    entry = _lowlevel(server).get_request_handler(method)
    if entry is None:
        raise LookupError(method)
    return entry.handler


def replace_request_handler(
    server: MCPServer[Shared],
    method: str,
    params_type: type[Params],
    handler: Callable[[Request, Params], Awaitable[Any]],
) -> None:
    """Have a handler of ours answer a method; the SDK's own is replaced where there was one."""
    _lowlevel(server).add_request_handler(method, params_type, handler)


def add_notification_handler(
    server: MCPServer[Shared],
    method: str,
    params_type: type[Params],
    handler: Callable[[Request, Params], Awaitable[None]],
) -> None:
    _lowlevel(server).add_notification_handler(method, params_type, handler)


def connection_of(ctx: Request) -> Connection:
    """The connection of a request. It has the state and the exit stack that last as long as the client is connected."""
    return ctx.session._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  - there is no public way in


async def serve_streams(server: MCPServer[Shared], incoming: Any, outgoing: Any) -> None:
    """Serve one client until `incoming` ends. `outgoing` is closed at the end.

    The SDK takes the protocol version of a connection from its first request. But some clients send `server/discover` and then
    `initialize` on the same pipe, because the answer came late. So `server/discover` alone decides nothing here.
    """
    low = _lowlevel(server)
    # Announces to clients of the older versions that the list of tools may change.
    options = low.create_initialization_options(NotificationOptions(tools_changed=True))
    async with low.lifespan(low) as state, aclosing(outgoing):
        streams: Any = _Streams(incoming, outgoing)
        await serve_dual_era_loop(low, streams, streams, lifespan_state=state, init_options=options)
        if streams.handshake:
            await serve_dual_era_loop(low, streams, streams, lifespan_state=state, init_options=options)


class _Streams:
    """A client's streams, which stay open when the SDK closes them. They end once at an `initialize` that follows only
    `server/discover`, and begin again with it.
    """

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        self.handshake: SessionMessage | None = None
        """The `initialize` at which they ended."""
        self._incoming, self._outgoing = incoming, outgoing
        self._discoveries: set[Any] = set()
        """The ids of `server/discover` requests that are not answered yet."""
        self._answered = anyio.Event()
        self._opening: Literal["empty", "discovered", "over"] = "empty"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self.handshake:
            handshake, self.handshake = self.handshake, None
            return handshake
        item = await anext(self._incoming)
        match getattr(item, "message", None):
            case JSONRPCRequest(method="server/discover", id=number) if self._opening != "over":
                self._opening = "discovered"
                self._discoveries.add(number)
            case JSONRPCRequest(method="initialize") if self._opening == "discovered":
                self._opening = "over"
                await self._discoveries_answered()
                self.handshake = item
                raise StopAsyncIteration
            case JSONRPCRequest():
                self._opening = "over"
            case _:
                pass
        return item

    async def send(self, item: SessionMessage) -> None:
        await self._outgoing.send(item)
        match item.message:
            case JSONRPCResponse(id=number) | JSONRPCError(id=str() | int() as number):
                self._discoveries.discard(number)
                self._answered.set()
            case _:
                pass

    async def _discoveries_answered(self) -> None:
        with anyio.move_on_after(ANSWER_SECONDS):
            while self._discoveries:
                self._answered = anyio.Event()
                await self._answered.wait()

    async def aclose(self) -> None:
        """The SDK is done with them; the client may go on."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
