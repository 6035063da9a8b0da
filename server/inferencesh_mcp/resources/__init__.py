"""Resources: tasks, files, sessions, chats and apps by URI, for hosts that let people pick and pin them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Context
from mcp_types import (
    CompleteRequestParams,
    CompleteResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    NotificationParams,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)

from inferencesh_mcp.context import caller
from inferencesh_mcp.errors import InferenceError, NotFound
from inferencesh_mcp.resources.completion import complete_argument
from inferencesh_mcp.resources.list import list_recent
from inferencesh_mcp.resources.read import read
from inferencesh_mcp.resources.subscriptions import Subscriptions, hide_subscribe_capability, publisher
from inferencesh_mcp.resources.templates import SCHEME, enabled_templates, match_uri
from inferencesh_mcp.sdk import add_notification_handler, replace_request_handler, request_handler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server import MCPServer
    from mcp.server.caching import CacheableMethod

    from inferencesh_mcp.context import Request, Shared
    from inferencesh_mcp.settings import Settings

__all__ = ["CACHE_HINTS", "publisher", "register"]

# These lists are fixed when the server starts, and the same for every caller.
CACHE_HINTS: Mapping[CacheableMethod, CacheHint] = {
    "resources/templates/list": CacheHint(ttl_ms=300_000, scope="public"),
    "prompts/list": CacheHint(ttl_ms=300_000, scope="public"),
}


def register(server: MCPServer[Shared], settings: Settings) -> None:
    """Add our resources to a server, beside those that are registered on it."""
    sdk_read = request_handler(server, "resources/read")

    async def read_uri(ctx: Request, params: ReadResourceRequestParams) -> Any:
        if not params.uri.startswith(SCHEME):
            return await sdk_read(ctx, params)
        match = match_uri(settings, params.uri)
        if match is None:
            raise NotFound(
                message="There is no such resource", next_step="List the kinds with resources/templates/list."
            )
        return await read(Context(request_context=ctx, mcp_server=server), params.uri, *match)

    async def list_page(ctx: Request, params: PaginatedRequestParams) -> ListResourcesResult:
        registered = [] if params.cursor else await server.list_resources()
        try:
            who = caller(ctx)
        except InferenceError:  # no valid key, so there is no caller whose resources could be listed
            return ListResourcesResult(resources=registered)
        page = await list_recent(who, enabled_templates(settings), params.cursor)
        return page.model_copy(update={"resources": [*registered, *page.resources]})

    async def list_templates(_: Request, __: PaginatedRequestParams) -> ListResourceTemplatesResult:
        own_templates = [template.listed() for template in enabled_templates(settings)]
        return ListResourceTemplatesResult(resource_templates=[*own_templates, *await server.list_resource_templates()])

    async def complete(ctx: Request, params: CompleteRequestParams) -> CompleteResult:
        return CompleteResult(completion=await complete_argument(caller(ctx), params))

    replace_request_handler(server, "resources/read", ReadResourceRequestParams, read_uri)
    replace_request_handler(server, "resources/list", PaginatedRequestParams, list_page)
    replace_request_handler(server, "resources/templates/list", PaginatedRequestParams, list_templates)
    replace_request_handler(server, "completion/complete", CompleteRequestParams, complete)
    subscriptions = Subscriptions(server, settings)
    replace_request_handler(server, "subscriptions/listen", SubscriptionsListenRequestParams, subscriptions.listen)
    replace_request_handler(server, "resources/subscribe", SubscribeRequestParams, subscriptions.subscribe)
    replace_request_handler(server, "resources/unsubscribe", UnsubscribeRequestParams, subscriptions.unsubscribe)
    add_notification_handler(server, "notifications/initialized", NotificationParams, subscriptions.connected)
    server.middleware.append(hide_subscribe_capability)
