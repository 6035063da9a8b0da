"""The official SDK 1.6.0: it knows no protocol version after 2024-11-05, and no content type after those."""

from __future__ import annotations

import re
import sys

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main() -> None:
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = (await session.list_tools()).tools
        result = await session.call_tool("app_run", {"app": "sandbox/draw", "input": {"prompt": "a kite"}})
        text = result.content[0].text
        assert not result.isError, text
        assert re.match(r"sandbox/draw: completed after .* \(task \w{26}\)", text), text
    print(f"lists {len(tools)} tools, and has the task id of a picture")  # noqa: T201


anyio.run(main)
