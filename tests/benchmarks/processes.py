"""Processes of our own: the command as a host launches it, the sandbox beside it, and what they use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEY = "inf_benchmark"
SANDBOX = ["-m", "inferencesh_mcp", "sandbox", "--port", "0"]
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

# How most hosts still begin.
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "benchmark", "version": "0"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def environ(**settings: str) -> dict[str, str]:
    """What a host hands to a server: little of its own environment, and our settings."""
    names = ("PATH", "HOME", "SYSTEMROOT", "PYTHONPATH")
    return {name: os.environ[name] for name in names if name in os.environ} | settings


def lines(*messages: Any) -> bytes:
    """Messages as they go over a pipe."""
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


@contextmanager
def sandbox(*, older: bool = False) -> Iterator[str]:
    """Serve the sandbox from a process of its own, also in its older form; yields its URL."""
    arguments = [str(Path(__file__).with_name("older_sandbox.py"))] if older else SANDBOX
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ()) as process:
        try:
            assert process.stderr is not None
            yield re.findall(r"http://\S+", process.stderr.readline())[0]
        finally:
            process.terminate()


def children() -> set[int]:
    """The processes that this one started and that still live."""
    texts = [path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for pids in texts for pid in pids.split()}


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU that a process has used, its own and the system's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
