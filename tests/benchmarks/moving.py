"""Large files up and down, and a batch: through the bridge, by curl, and by the official SDK."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import anyio
from anyio import to_thread
from inferencesh import inference
from mcp import Client, StdioServerParameters

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, children, environ, resident, sandbox

SIZE = 512 * 1024 * 1024  # bytes
ROUNDS = 9
BATCH = 200  # runs
AT_ONCE = 8


async def figures() -> list[Figure]:
    with sandbox() as url, tempfile.TemporaryDirectory() as folder:
        before = children()
        settings = environ(INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=url, INFERENCE_SAVE_DIR=folder)
        server = StdioServerParameters(command=sys.executable, args=["-m", "inferencesh_mcp"], env=settings)
        async with Client(server, mode="legacy", read_timeout_seconds=300) as client:
            (pid,) = children() - before
            return [*await _moved(client, pid, url, Path(folder)), *await _batch(client, url)]


async def _moved(client: Client, pid: int, url: str, folder: Path) -> list[Figure]:
    """Each way in turns; what was sent is deleted again, or the sandbox would hold gigabytes."""
    large = folder / "large.bin"
    large.write_bytes(os.urandom(1024 * 1024) * (SIZE // (1024 * 1024)))
    took: dict[str, list[float]] = {"up": [], "down": [], "curl up": [], "curl down": []}
    await _call(client, "file_upload", source="data:text/plain,warm")
    idle, peak = resident(pid), _Peak(pid)
    async with anyio.create_task_group() as group:
        group.start_soon(peak.watch)
        for number in range(ROUNDS):
            ticket = await _call(client, "file_upload", filename="large.bin")
            uri = ticket["uri"]
            send = ["curl", "-sS", "--fail", "-T", str(large), ticket["upload_url"], "-o", "/dev/null"]
            fetch = ["curl", "-sS", "--fail", uri, "-o", str(folder / "curl.bin")]
            await anyio.run_process(send)  # not counted: there must be something to fetch
            ways: dict[str, Callable[[], Awaitable[Any]]] = {
                "curl up": lambda send=send: anyio.run_process(send),
                "up": lambda: _call(client, "file_upload", source=str(large)),
                "curl down": lambda fetch=fetch: anyio.run_process(fetch),
                "down": lambda uri=uri: _call(client, "file_save", uris=[uri]),
            }
            pairs = [("curl up", "up"), ("curl down", "down")]
            for name in [name for pair in pairs for name in (pair if number % 2 else reversed(pair))]:
                _settle(folder, large)
                took[name].append(await _timed(ways[name]))
            for file in (await _call(client, "file_list"))["files"]:
                await _call(client, "file_delete", file=file["file_id"])
        group.cancel_scope.cancel()
    seconds = {name: median(times) for name, times in took.items()}
    whole = SIZE / 1024**2
    return [
        Figure(
            name=f"{whole:.0f} MiB {way}", value=seconds[way], unit="s", base=seconds[f"curl {way}"],
            base_name="curl", aim=1 / 0.9, by_ratio=True,
        )
        for way in ("up", "down")
    ] + [
        Figure(
            name="memory while they move", value=(peak.most - idle) / 1024**2, unit="MiB", base=whole,
            base_name="the file", aim=16,
        )
    ]  # fmt: skip


def _settle(folder: Path, large: Path) -> None:
    """Let each begin alike: nothing to write back, and as much memory just freed as it will take (new memory costs a
    virtual machine more than the copy itself)."""
    _empty(folder, large)
    shutil.copyfile(large, folder / "scratch.bin")
    _empty(folder, large)
    os.sync()


def _empty(folder: Path, keep: Path) -> None:
    for path in folder.iterdir():
        if path != keep:
            path.unlink()


async def _batch(client: Client, url: str) -> list[Figure]:
    official = inference(api_key=KEY, base_url=url)
    inputs = [{"n": number} for number in range(BATCH)]

    def loop() -> None:
        for input_ in inputs:
            official.run({"app": "sandbox/echo", "input": input_})

    def threads() -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda given: official.run({"app": "sandbox/echo", "input": given}), inputs))

    ours = await _timed(
        lambda: _call(client, "app_run_many", app="sandbox/echo", inputs=inputs, max_concurrency=AT_ONCE)
    )
    name = f"a batch of {BATCH}, {AT_ONCE} at once"
    return [
        Figure(
            name=name, value=ours, unit="s", base=await _timed(lambda way=way: to_thread.run_sync(way)), base_name=by, aim=None,
            by_ratio=True,
        )
        for way, by in ((loop, "official SDK in a loop"), (threads, f"the same in {AT_ONCE} threads"))
    ]  # fmt: skip


async def _call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return result.structured_content


async def _timed(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


class _Peak:
    """The most memory that a process held while it was watched."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.most = resident(pid)

    async def watch(self) -> None:
        while True:
            self.most = max(self.most, resident(self._pid))
            await anyio.sleep(0.02)
