"""Install what a `package-lock.json` names, from npm and without running any install script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

LOCK = "package-lock.json"
MINUTES = 10
"""For npm: the hosts are 600 MB."""


def install(pinned: Path, folder: Path) -> Path:
    """Install it into the folder where that is not done yet; returns its `node_modules`."""
    done = folder / "installed.json"  # written last: an install that broke off is begun anew
    if not done.is_file() or done.read_bytes() != (pinned / LOCK).read_bytes():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(pinned / "package.json", folder)
        shutil.copy(pinned / LOCK, folder)
        # Not `npm ci`, which refuses a lock without the programs for other systems: not every registry has those.
        # Forced: the machine's own Node runs npm alone, and may be older than what is installed asks for.
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--force"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60 * MINUTES)
        shutil.copy(pinned / LOCK, done)
    return folder / "node_modules"
