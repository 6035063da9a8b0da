"""FastMCP's client: it holds every answer against its tool's schema."""

from __future__ import annotations

import re
import sys

import anyio
from fastmcp import Client
from fastmcp.client.transports import StdioTransport


async def main() -> None:
    async with Client(StdioTransport(command=sys.argv[1], args=sys.argv[2:]), timeout=30) as client:
        tools = await client.list_tools()
        for name, arguments in {
            "app_run": {"app": "sandbox/draw", "input": {"prompt": "a kite"}},
            "draw": {"prompt": "a kite", "seed": None},
        }.items():
            result = await client.call_tool(name, arguments)
            text = result.content[0].text
            assert re.match(r"sandbox/draw: completed after .* \(task \w{26}\)", text), text
            assert result.structured_content["task_id"] in text
    print(f"lists {len(tools)} tools, runs an app and a pinned app")  # noqa: T201


anyio.run(main)
