"""Subscriptions, in both eras: to be told that a task or a chat has changed, wherever it was started.

What is watched is `flows.watching`; here is who is told. Events of the one bus that are somebody's carry whose they are, and
nobody else is handed them (threat T-5). The older era needs a channel to its client, which HTTP without sessions has not.
"""

from __future__ import annotations

import logging
import math
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY, ListenHandler, ResourceUpdated, ToolsListChanged
from mcp.shared.subscriptions import event_to_notification
from mcp_types import INVALID_PARAMS, INVALID_REQUEST, EmptyResult, SubscriptionsListenResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from inferencesh_mcp.context import caller
from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.resources.read import protocol_errors
from inferencesh_mcp.resources.templates import CHAT, LOGS, TASK, found
from inferencesh_mcp.sdk import connection_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.subscriptions import ServerEvent, SubscriptionBus
    from mcp_types import (
        NotificationParams,
        SubscribeRequestParams,
        SubscriptionsListenRequestParams,
        UnsubscribeRequestParams,
    )

    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.watch import Kind, Part, Tell
    from inferencesh_mcp.settings import Settings

    Request = ServerRequestContext[Shared, Any]

PATIENCE = 10.0  # seconds for reading what is to be watched
MOST_ASKED = 100  # addresses of one request that are looked at: many more than anybody is granted
SUBSCRIBABLE = "Only tasks, their logs and chats can be subscribed to"
_EAR = "inferencesh.ear"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnUpdated(ResourceUpdated):
    """A resource of one caller changed: for nobody else, though they name the same address."""

    principal: str = ""


def telling(bus: SubscriptionBus) -> Tell:
    """What puts the changes of what is watched onto the bus."""
    templates = {"task": TASK, "logs": LOGS, "chat": CHAT}

    async def tell(principal: str, part: Part, thing: str) -> None:
        await bus.publish(OwnUpdated(templates[part].address(id=thing), principal))

    return tell


class Subscriptions:
    """The handlers of both eras."""

    def __init__(self, server: MCPServer[Shared], settings: Settings) -> None:
        self._server = server
        self._settings = settings

    async def listen(self, ctx: Request, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """2026-07-28: one request is one stream. What the caller cannot read, or may not have more of, is left out."""
        shared = ctx.lifespan_context
        asked = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))[:MOST_ASKED]
        public = await self._public()
        watchable = {uri: subject for uri in asked if (subject := self._subject(uri))}
        with protocol_errors("subscriptions/listen"):
            who = caller(Context(request_context=ctx, mcp_server=self._server))
            async with AsyncExitStack() as stack:
                held = stack.enter_context(shared.watching.places(who, max(1, len(watchable))))
                watched = await _watched(stack, shared, who, dict(list(watchable.items())[:held]))
                honoured = params.notifications.model_copy(
                    update={"resource_subscriptions": [uri for uri in asked if uri in watched or uri in public]}
                )
                heard = ListenHandler(_Own(shared.bus, who.principal))
                with shared.live.stopping.waiting(math.inf):
                    return await heard(ctx, params.model_copy(update={"notifications": honoured}))
        # The server ends, and says so: a stream that is cut is one that a client takes for lost.
        return SubscriptionsListenResult(_meta={SUBSCRIPTION_ID_META_KEY: ctx.request_id})

    async def subscribe(self, ctx: Request, params: SubscribeRequestParams) -> EmptyResult:
        """2025-11-25: one more address for this connection."""
        uri = params.uri
        if uri in await self._public():
            return EmptyResult()  # it changes with the server alone
        ear = _ear_of(ctx)
        if ear is None:
            raise MCPError(
                code=INVALID_REQUEST,
                message="Subscriptions need a channel to the client, which 2025-11-25 over HTTP has not here. Use stdio or "
                "subscriptions/listen (2026-07-28), or ask with task_get or chat_get and wait_seconds.",
                data={"uri": uri},
            )
        subject = self._subject(uri)
        if subject is None:
            raise MCPError(
                code=INVALID_PARAMS, message=f"{SUBSCRIBABLE}, by the addresses of the templates.", data={"uri": uri}
            )
        with protocol_errors(uri):
            who = caller(Context(request_context=ctx, mcp_server=self._server))
            async with AsyncExitStack() as stack:
                if uri not in ear.held:
                    watching = ctx.lifespan_context.watching
                    stack.enter_context(watching.places(who, 1))
                    await stack.enter_async_context(watching.watched(who, *subject))
                if uri not in ear.held:  # it may have been asked for twice meanwhile
                    ear.held[uri] = stack.pop_all()
        return EmptyResult()

    async def unsubscribe(self, ctx: Request, params: UnsubscribeRequestParams) -> EmptyResult:
        """2025-11-25: one address less; one that was not subscribed to is no mistake."""
        ear = _ear_of(ctx)
        if ear is not None and params.uri in ear.held:
            await ear.held.pop(params.uri).aclose()
        return EmptyResult()

    async def connected(self, ctx: Request, _: NotificationParams) -> None:
        """2025-11-25: from now on the client may be told of changes, of the list of tools too."""
        _ear_of(ctx)

    async def _public(self) -> set[str]:
        """What this server holds itself, the same for everyone."""
        return {resource.uri for resource in await self._server.list_resources()}

    def _subject(self, uri: str) -> tuple[Kind, str] | None:
        """What to watch for an address of something that changes, in its one spelling: updates go by that name."""
        match found(self._settings, uri):
            case template, {"id": thing} if template.watched and template.address(id=thing) == uri:
                return template.watched, thing
            case _:
                return None


