"""What the servers of other platforms add to every conversation: `python -m tests.benchmarks.other_servers` prints a table.

They are installed from npm and the Python package index, in the versions named here, and started with a made-up key. No tool
is called.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters

from inferencesh_mcp import __version__

FROM_NPM = {"replicate-mcp": "0.9.0", "@llmindset/hf-mcp-server": "0.4.23"}
FROM_PYTHON = {"elevenlabs-mcp": "0.12.2", "fal-mcp-server": "1.18.0"}
COMMANDS = {
    "replicate-mcp": ("node_modules/.bin/mcp-server", "REPLICATE_API_TOKEN"),
    "@llmindset/hf-mcp-server": ("node_modules/.bin/hf-mcp-server", "DEFAULT_HF_TOKEN"),
    "elevenlabs-mcp": ("python/bin/elevenlabs-mcp", "ELEVENLABS_API_KEY"),
    "fal-mcp-server": ("python/bin/fal-mcp", "FAL_KEY"),
}
"""Each server's program in the folder, and the variable of its key."""
START_SECONDS = 60


async def measure(name: str, command: str, environ: dict[str, str]) -> str:
    """A row of the table: the server, its tools, and their bytes."""
    server = StdioServerParameters(command=command, env={"PATH": os.environ["PATH"], **environ})
    tools = []
    with anyio.fail_after(START_SECONDS):
        async with Client(server) as client:
            page = await client.list_tools()
            tools += page.tools
            while page.next_cursor:
                page = await client.list_tools(cursor=page.next_cursor)
                tools += page.tools
    plain = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    return f"{name:35} {len(tools):3} tools {len(json.dumps(plain, separators=(',', ':'))):7,} bytes"


async def main() -> int:
    ours = Path(sys.executable).with_name("inferencesh-mcp")
    sys.stdout.write(await measure(f"inferencesh-mcp {__version__}", str(ours), {"INFERENCE_SANDBOX": "true"}) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        named = [f"{name}@{version}" for name, version in FROM_NPM.items()]
        await anyio.run_process(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *named], cwd=folder)
        await anyio.run_process([sys.executable, "-m", "venv", "--without-pip", f"{folder}/python"])
        pinned = [f"{name}=={version}" for name, version in FROM_PYTHON.items()]
        pip = [
            os.environ.get("PYTHON", "python3"),
            "-m",
            "pip",
            "--python",
            f"{folder}/python/bin/python",
            "install",
            "-q",
        ]
        await anyio.run_process([*pip, *pinned])
        for name, version in (FROM_NPM | FROM_PYTHON).items():
            program, variable = COMMANDS[name]
            row = await measure(f"{name} {version}", f"{folder}/{program}", {variable: "made-up", "HOME": folder})
            sys.stdout.write(row + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
