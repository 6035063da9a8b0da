"""A turn with `sandbox/assistant`: its first word and all of it, through the bridge and by the official SDK; and many."""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

import anyio
from anyio import to_thread
from inferencesh import inference
from mcp import Client, StdioServerParameters

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, children, environ, resident, sandbox

ROUNDS = 6
MANY = 200
AGENT = "sandbox/assistant"
MESSAGE = "Write 100 words"  # two seconds of talk: a short answer of a model


async def figures() -> list[Figure]:
    with sandbox(older=True) as url:
        before = children()
        settings = environ(INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=url, INFERENCE_LOG_LEVEL="ERROR")
        server = StdioServerParameters(command=sys.executable, args=["-m", "inferencesh_mcp"], env=settings)
        async with Client(server, mode="legacy", read_timeout_seconds=120) as client:
            (pid,) = children() - before
            ours, official = [], []
            for number in range(-1, ROUNDS):
                pair = await _ours(client), await to_thread.run_sync(_official, url)
                if number >= 0:
                    ours.append(pair[0])
                    official.append(pair[1])
            return [*_told(ours, official), await _many(client, pid)]


def _told(ours: list[tuple[float, float]], official: list[tuple[float, float]]) -> list[Figure]:
    first, whole = (median(column) * 1000 for column in zip(*ours, strict=True))
    sdk_first, sdk_whole = (median(column) * 1000 for column in zip(*official, strict=True))
    return [
        Figure(
            name="first word of an answer", value=first, unit="ms", base=sdk_first, base_name="official SDK",
            aim=sdk_first + 10,
        ),
        Figure(
            name="a whole turn", value=whole, unit="ms", base=sdk_whole, base_name="official SDK", aim=1, by_ratio=True,
            note=f"{whole - sdk_whole:.1f} ms longer, of any turn: the hop over stdio",
        ),
    ]  # fmt: skip


async def _ours(client: Client) -> tuple[float, float]:
    """Seconds to the first progress that carries words, and to the answer."""
    began, first = time.perf_counter(), []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        if message and message.count(" · ") > 2:
            first.append(time.perf_counter() - began)

    result = await client.call_tool("agent_chat", {"message": MESSAGE, "agent": AGENT}, progress_callback=hear)
    assert not result.is_error, result
    return first[0], time.perf_counter() - began


def _official(url: str) -> tuple[float, float]:
    began, first = time.perf_counter(), []

    def hear(*_delta: Any) -> None:
        first.append(time.perf_counter() - began)

    agent = inference(api_key=KEY, base_url=url).agent(AGENT)
    agent.send_message(MESSAGE, on_delta=hear)
    return first[0], time.perf_counter() - began


async def _many(client: Client, pid: int) -> Figure:
    """So many chats at once in one bridge: memory that each holds while it is answered."""
    idle, peak = resident(pid), 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, resident(pid))
            await anyio.sleep(0.05)

    async def chat() -> None:
        result = await client.call_tool("agent_chat", {"message": MESSAGE, "agent": AGENT})
        assert not result.is_error, result

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        async with anyio.create_task_group() as chats:
            for _ in range(MANY):
                chats.start_soon(chat)
        group.cancel_scope.cancel()
    return Figure(
        name=f"memory of one of {MANY} chats", value=(peak - idle) / MANY / 1024, unit="KiB", base=idle / 1024,
        base_name="the bridge before", aim=None,
    )  # fmt: skip
