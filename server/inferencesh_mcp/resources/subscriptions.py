"""Subscriptions to tasks and chats, in both protocol versions, 2025-11-25 and 2026-07-28.

`flows.subscription_watches` finds the changes; this module sends them to subscribers. An event about a caller's resource names the caller,
and no other caller gets it (T-5). The older version needs a channel to the client, which HTTP without sessions does not have.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from mcp import MCPError
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY, ListenHandler, ResourceUpdated, ToolsListChanged
from mcp.shared.subscriptions import event_to_notification
from mcp_types import INVALID_PARAMS, INVALID_REQUEST, EmptyResult, SubscriptionsListenResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from inferencesh_mcp.context import caller_of, shared_state
from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.resources.templates import CHAT, LOGS, TASK, match_uri
from inferencesh_mcp.sdk import connection_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult
    from mcp.server.subscriptions import ServerEvent, SubscriptionBus
    from mcp_types import (
        NotificationParams,
        SubscribeRequestParams,
        SubscriptionsListenRequestParams,
        UnsubscribeRequestParams,
    )

    from inferencesh_mcp.context import Request, Shared
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.subscription_watches import Kind, Notify, Part
    from inferencesh_mcp.settings import Settings

WATCH_TIMEOUT = 10.0  # seconds to read the resources that are to be watched
MAX_URIS = 100  # URIs of one request that are looked at: many more than a caller may watch
SUBSCRIBABLE = "Only tasks, their logs and chats can be subscribed to"
_SUBSCRIBER = "inferencesh.subscriber"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CallerResourceUpdated(ResourceUpdated):
    """A caller's resource changed. Other callers do not get this event, even for the same URI."""

    principal: str = ""


def publisher(bus: SubscriptionBus) -> Notify:
    """A function that publishes changes of watched resources on the bus."""
    templates = {"task": TASK, "logs": LOGS, "chat": CHAT}

    async def publish(principal: str, part: Part, upstream_id: str) -> None:
        await bus.publish(CallerResourceUpdated(templates[part].address(id=upstream_id), principal))

    return publish


class Subscriptions:
    """The handlers for subscriptions in both protocol versions."""

    def __init__(self, server: MCPServer[Shared], settings: Settings) -> None:
        self._server = server
        self._settings = settings

    async def listen(self, ctx: Request, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """2026-07-28: one request is one stream. URIs that the caller cannot read, or above the limit, are left out."""
        shared = shared_state(ctx)
        uris = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))[:MAX_URIS]
        public = await self._public()
        watchable = {uri: subject for uri in uris if (subject := self._subject(uri))}
        caller = caller_of(ctx)
        async with AsyncExitStack() as stack:
            granted = stack.enter_context(shared.watches.slots(caller, max(1, len(watchable))))
            watched = await _watch_readable(stack, shared, caller, dict(list(watchable.items())[:granted]))
            accepted = params.notifications.model_copy(
                update={"resource_subscriptions": [uri for uri in uris if uri in watched or uri in public]}
            )
            handler = ListenHandler(PerCallerBus(shared.bus, caller.principal))
            with shared.runs.drain.deadline():
                return await handler(ctx, params.model_copy(update={"notifications": accepted}))
        # The server stops and ends the stream properly: a client would take a cut stream for a lost connection.
        return SubscriptionsListenResult(_meta={SUBSCRIPTION_ID_META_KEY: ctx.request_id})

    async def subscribe(self, ctx: Request, params: SubscribeRequestParams) -> EmptyResult:
        """2025-11-25: subscribe this connection to a URI."""
        uri = params.uri
        if uri in await self._public():
            return EmptyResult()  # it changes only when the server is replaced
        subscriber = _subscriber_of(ctx)
        if subscriber is None:
            raise MCPError(
                code=INVALID_REQUEST,
                message="Protocol 2025-11-25 over HTTP cannot send updates here. Use stdio or subscriptions/listen (2026-07-28), "
                "or wait with task_get or chat_get and wait_seconds.",
                data={"uri": uri},
            )
        subject = self._subject(uri)
        if subject is None:
            raise MCPError(
                code=INVALID_PARAMS, message=f"{SUBSCRIBABLE}. Use a URI of their templates.", data={"uri": uri}
            )
        caller = caller_of(ctx)
        async with AsyncExitStack() as stack:
            if uri not in subscriber.subscriptions:
                watching = shared_state(ctx).watches
                stack.enter_context(watching.slots(caller, 1))
                await stack.enter_async_context(watching.watch(caller, *subject))
            if uri not in subscriber.subscriptions:  # the same request may have come twice meanwhile
                subscriber.subscriptions[uri] = stack.pop_all()
        return EmptyResult()

    async def unsubscribe(self, ctx: Request, params: UnsubscribeRequestParams) -> EmptyResult:
        """2025-11-25: end a subscription. It is no error if there is none."""
        subscriber = _subscriber_of(ctx)
        if subscriber is not None and params.uri in subscriber.subscriptions:
            await subscriber.subscriptions.pop(params.uri).aclose()
        return EmptyResult()

    async def connected(self, ctx: Request, _: NotificationParams) -> None:
        """2025-11-25: the client is ready for notifications, also about the list of tools."""
        _subscriber_of(ctx)

    async def _public(self) -> set[str]:
        """URIs of resources that the server itself holds, the same for every caller."""
        return {resource.uri for resource in await self._server.list_resources()}

    def _subject(self, uri: str) -> tuple[Kind, str] | None:
        """What to watch for a URI; None if it cannot be watched. Only canonical URIs count, because updates name those."""
        match match_uri(self._settings, uri):
            case template, {"id": upstream_id} if template.watched and template.address(id=upstream_id) == uri:
                return template.watched, upstream_id
            case _:
                return None


