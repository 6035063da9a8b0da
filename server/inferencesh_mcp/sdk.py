"""The parts of the MCP SDK that it does not export, or that its documentation does not name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
from mcp.server.lowlevel import NotificationOptions
from mcp.server.runner import serve_dual_era_loop
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server import MCPServer
    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.shared.message import SessionMessage

    from inferencesh_mcp.context import Shared

    Request = ServerRequestContext[Shared, Any]
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
    """Serve one client on a pair of streams until it closes its own.

    The SDK takes the era of a connection from its first request. But some clients send `server/discover` and then
    `initialize` on the same pipe, because the answer came late (F16). So `server/discover` alone decides nothing here.
    """
    low = _lowlevel(server)
    # Clients of the older era must be told that the list of tools may change.
    options = low.create_initialization_options(NotificationOptions(tools_changed=True))
    opening = _Opening(incoming, outgoing)
    async with low.lifespan(low) as state:
        await serve_dual_era_loop(low, opening.incoming, opening.outgoing, lifespan_state=state, init_options=options)
        if opening.initialize is not None:
            rest: Any = _Rest(opening.initialize, incoming)
            await serve_dual_era_loop(low, rest, outgoing, lifespan_state=state, init_options=options)


class _Opening:
    """The start of a connection. It ends for the SDK at an `initialize` that follows only `server/discover`."""

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        self.incoming: Any = _OpeningIncoming(self, incoming)
        self.outgoing: Any = _OpeningOutgoing(self, outgoing)
        self.initialize: SessionMessage | None = None
        """The message at which it ended; the streams are still open."""
        self.unanswered: set[Any] = set()
        self.answered = anyio.Event()


class _Stream:
    def __init__(self, opening: _Opening, stream: Any) -> None:
        self._opening, self._stream = opening, stream

    async def aclose(self) -> None:
        if self._opening.initialize is None:
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _OpeningIncoming(_Stream):
    _discovers_only = False
    _decided = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        item: SessionMessage | Exception = await anext(self._stream)
        match getattr(item, "message", None):
            case JSONRPCRequest(method="server/discover", id=number) if not self._decided:
                self._discovers_only = True
                self._opening.unanswered.add(number)
            case JSONRPCRequest(method="initialize") if self._discovers_only and not self._decided:
                await self._end_at(item)
            case JSONRPCRequest():
                self._decided = True
            case _:
                pass
        return item

    async def _end_at(self, item: Any) -> None:
        with anyio.move_on_after(ANSWER_SECONDS):
            while self._opening.unanswered:
                await self._opening.answered.wait()
        self._opening.initialize = item
        raise StopAsyncIteration


class _OpeningOutgoing(_Stream):
    async def send(self, item: SessionMessage) -> None:
        await self._stream.send(item)
        match item.message:
            case JSONRPCResponse(id=number) | JSONRPCError(id=str() | int() as number):
                self._opening.unanswered.discard(number)
                self._opening.answered.set()
                self._opening.answered = anyio.Event()
            case _:
                pass


class _Rest:
    """The rest of a stream, with a message in front that was already read."""

    def __init__(self, first: SessionMessage, stream: Any) -> None:
        self._first: SessionMessage | None = first
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        if first := self._first:
            self._first = None
            return first
        item: SessionMessage | Exception = await anext(self._stream)
        return item

    async def aclose(self) -> None:
        await self._stream.aclose()
