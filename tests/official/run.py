"""Run the official SDKs against the sandbox: `python tests/official/run.py [--without VERSION]`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import anyio
from checks import Checks
from python_sdk import judge

from inferencesh_mcp.sandbox import Sandbox, serving

HERE = Path(__file__).parent
JS_VERSIONS = ("0.6.54", "0.6.10")
NODE_LIMIT = 60.0
"""Seconds for all flows of one version of the JS SDK."""


def node_folder() -> Path:
    return Path(os.environ.get("OFFICIAL_NODE_DIR") or HERE.parent.parent / ".venv" / "official-node")


async def installed(version: str) -> str:
    """Install one version of the JS SDK where it is not yet; returns why it could not be, or nothing."""
    folder = node_folder() / version
    if (folder / "node_modules" / "@inferencesh" / "sdk").is_dir():
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "js" / version / "package.json", folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit-lockfile-registry-resolved"]
    done = await anyio.run_process(command, cwd=folder, stderr=STDOUT, check=False)
    return done.stdout.decode() if done.returncode else ""


async def judge_js(checks: Checks, url: str, version: str) -> None:
    """Run the flows of one version of the JS SDK in Node, and count what they print."""
    why_not = await installed(version)
    if why_not:
        checks.failure(f"js {version}: can be installed", why_not)
        return
    folder = node_folder() / version
    command = [str(folder / "node_modules" / ".bin" / "tsx"), str(HERE / "js" / "sdk.mjs")]
    env = {**os.environ, "SANDBOX_URL": url, "SDK_FOLDER": str(folder), "SDK_VERSION": version}
    with anyio.move_on_after(NODE_LIMIT) as limit:
        done = await anyio.run_process(command, env=env, stdout=PIPE, stderr=STDOUT, check=False)
        _count(checks, done.stdout.decode(), version)
    if limit.cancelled_caught:
        checks.failure(f"js {version}: ends in time", f"not within {NODE_LIMIT} s")


def _count(checks: Checks, printed: str, version: str) -> None:
    lines = printed.splitlines()
    ended = bool(lines) and lines[-1] == "# all flows ran"
    for line in lines:
        if line.startswith("ok - "):
            checks.success(line.removeprefix("ok - "))
        elif line.startswith("not ok - "):
            name, _, why = line.removeprefix("not ok - ").partition(" # ")
            checks.failure(name, why)
    if not ended:
        checks.failure(f"js {version}: ran to its end", printed[-2000:])


async def main(without: list[str]) -> int:
    checks, sandbox = Checks(), Sandbox()
    async with serving(sandbox) as url:
        await judge(checks, sandbox, url)
        for version in JS_VERSIONS:
            if version not in without:
                await judge_js(checks, url, version)
    return checks.close()


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--without", action="append", default=[], choices=JS_VERSIONS, help="leave a JS version out")
    sys.exit(anyio.run(main, asked.parse_args().without))
