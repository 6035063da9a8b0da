"""Let clients that nobody here wrote judge the server: `python -m tests.judges.clients`, a line each.

Each client is a program of its own in this folder. It is given the command that starts the server, does with it what its
users do, and ends with 0. `make clients` sets up what they run in: the Node packages of `package.json`, and an environment
for each `*.lock`, because no two of those can share one.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

import anyio

from tests.judges import npm

HERE = Path(__file__).parent
ENVIRONMENTS = Path(sys.prefix) / "judges"
PINS = "sandbox/draw,sandbox/slow"
"""Apps with a field that may be null, which two of the clients once could not read."""
LIMIT = 90
"""Seconds for one client: the slowest takes 10 to import, alone on the machine."""
AT_ONCE = 2


@dataclass(frozen=True)
class Client:
    title: str
    program: str
    environment: str = ""
    """Where a Python program runs; empty for Node."""
    settings: tuple[str, ...] = ()
    """What its users need to set."""


CLIENTS = (
    Client("@langchain/google-genai 2.3.2", "langchain_google_genai.mjs"),
    Client("@ai-sdk/mcp 2.0.99", "ai_sdk.mjs"),
    Client("official SDK for Node 1.10.2", "official_sdk.mjs"),
    Client("google-genai 3.6.1", "google_genai_sdk.py", "agents"),
    Client("AutoGen 0.7.5", "autogen_tools.py", "agents"),
    Client("Semantic Kernel 1.45.0", "semantic_kernel_sdk.py", "agents", ("--file-links=never",)),
    Client("openai-agents 0.24.0", "openai_agents_sdk.py", "agents"),
    Client("mcpo 0.0.20", "mcpo_proxy.py", "agents"),
    Client("FastMCP 4.2.3", "fastmcp_client.py", "fastmcp"),
    Client("official SDK for Python 1.6.0", "official_python.py", "official"),
)


async def judge(client: Client, scratch: Path) -> str:
    """Why the client could not work with the server; empty where it could, once its line is printed."""
    server = [sys.executable, "-m", "inferencesh_mcp", "--sandbox", f"--pin={PINS}", f"--cache-dir={scratch / 'cache'}"]
    if client.environment:
        command = [ENVIRONMENTS / client.environment / "bin" / "python", HERE / client.program]
    else:
        command = ["node", scratch / client.program]
    server += client.settings
    output = f"not done within {LIMIT} s"
    began = time.monotonic()
    with anyio.move_on_after(LIMIT):
        done = await anyio.run_process(
            [*map(str, command), *server],
            cwd=scratch,
            env=_environ(scratch),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            check=False,
        )
        output = done.stdout.decode(errors="replace").strip()
        if done.returncode == 0:
            seconds = time.monotonic() - began
            print(f"ok - {client.title}: {output.splitlines()[-1]} ({seconds:.0f} s)", flush=True)  # noqa: T201
            return ""
    print(f"failed - {client.title}: {_reason(output)}", flush=True)  # noqa: T201
    return output


def _environ(scratch: Path) -> dict[str, str]:
    """No variable of ours, no key of anybody's, and a home that is thrown away."""
    return {"PATH": os.environ["PATH"], "HOME": str(scratch)}


def _reason(output: str) -> str:
    """The line that names the error: the last that says so, else the last."""
    lines = [line.strip(" |+-") for line in output.splitlines() if line.strip(" |+-")] or ["no output"]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines)[-1][:300]


async def main() -> int:
    packages = npm.install(HERE, ENVIRONMENTS / "node")
    failures = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "node_modules").symlink_to(packages)  # Node looks for packages beside the program
        for program in HERE.glob("*.mjs"):
            (scratch / program.name).write_bytes(program.read_bytes())
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def judged(client: Client) -> None:
            async with limiter:
                if why := await judge(client, scratch):
                    failures[client.title] = why

        async with anyio.create_task_group() as group:
            for client in CLIENTS:
                group.start_soon(judged, client)
    for title, why in failures.items():
        print(f"\n# {title}\n{why[-4000:]}", file=sys.stderr)  # noqa: T201
    print(f"{len(CLIENTS) - len(failures)} passed, {len(failures)} failed", flush=True)  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
