"""Install what a `package.json` pins, from npm and without running any install script; and find the Node it brings."""

from __future__ import annotations

import shutil
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from pathlib import Path


async def installed(pinned: Path, folder: Path) -> str:
    """Install it where it is not yet; returns why it could not be, or nothing."""
    done = folder / "installed.json"
    if done.is_file() and done.read_bytes() == pinned.read_bytes():
        return ""
    shutil.rmtree(folder / "node_modules", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(pinned, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--force"]
    npm = await anyio.run_process(command, cwd=folder, stdout=PIPE, stderr=STDOUT, check=False)
    if npm.returncode:
        return npm.stdout.decode()
    shutil.copy(pinned, done)  # only now: an install that broke off is begun anew
    return ""


def node(folder: Path) -> str:
    """The Node that was installed with it: a package that holds nothing but the binary. Else the machine's own."""
    return next((str(path) for path in sorted(folder.glob("node_modules/node-*/bin/node"))), "node")
