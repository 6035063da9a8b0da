"""Microsoft's Semantic Kernel: it makes a function of each tool, and calls it by way of its own kernel.

It loses an answer that has a link in it (its `BinaryContent` takes no `AnyUrl`), so it is given none.
"""

from __future__ import annotations

import re
import sys

import anyio
from semantic_kernel import Kernel
from semantic_kernel.connectors.mcp import MCPStdioPlugin


async def main() -> None:
    async with MCPStdioPlugin(
        name="inference", command=sys.argv[1], args=sys.argv[2:], load_prompts=False, request_timeout=30
    ) as plugin:
        kernel = Kernel()
        functions = kernel.add_plugin(plugin).functions
        for name, arguments in {
            "app_run": {"app": "sandbox/draw", "input": {"prompt": "a kite"}},
            "draw": {"prompt": "a kite", "seed": None},
        }.items():
            answer = await kernel.invoke(functions[name], **arguments)
            text = str(answer.value[0])
            assert re.search(r"sandbox/draw: completed after .* \(task \w{26}\)", text), text
    print(f"lists {len(functions)} tools, runs an app and a pinned app")  # noqa: T201


anyio.run(main)
