"""Run the official SDKs against the sandbox, and the official MCP client for Node against the server, all unmodified."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import anyio

sys.path.append(str(Path(__file__).parents[3]))  # for tests.support

from checks import Checks
from mcp_client import judge_client
from npm import installed
from python_agents import FLOWS as AGENT_FLOWS
from python_agents import STREAMED
from python_sdk import FLOWS, judge

from inferencesh_sandbox import Facts, serving
from tests.support.sandbox import Sandbox

HERE = Path(__file__).parent
JS_VERSION = "0.6.54"  # pinned in js/package.json
AS_THE_SDKS_READ_IT = Facts(
    versioned_answers=True,
    messages_preloaded=True,
    run_end_events=False,
    errors_in_messages=True,
    keys_answer_questions=True,
    always_allow_options=False,
    explanations=False,
)
"""What the SDKs read of a chat: its messages with it, and the names of tools that are always allowed. As it was before."""
NODE_LIMIT = 60.0
"""Seconds for all flows of the JS SDK."""


def node_folder() -> Path:
    return Path(os.environ.get("OFFICIAL_NODE_DIR") or HERE.parents[2] / ".venv" / "official-node")


async def judge_js(checks: Checks, url: str) -> None:
    """Run the flows of the JS SDK in Node, and count what they print."""
    folder = node_folder() / JS_VERSION
    if why_not := await installed(HERE / "js" / "package.json", folder):
        checks.failure("js: can be installed", why_not)
        return
    command = [str(folder / "node_modules" / ".bin" / "tsx"), str(HERE / "js" / "sdk.mjs")]
    env = {**os.environ, "SANDBOX_URL": url, "SDK_FOLDER": str(folder), "SDK_VERSION": JS_VERSION}
    with anyio.move_on_after(NODE_LIMIT) as limit:
        done = await anyio.run_process(command, env=env, stdout=PIPE, stderr=STDOUT, check=False)
        checks.count("js", done.stdout.decode())
    if limit.cancelled_caught:
        checks.failure("js: ends in time", f"not within {NODE_LIMIT} s")


async def main() -> int:
    checks, sandbox, newest = Checks(), Sandbox(facts=AS_THE_SDKS_READ_IT), Sandbox(facts=Facts(versioned_answers=True))
    async with serving(newest) as url:
        await judge(checks, newest, url, STREAMED)
    async with serving(sandbox) as url:
        await judge(checks, sandbox, url, (*FLOWS, *AGENT_FLOWS))
        await judge_js(checks, url)
        await judge_client(checks, url)
    return checks.close()


if __name__ == "__main__":
    sys.exit(anyio.run(main))
