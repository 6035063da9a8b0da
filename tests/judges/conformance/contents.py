"""What the suite expects to find on a server besides its own features: tools, resources and prompts with fixed contents.

Each name and each text is the suite's; its scenarios say what they look for.
"""

from __future__ import annotations

import base64
import struct
import warnings
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from mcp import MCPDeprecationWarning
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field

from inferencesh_sandbox.apps import png

if TYPE_CHECKING:
    from mcp.server import MCPServer

PAUSE = 0.05  # seconds that the suite wants between two messages
PICTURE = base64.b64encode(png.encode(png.Raster(1, 1, (b"\xff\0\0",)))).decode()
SOUND = base64.b64encode(
    b"RIFF"
    + struct.pack("<I", 36)
    + b"WAVEfmt "
    + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    + b"data\0\0\0\0"
).decode()

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def text(content: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=content)])


async def test_simple_text() -> CallToolResult:
    """A text."""
    return text("This is a simple text response for testing.")


async def test_image_content() -> CallToolResult:
    """A picture."""
    return CallToolResult(content=[ImageContent(data=PICTURE, mime_type="image/png")])


async def test_audio_content() -> CallToolResult:
    """A sound."""
    return CallToolResult(content=[AudioContent(data=SOUND, mime_type="audio/wav")])


async def test_embedded_resource() -> CallToolResult:
    """A resource inside an answer."""
    return CallToolResult(
        content=[_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
    )


async def test_multiple_content_types() -> CallToolResult:
    """One of each."""
    return CallToolResult(
        content=[
            TextContent(text="Multiple content types test:"),
            ImageContent(data=PICTURE, mime_type="image/png"),
            _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ]
    )


async def test_tool_with_logging(ctx: Context[Any, Any]) -> CallToolResult:
    """Three messages of the older protocol's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        await ctx.info("Tool execution started")
        await anyio.sleep(PAUSE)
        await ctx.info("Tool processing data")
        await anyio.sleep(PAUSE)
        await ctx.info("Tool execution completed")
    return text("Tool with logging executed successfully")


async def test_tool_with_progress(ctx: Context[Any, Any]) -> CallToolResult:
    """Three reports of progress."""
    await ctx.report_progress(0, 100)
    await anyio.sleep(PAUSE)
    await ctx.report_progress(50, 100)
    await anyio.sleep(PAUSE)
    await ctx.report_progress(100, 100)
    return text("Tool with progress executed successfully")


async def test_error_handling() -> CallToolResult:
    """Fails."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_logging_tool(ctx: Context[Any, Any]) -> CallToolResult:
    """Tells nothing to whoever asked for no log."""
    return await test_tool_with_logging(ctx)


async def test_trigger_tool_change(ctx: Context[Any, Any]) -> CallToolResult:
    """Says that the list of tools is another."""
    await ctx.notify_tools_changed()
    return text("Told.")


async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> CallToolResult:
    """Says that the list of prompts is another."""
    await ctx.notify_prompts_changed()
    return text("Told.")


async def json_schema_2020_12_tool() -> CallToolResult:
    """Tool with JSON Schema 2020-12 features"""
    return text("Called.")


async def test_header_parameter(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> CallToolResult:
    """Takes a parameter that is mirrored into a header."""
    return text(region)


TOOLS = (
    test_simple_text, test_image_content, test_audio_content, test_embedded_resource, test_multiple_content_types,
    test_tool_with_logging, test_tool_with_progress, test_error_handling, test_logging_tool,
    test_header_parameter, test_trigger_tool_change, test_trigger_prompt_change,
)  # fmt: skip


def register(server: MCPServer[Any]) -> None:
    """Put all of it on a server; what the server has of its own stays as it is."""
    for tool in TOOLS:
        server.add_tool(tool)
    exact = Tool.from_function(json_schema_2020_12_tool)
    exact.parameters = SCHEMA
    server._tool_manager._tools[exact.name] = exact
    _register_resources(server)
    _register_prompts(server)
    _register_older(server)


def _register_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """A picture."""
        return base64.b64decode(PICTURE)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> dict[str, Any]:  # noqa: A002 - the suite's word
        """A template."""
        return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched_resource() -> str:
        """Something to subscribe to."""
        return "Watched."


def _register_prompts(server: MCPServer[Any]) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """A text."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's word
        """A resource inside a prompt."""
        embedded = _embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(embedded), UserMessage("Please process the embedded resource above.")]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A picture inside a prompt."""
        picture = ImageContent(data=PICTURE, mime_type="image/png")
        return [UserMessage(picture), UserMessage("Please analyze the image above.")]


def _register_older(server: MCPServer[Any]) -> None:
    """What only the older protocol has, where the server does not serve it itself."""

    async def taken(*_: Any) -> EmptyResult:
        return EmptyResult()

    low = server._lowlevel_server
    for method, params in (
        ("logging/setLevel", SetLevelRequestParams),
        ("resources/subscribe", SubscribeRequestParams),
        ("resources/unsubscribe", UnsubscribeRequestParams),
    ):
        if low.get_request_handler(method) is None:
            low.add_request_handler(method, params, taken)
    if low.get_request_handler("completion/complete") is None:

        @server.completion()
        async def nothing(*_: Any) -> None:
            """No suggestion."""


def _embedded(uri: str, mime_type: str, content: str) -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=content))
