"""AutoGen: it makes a typed function of each tool, and calls with a null for what an app lets be null."""

from __future__ import annotations

import re
import sys

import anyio
from autogen_core import CancellationToken
from autogen_ext.tools.mcp import StdioServerParams, mcp_server_tools


async def main() -> None:
    server = StdioServerParams(command=sys.argv[1], args=sys.argv[2:], read_timeout_seconds=30)
    tools = {tool.name: tool for tool in await mcp_server_tools(server)}
    for name, arguments in {
        "app_run": {"app": "sandbox/draw", "input": {"prompt": "a kite"}},
        "draw": {"prompt": "a kite", "seed": None},
    }.items():
        answer = await tools[name].run_json(arguments, CancellationToken())
        text = tools[name].return_value_as_string(answer)
        assert re.search(r"sandbox/draw: completed after .* \(task \w{26}\)", text), text
    print(f"lists {len(tools)} tools, runs an app and a pinned app")  # noqa: T201


anyio.run(main)
