"""The official MCP client for Node, unmodified, against the server: over stdio and HTTP, in both eras."""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING, Any

import anyio
from npm import installed
from serving import serving

if TYPE_CHECKING:
    from checks import Checks

HERE = Path(__file__).parent
LIMIT = 60.0
"""Seconds for four working days, which pass at the same time."""
COMMAND = [sys.executable, "-m", "inferencesh_mcp"]


def _folder() -> Path:
    return Path(os.environ.get("MCP_CLIENT_DIR") or HERE.parents[2] / ".venv" / "mcp-client-node").absolute()


async def judge_client(checks: Checks, url: str) -> None:
    """Let it do a working day in each way, through the sandbox at `url`, and count what it prints."""
    if why_not := await installed(HERE / "client" / "package.json", _folder()):
        checks.failure("mcp client: can be installed", why_not)
        return
    with tempfile.TemporaryDirectory() as name, anyio.move_on_after(LIMIT) as limit:
        folder = Path(name)
        picture = folder / "holiday.png"
        picture.write_bytes(_picture(120, 80))
        settings = {
            "PATH": os.environ["PATH"],
            "INFERENCE_BASE_URL": url,
            "INFERENCE_WAIT_SECONDS": "1",
            "INFERENCE_PIN": "sandbox/picture-info, sandbox/count, sandbox/slow",
        }
        async with serving(COMMAND, settings) as served:
            ways = [
                _way(kind, era, picture, settings, served) for kind in ("stdio", "http") for era in ("2025", "2026")
            ]
            env = {**os.environ, "CLIENT_FOLDER": str(_folder()), "WAYS": json.dumps(ways)}
            done = await anyio.run_process(
                ["node", str(HERE / "client" / "day.mjs")], env=env, stdout=PIPE, stderr=STDOUT, check=False
            )
            checks.count("mcp client", done.stdout.decode())
    if limit.cancelled_caught:
        checks.failure("mcp client: ends in time", f"not within {LIMIT} s")


def _way(kind: str, era: str, picture: Path, settings: dict[str, str], served: str) -> dict[str, Any]:
    """One way in; each has a key of its own, and so a world of its own."""
    name, key = f"{kind}-{era}", f"inf_client_{kind}_{era}"
    way = {"name": name, "era": era, "picture": str(picture)}
    if kind == "http":
        return {**way, "url": f"{served}", "key": key}
    own = {"INFERENCE_API_KEY": key, "INFERENCE_SAVE_DIR": str(picture.parent)}
    cache = {"INFERENCE_CACHE_DIR": str(picture.parent / "cache" / name)}
    return {**way, "server": {"command": COMMAND[0], "args": COMMAND[1:], "env": settings | own | cache}}


def _picture(width: int, height: int) -> bytes:
    """A PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x20\x80\xc0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
