"""Accept what clients send and the SDK would refuse; leave out what older protocol versions cannot read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp_types import CLIENT_CAPABILITIES_META_KEY, INVALID_PARAMS, RequestParams
from pydantic import ValidationError

from inferencesh_mcp.api.json import is_object

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult

    from inferencesh_mcp.context import Request, Shared
    from inferencesh_mcp.settings import Settings

    JsonObject = dict[str, Any]

LINKS_SINCE = "2025-06-18"  # the first version with resource_link, structuredContent, outputSchema and title
ANNOTATIONS_SINCE = "2025-03-26"  # the first version with annotations of tools
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
"""The field of a result that holds the list."""
MAX_NAMED = 3  # fields in one error message; a union reports an error for each member


def register(server: MCPServer[Shared], settings: Settings) -> None:
    """Add the middleware of this module to a server."""
    server.middleware.extend((name_wrong_fields, accept_nulls))
    if settings.file_links == "never":
        server.middleware.append(leave_links_out)
    server.middleware.append(fit_to_version)


async def name_wrong_fields(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Say which field of a request is wrong: the SDK says only that some are."""
    try:
        return await call_next(ctx)
    except ValidationError as exc:
        errors = exc.errors(include_input=False, include_context=False, include_url=False)
        fields = [".".join(str(step) for step in error["loc"]) or "params" for error in errors]
        problems = [f"'{field}': {error['msg']}" for field, error in zip(fields, errors, strict=True)][:MAX_NAMED]
        message = f"Invalid request parameters. {'. '.join(problems)}."
        raise MCPError(code=INVALID_PARAMS, message=message, data={"fields": fields[:MAX_NAMED]}) from None


async def accept_nulls(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Treat a null in `_meta`, or among a client's extensions, as a missing field."""
    params = _object(ctx.params)
    meta = _object(params.get("_meta"))
    changed = _drop_nulls(meta) | _drop_nulls(_extensions(meta.get(CLIENT_CAPABILITIES_META_KEY)))
    if ctx.method == "initialize":
        changed |= _drop_nulls(_extensions(params.get("capabilities")))
    if changed:
        # The params are changed in place, because the SDK reads those of `initialize` again after all middleware.
        ctx = replace(ctx, meta=_parsed_meta(params))
    return await call_next(ctx)


async def leave_links_out(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Leave links out, because INFERENCE_FILE_LINKS says that the client fails on them. The text then names every file."""
    result = await call_next(ctx)
    if isinstance(result, dict):
        _remove_links(ctx.method, result)
    return result


async def fit_to_version(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Leave out fields that the client's protocol version does not have: older parsers refuse the whole answer."""
    result = await call_next(ctx)
    if isinstance(result, dict):
        version = str(result.get("protocolVersion", "")) if ctx.method == "initialize" else ctx.protocol_version
        if version < LINKS_SINCE:
            _remove_new_fields(ctx.method, result, version)
            _remove_links(ctx.method, result)
    return result


def _object(value: Any) -> JsonObject:
    """The value itself if it is an object, else an empty object."""
    return value if is_object(value) else {}


def _extensions(capabilities: Any) -> JsonObject:
    return _object(_object(capabilities).get("extensions"))


def _drop_nulls(fields: JsonObject) -> bool:
    """Remove fields that are null. Return whether there were any."""
    nulls = [name for name, value in fields.items() if value is None]
    for name in nulls:
        del fields[name]
    return bool(nulls)


def _parsed_meta(params: JsonObject) -> Any:
    """Parse `_meta` as the SDK does; it failed at the null."""
    try:
        return RequestParams.model_validate(params, by_name=False).meta
    except ValidationError:
        return None


def _remove_new_fields(method: str, result: JsonObject, version: str) -> None:
    if method == "initialize":
        _remove(result.get("serverInfo"), "title", "description", "websiteUrl", "icons")
        _remove(result.get("capabilities"), "extensions")
    elif method == "tools/call":
        _remove(result, "structuredContent")
    for item in result.get(LISTS.get(method, ""), ()):
        _remove(item, "title", "outputSchema", "icons", "execution", "_meta")
        if method == "tools/list" and version < ANNOTATIONS_SINCE:
            _remove(item, "annotations")
        for argument in item.get("arguments", ()):
            _remove(argument, "title")


def _remove_links(method: str, result: JsonObject) -> None:
    if method == "tasks/get":
        result = _object(result.get("result"))
    if method == "prompts/get":
        for message in result.get("messages", ()):
            [message["content"]] = _without_links([message["content"]])
    elif method in {"tools/call", "tasks/get"} and "content" in result:  # it may be a task or a question instead
        result["content"] = _without_links(result["content"])


def _remove(item: Any, *names: str) -> None:
    fields = _object(item)
    for name in names:
        fields.pop(name, None)


def _without_links(content: list[JsonObject]) -> list[JsonObject]:
    """The content without links. A file that no text names gets a line of text."""
    rest = [block for block in content if block.get("type") != "resource_link"]
    texts = [block["text"] for block in rest if block.get("type") == "text"]
    links = [block for block in content if block.get("type") == "resource_link"]
    unnamed = [link for link in links if not any(link["uri"] in text for text in texts)]
    if not unnamed:
        return rest
    lines = {"type": "text", "text": "\n".join(["Files:", *map(_line, unnamed)])}
    return [*rest[: len(texts)], lines, *rest[len(texts) :]]


def _line(link: JsonObject) -> str:
    details = [link["mimeType"]] if link.get("mimeType") else []
    details += [f"{link['size']} bytes"] if link.get("size") is not None else []
    in_brackets = f" ({', '.join(details)})" if details else ""
    return f"- {link['name']}{in_brackets}: {link['uri']}"
