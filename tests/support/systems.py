"""What differs between systems: which tests run, a person's home, programs, and how a process is told to end."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from inferencesh_mcp.hosts.catalogue import Machine

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    from anyio.abc import Process

POSIX = pytest.mark.skipif(
    sys.platform == "win32", reason="not on Windows: links, modes, special files or limits of POSIX"
)
WINDOWS = pytest.mark.skipif(sys.platform != "win32", reason="runs in make windows")
SYSTEM = Machine.this(sys.platform, {}).platform
SIGNALS = (
    (signal.SIGINT, signal.SIGBREAK)[
        : 1 if hasattr(ctypes.windll.ntdll, "wine_get_version") else 2
    ]  # Wine has no Ctrl+Break
    if sys.platform == "win32"
    else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
)
"""What tells a server to end: on Windows, the keys Ctrl+C and Ctrl+Break alone."""
EXIT_CODES = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143, "SIGBREAK": 149}
"""The exit code after each, as the README tells it."""
OWN_CONSOLE = subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0
"""For a process whose keys are pressed: hosts start a server so, in a console without a window."""
PAGE = 4096  # bytes of the smallest pipe
PRESS = """
import ctypes, sys

kernel = ctypes.WinDLL("kernel32", use_last_error=True)

def check(succeeded):
    if not succeeded:
        raise ctypes.WinError(ctypes.get_last_error())

kernel.FreeConsole()
check(kernel.AttachConsole(int(sys.argv[1])))
check(kernel.SetConsoleCtrlHandler(None, True))
for event in sys.argv[2:]:
    check(kernel.GenerateConsoleCtrlEvent(int(event), 0))
"""


def home_variables(home: Path) -> dict[str, str]:
    """The variables of a person whose home folder this is."""
    applications = {"APPDATA": home / "AppData" / "Roaming", "LOCALAPPDATA": home / "AppData" / "Local"}
    windows = {"USERPROFILE": home, **applications} if sys.platform == "win32" else {}
    return {name: str(path) for name, path in {"HOME": home, **windows}.items()}


def program(folder: Path, name: str) -> Path:
    """An empty file that is found as a program of this name."""
    path = folder / (f"{name}.exe" if sys.platform == "win32" else name)
    path.touch(0o755)
    return path


def small_pipe() -> tuple[int, int]:
    """The two ends of a pipe that is full after PAGE bytes."""
    mine, its = os.pipe()
    if sys.platform == "linux":  # elsewhere it is small already
        fcntl.fcntl(its, fcntl.F_SETPIPE_SZ, PAGE)
    return mine, its


async def stop(process: Process, *kinds: signal.Signals) -> None:
    """Send these signals, or the usual one; on Windows, press the keys that it has for them."""
    kinds = kinds or SIGNALS[:1]
    if sys.platform != "win32":
        for kind in kinds:
            process.send_signal(kind)
        return
    keys = {signal.SIGINT: signal.CTRL_C_EVENT, signal.SIGBREAK: signal.CTRL_BREAK_EVENT}
    events = [str(int(keys[kind])) for kind in kinds]
    await anyio.run_process([sys.executable, "-c", PRESS, str(process.pid), *events])
