"""OpenAI's agents SDK: it makes a tool's schema strict where it can, and leaves it as it is where it cannot."""

from __future__ import annotations

import re
import sys

import anyio
from agents.mcp import MCPServerStdio
from agents.mcp.util import MCPUtil

FREE = {"app_run", "app_run_many", "agent_chat", "chat_respond"}
"""Tools with an argument that is an object of an app's or agent's own: no strict schema can say that."""


async def main() -> None:
    params = {"command": sys.argv[1], "args": sys.argv[2:]}
    async with MCPServerStdio(params, client_session_timeout_seconds=30) as server:
        offered = await server.list_tools()
        tools = [MCPUtil.to_function_tool(tool, server, convert_schemas_to_strict=True, agent=None) for tool in offered]
        loose = {tool.name for tool in tools if not tool.strict_json_schema}
        assert loose <= FREE, f"not strict: {', '.join(sorted(loose - FREE))}"
        result = await server.call_tool("draw", {"prompt": "a kite", "seed": None})
        assert re.match(r"sandbox/draw: completed after .* \(task \w{26}\)", result.content[0].text), result
    print(f"converts {len(tools)} tools, {len(tools) - len(loose)} of them to strict ones, and runs a pinned app")  # noqa: T201


anyio.run(main)
