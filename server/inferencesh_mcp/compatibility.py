"""Accept what clients send and the SDK would refuse; leave out what older protocol versions cannot read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from mcp_types import CLIENT_CAPABILITIES_META_KEY, INVALID_PARAMS, RequestParams
from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult

    from inferencesh_mcp.context import Request, Shared
    from inferencesh_mcp.settings import Settings

    JsonObject = dict[str, Any]

LINKS_SINCE = "2025-06-18"  # the first version with resource_link, structuredContent, outputSchema and title
ANNOTATIONS_SINCE = "2025-03-26"  # the first version with annotations of tools
MOST_NAMED = 3  # fields in one error message; a union reports an error for each member


def register(server: MCPServer[Shared], settings: Settings) -> None:
    """Add the middleware of this module to a server."""
    server.middleware.extend((name_wrong_fields, accept_nulls))
    if settings.file_links == "never":
        server.middleware.append(leave_links_out)
    server.middleware.append(fit_to_version)


async def name_wrong_fields(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Say which field of a request is wrong: the SDK says only that some are (F29)."""
    try:
        return await call_next(ctx)
    except ValidationError as exc:
        errors = exc.errors(include_input=False, include_context=False, include_url=False)
        fields = [".".join(str(step) for step in error["loc"]) or "params" for error in errors]
        problems = [f"'{field}': {error['msg']}" for field, error in zip(fields, errors, strict=True)][:MOST_NAMED]
        message = f"Invalid request parameters. {'. '.join(problems)}."
        raise MCPError(code=INVALID_PARAMS, message=message, data={"fields": fields[:MOST_NAMED]}) from None


async def accept_nulls(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Treat a null in `_meta`, or among a client's extensions, as a missing field (F11, F29)."""
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
        if ctx.method == "tools/call":
            _unlink_call(result)
        elif ctx.method == "tasks/get":
            _unlink_call(_object(result.get("result")))
        elif ctx.method == "prompts/get":
            _unlink_prompt(result)
    return result


async def fit_to_version(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Leave out fields that the client's protocol version does not have: older parsers refuse the whole answer (F15)."""
    result = await call_next(ctx)
    if not isinstance(result, dict):
        return result
    version = str(result.get("protocolVersion", "")) if ctx.method == "initialize" else ctx.protocol_version
    if version < LINKS_SINCE and (reduce := _REDUCERS.get(ctx.method)):
        reduce(result, version)
    return result


def _object(value: Any) -> JsonObject:
    """The value itself if it is an object, else an empty object."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def _extensions(capabilities: Any) -> JsonObject:
    return _object(_object(capabilities).get("extensions"))


def _drop_nulls(fields: JsonObject) -> bool:
    """Whether there were any."""
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


def _reduce_initialize(result: JsonObject, _: str) -> None:
    _keep_out(result.get("serverInfo"), "title", "description", "websiteUrl", "icons")
    _keep_out(result.get("capabilities"), "extensions")


def _reduce_tools(result: JsonObject, version: str) -> None:
    too_new = ("title", "outputSchema", "icons", "execution", "_meta")
    for tool in result.get("tools", ()):
        _keep_out(tool, *too_new, *(("annotations",) if version < ANNOTATIONS_SINCE else ()))


def _reduce_named(name: str) -> Callable[[JsonObject, str], None]:
    """For a list of things that have only got a title and icons since."""

    def reduce(result: JsonObject, _: str) -> None:
        for item in result.get(name, ()):
            _keep_out(item, "title", "icons", "_meta")
            for argument in item.get("arguments", ()):
                _keep_out(argument, "title")

    return reduce


def _reduce_call(result: JsonObject, _: str) -> None:
    result.pop("structuredContent", None)
    _unlink_call(result)


def _unlink_call(result: JsonObject) -> None:
    if "content" in result:  # the newer version answers with a task, or asks for something, instead
        result["content"] = _without_links(result["content"])


def _reduce_prompt(result: JsonObject, _: str) -> None:
    _unlink_prompt(result)


def _unlink_prompt(result: JsonObject) -> None:
    for message in result.get("messages", ()):
        [message["content"]] = _without_links([message["content"]])


_REDUCERS: dict[str, Callable[[JsonObject, str], None]] = {
    "initialize": _reduce_initialize,
    "tools/list": _reduce_tools,
    "tools/call": _reduce_call,
    "prompts/list": _reduce_named("prompts"),
    "prompts/get": _reduce_prompt,
    "resources/list": _reduce_named("resources"),
    "resources/templates/list": _reduce_named("resourceTemplates"),
}


def _keep_out(item: Any, *names: str) -> None:
    fields = _object(item)
    for name in names:
        fields.pop(name, None)


def _without_links(content: list[JsonObject]) -> list[JsonObject]:
    """The same content, in which text alone names every file: what no text names yet gets a line."""
    rest = [block for block in content if block.get("type") != "resource_link"]
    texts = [block["text"] for block in rest if block.get("type") == "text"]
    links = [block for block in content if block.get("type") == "resource_link"]
    unnamed = [link for link in links if not any(link["uri"] in text for text in texts)]
    if not unnamed:
        return rest
    lines = {"type": "text", "text": "\n".join(["Files:", *map(_line, unnamed)])}
    return [*rest[: len(texts)], lines, *rest[len(texts) :]]


def _line(link: JsonObject) -> str:
    about = [link["mimeType"]] if link.get("mimeType") else []
    about += [f"{link['size']} bytes"] if link.get("size") is not None else []
    details = f" ({', '.join(about)})" if about else ""
    return f"- {link['name']}{details}: {link['uri']}"
