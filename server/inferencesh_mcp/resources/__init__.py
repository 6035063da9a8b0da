"""Resources: tasks, files, sessions, chats and apps by URI, for hosts that let people pick and pin them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Context
from mcp_types import (
    BlobResourceContents,
    CompleteRequestParams,
    CompleteResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    NotificationParams,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from inferencesh_mcp.context import caller_of
from inferencesh_mcp.errors import InferenceError, NotFound
from inferencesh_mcp.resources.completion import complete_argument
from inferencesh_mcp.resources.list import list_recent
from inferencesh_mcp.resources.subscriptions import Subscriptions, hide_subscribe_capability, publisher
from inferencesh_mcp.resources.templates import LOGS, SCHEME, STABLE_TTL_MS, enabled_templates, match_uri
from inferencesh_mcp.sdk import add_notification_handler, replace_request_handler, request_handler
from inferencesh_mcp.tools.truncate import as_json, fit, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server import MCPServer
    from mcp.server.caching import CacheableMethod
    from mcp_types import CallToolResult

    from inferencesh_mcp.context import Ctx, Request, Shared
    from inferencesh_mcp.resources.templates import Template
    from inferencesh_mcp.settings import Settings

__all__ = ["CACHE_HINTS", "publisher", "register"]

MAX_TOKENS = 19_500  # tokens of text and JSON together: a host shows both to its model
MIN_JSON_TOKENS = 400  # tokens for the JSON, however long the text is

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
        return await _read(Context(request_context=ctx, mcp_server=server), params.uri, *match)

    async def list_page(ctx: Request, params: PaginatedRequestParams) -> ListResourcesResult:
        registered = [] if params.cursor else await server.list_resources()
        try:
            caller = caller_of(ctx)
        except InferenceError:  # no valid key, so there is no caller whose resources could be listed
            return ListResourcesResult(resources=registered)
        page = await list_recent(caller, enabled_templates(settings), params.cursor)
        return page.model_copy(update={"resources": [*registered, *page.resources]})

    async def list_templates(_: Request, __: PaginatedRequestParams) -> ListResourceTemplatesResult:
        own_templates = [template.listed() for template in enabled_templates(settings)]
        return ListResourceTemplatesResult(resource_templates=[*own_templates, *await server.list_resource_templates()])

    async def complete(ctx: Request, params: CompleteRequestParams) -> CompleteResult:
        return CompleteResult(completion=await complete_argument(caller_of(ctx), params))

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


async def _read(ctx: Ctx, uri: str, template: Template, values: dict[str, str]) -> ReadResourceResult:
    """The text and the JSON of the tool of this kind, read with the caller's key (I-10)."""
    result = await template.read(ctx, values)
    return ReadResourceResult(
        contents=_contents(uri, result, with_json=template is not LOGS),
        ttl_ms=STABLE_TTL_MS if template.is_final(result.structured_content or {}) else 0,
        cache_scope="private",  # the caller's: no shared cache may keep it, even if the app is public (T-3)
    )


def _contents(
    uri: str, result: CallToolResult, *, with_json: bool
) -> list[TextResourceContents | BlobResourceContents]:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    contents: list[TextResourceContents | BlobResourceContents] = [
        TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    ]
    if with_json and result.structured_content:
        json_text = as_json(fit(result.structured_content, max(MIN_JSON_TOKENS, MAX_TOKENS - tokens(text))))
        contents.append(TextResourceContents(uri=uri, mime_type="application/json", text=json_text))
    return contents