async def _watched(
    stack: AsyncExitStack, shared: Shared, who: Caller, subjects: dict[str, tuple[Kind, str]]
) -> set[str]:
    """Those of the addresses that the caller can read; they are watched for as long as the stack."""
    watched: set[str] = set()

    async def watch(uri: str, kind: Kind, thing: str) -> None:
        try:
            await stack.enter_async_context(shared.watching.watched(who, kind, thing))
        except InferenceError as exc:
            logger.info("a subscription is left out: %s", exc.code)
        else:
            watched.add(uri)

    with anyio.move_on_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for uri, (kind, thing) in subjects.items():
                group.start_soon(watch, uri, kind, thing)
    return watched


class _Own:
    """The bus as one caller may hear it."""

    def __init__(self, bus: SubscriptionBus, principal: str) -> None:
        self._bus = bus
        self._principal = principal

    async def publish(self, event: ServerEvent) -> None:
        await self._bus.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        return self._bus.subscribe(lambda event: listener(event) if _is_for(event, self._principal) else None)


def _is_for(event: ServerEvent, principal: str) -> bool:
    return not isinstance(event, OwnUpdated) or event.principal == principal


class _Ear:
    """What one connection of the older era is told: of the tools, and of what it subscribed to."""

    def __init__(self, ctx: Request, principal: str) -> None:
        self.held: dict[str, AsyncExitStack] = {}
        self._session = ctx.session
        self._principal = principal
        self._pending: dict[ServerEvent, None] = {}
        """Changes that the client was not told of yet: "this is another now", so twice is once."""
        self._news = anyio.Event()
        self._unsubscribe = ctx.lifespan_context.bus.subscribe(self._hear)
        self._scope = anyio.CancelScope()
        ctx.lifespan_context.group.start_soon(self._speak)

    def _hear(self, event: ServerEvent) -> None:
        own = isinstance(event, ResourceUpdated) and event.uri in self.held and _is_for(event, self._principal)
        if own or isinstance(event, ToolsListChanged):
            self._pending[event] = None
            self._news.set()

    async def _speak(self) -> None:
        with self._scope:
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                while self._pending:
                    event = next(iter(self._pending))
                    del self._pending[event]
                    await self._session.send_notification(event_to_notification(event, {}))

    async def close(self) -> None:
        self._unsubscribe()
        self._scope.cancel()
        while self.held:
            await self.held.popitem()[1].aclose()


def _ear_of(ctx: Request) -> _Ear | None:
    """The ear of a connection, made when first needed; None where there is no channel to the client."""
    connection = connection_of(ctx)
    if not connection.has_standalone_channel or connection.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return None
    ear: _Ear | None = connection.state.get(_EAR)
    if ear is None:
        ear = connection.state[_EAR] = _Ear(ctx, caller(Context(request_context=ctx)).principal)
        connection.exit_stack.push_async_callback(ear.close)
    return ear


async def truthful(ctx: Request, call_next: CallNext) -> HandlerResult:
    """The older era over HTTP is not told that it may subscribe: there is no channel to tell it of changes."""
    result = await call_next(ctx)
    if ctx.method == "initialize" and isinstance(result, dict) and not connection_of(ctx).has_standalone_channel:
        result["capabilities"]["resources"]["subscribe"] = False
    return result
