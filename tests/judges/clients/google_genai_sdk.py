"""Google's own SDK: it converts the tools of a session as `generate_content(tools=[session])` does, before it asks a model."""

from __future__ import annotations

import sys

import anyio
from google.genai._mcp_utils import mcp_to_gemini_tools
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main() -> None:
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        offered = (await session.list_tools()).tools
    declared = [function for tool in mcp_to_gemini_tools(offered) for function in tool.function_declarations]
    assert [function.name for function in declared] == [tool.name for tool in offered]
    print(f"converts {len(declared)} tools")  # noqa: T201


anyio.run(main)
