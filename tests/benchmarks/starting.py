"""From spawn to the answer to `tools/list`, on stdio, as most hosts do it; and how much everyone then carries."""

from __future__ import annotations

import compileall
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import inferencesh_mcp
from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import INITIALIZE, INITIALIZED, environ, lines
from tests.test_contract import MAX_BYTES

PACKAGE = Path(inferencesh_mcp.__file__).parent
PAIRS = 16
BARE = [sys.executable, str(Path(__file__).with_name("bare.py"))]
BRIDGE = [sys.executable, "-m", "inferencesh_mcp"]

_LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}

# What a start does after its imports, without the rest of the process.
_BUILDING = """
import time
from inferencesh_mcp import server, settings
began = time.perf_counter()
server.build(settings.Settings.from_environ({}))
print(time.perf_counter() - began)
"""


def figures() -> list[Figure]:
    compileall.compile_dir(PACKAGE, quiet=1)  # as pip does when it installs what is not editable
    bridge: list[float] = []
    bare: list[float] = []
    for number in range(PAIRS):
        pair = [(BRIDGE, bridge), (BARE, bare)]
        for command, took in pair if number % 2 else reversed(pair):  # neither always comes first
            took.append(_started(command)[0])
    return [
        Figure(
            name="spawn to tools/list",
            value=median(bridge) * 1000,
            unit="ms",
            base=median(bare) * 1000,
            base_name="one tool on the bare SDK",
            aim=1.1,
            by_ratio=True,
            note=_spent(),
        ),
        _size(),
    ]


def _size() -> Figure:
    """Tools as a host is sent them, without white space; the base is what one bare tool takes."""
    bridge, bare = (len(_compact(_started(command)[1]).encode()) for command in (BRIDGE, BARE))
    return Figure(
        name="tools/list", value=bridge, unit="bytes", base=bare, base_name="one tool on the bare SDK", aim=MAX_BYTES
    )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _started(command: list[str]) -> tuple[float, Any]:
    """Seconds from spawn to the whole answer, and the tools in it."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines(INITIALIZE))
        process.stdin.flush()
        process.stdout.readline()
        process.stdin.write(lines(INITIALIZED, _LIST))
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        took = time.perf_counter() - began
        process.stdin.close()
    return took, answer["result"]["tools"]


def _spent() -> str:
    """What the milliseconds of a start go to: imports by package, as `-X importtime` tells them, and building the tools."""
    done = subprocess.run([sys.executable, "-X", "importtime", *BRIDGE[1:]], stdin=subprocess.DEVNULL, capture_output=True, env=environ(), text=True, check=True)  # fmt: skip
    spent: dict[str, float] = {}
    for took, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", done.stderr):
        package = module.partition(".")[0]
        named = package if package in {"inferencesh_mcp", "mcp", "mcp_types", "pydantic", "pydantic_core"} else "others"
        spent[named] = spent.get(named, 0) + int(took) / 1000
    parts = [f"{name} {took:.0f}" for name, took in sorted(spent.items(), key=lambda item: -item[1])]
    building = subprocess.run([sys.executable, "-c", _BUILDING], capture_output=True, env=environ(), text=True, check=True)  # fmt: skip
    return f"ms of import by package: {', '.join(parts)}; building the server and its tools {float(building.stdout) * 1000:.0f}"
