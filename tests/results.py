"""Calling tools as a host does, and what they answer."""

from __future__ import annotations

from typing import Any

import anyio
from mcp import Client
from mcp_types import CallToolResult


async def run(client: Client, app: str, input_: dict[str, Any], **arguments: Any) -> CallToolResult:
    return await client.call_tool("app_run", {"app": app, "input": input_, **arguments})


async def left_at(text: str, client: Client, tool: str, **arguments: Any) -> None:
    """Call a tool, and leave as soon as its progress says this."""
    with anyio.fail_after(20), anyio.CancelScope() as call:

        async def hear(_progress: float, _total: float | None, message: str | None) -> None:
            if message and text in message:
                call.cancel()

        await client.call_tool(tool, arguments, progress_callback=hear)
    assert call.cancelled_caught


def payload(result: CallToolResult) -> Any:
    return result.structured_content


def error(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    return payload(result)["error"]


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")