async def _watch_readable(
    stack: AsyncExitStack, shared: Shared, caller: Caller, subjects: dict[str, tuple[Kind, str]]
) -> set[str]:
    """Watch the URIs that the caller can read, until the stack closes; return them."""
    watched: set[str] = set()

    async def watch(uri: str, kind: Kind, upstream_id: str) -> None:
        try:
            await stack.enter_async_context(shared.watches.watch(caller, kind, upstream_id))
        except InferenceError as exc:
            logger.info("a subscription is left out: %s", exc.code)
        else:
            watched.add(uri)

    with anyio.move_on_after(WATCH_TIMEOUT):
        async with anyio.create_task_group() as group:
            for uri, (kind, upstream_id) in subjects.items():
                group.start_soon(watch, uri, kind, upstream_id)
    return watched


class PerCallerBus:
    """The bus without the events of other callers."""

    def __init__(self, bus: SubscriptionBus, principal: str) -> None:
        self._bus = bus
        self._principal = principal

    async def publish(self, event: ServerEvent) -> None:
        await self._bus.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        return self._bus.subscribe(lambda event: listener(event) if _is_for(event, self._principal) else None)


def _is_for(event: ServerEvent, principal: str) -> bool:
    return not isinstance(event, CallerResourceUpdated) or event.principal == principal


class LegacySubscriber:
    """Sends changes of tools and of subscribed resources to one connection of the older version."""

    def __init__(self, ctx: Request, principal: str) -> None:
        self.subscriptions: dict[str, AsyncExitStack] = {}
        self._session = ctx.session
        self._principal = principal
        self._pending: dict[ServerEvent, None] = {}
        """Changes that are not sent yet; a repeated change is sent once."""
        self._changed = anyio.Event()
        shared = shared_state(ctx)
        self._unsubscribe = shared.bus.subscribe(self._receive)
        self._scope = anyio.CancelScope()
        shared.group.start_soon(self._send_changes)

    def _receive(self, event: ServerEvent) -> None:
        is_own = (
            isinstance(event, ResourceUpdated) and event.uri in self.subscriptions and _is_for(event, self._principal)
        )
        if is_own or isinstance(event, ToolsListChanged):
            self._pending[event] = None
            self._changed.set()

    async def _send_changes(self) -> None:
        with self._scope:
            while True:
                await self._changed.wait()
                self._changed = anyio.Event()
                while self._pending:
                    event = next(iter(self._pending))
                    del self._pending[event]
                    await self._session.send_notification(event_to_notification(event, {}))

    async def close(self) -> None:
        self._unsubscribe()
        self._scope.cancel()
        while self.subscriptions:
            await self.subscriptions.popitem()[1].aclose()


def _subscriber_of(ctx: Request) -> LegacySubscriber | None:
    """The subscriber of a connection, created on first use; None if there is no channel to the client."""
    connection = connection_of(ctx)
    if not connection.has_standalone_channel or connection.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return None
    subscriber: LegacySubscriber | None = connection.state.get(_SUBSCRIBER)
    if subscriber is None:
        subscriber = connection.state[_SUBSCRIBER] = LegacySubscriber(ctx, caller_of(ctx).principal)
        connection.exit_stack.push_async_callback(subscriber.close)
    return subscriber


async def hide_subscribe_capability(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Do not announce subscriptions to clients of the older version over HTTP: there is no channel for updates."""
    result = await call_next(ctx)
    if ctx.method == "initialize" and isinstance(result, dict) and not connection_of(ctx).has_standalone_channel:
        result["capabilities"]["resources"]["subscribe"] = False
    return result
