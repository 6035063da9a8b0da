"""A warm run of `sandbox/echo`: through the bridge, by the official SDK, and by hand."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
from inferencesh import inference
from mcp import Client, StdioServerParameters

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, environ, sandbox

ROUNDS = 300
WARM = 5  # runs that do not count: connections, the app's schema, late imports
RUN = {"app": "sandbox/echo", "input": {"n": 1}}
NDJSON = {"accept": "application/x-ndjson"}


async def figures() -> list[Figure]:
    with sandbox() as url:
        settings = environ(INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=url)
        bridge = StdioServerParameters(command=sys.executable, args=["-m", "inferencesh_mcp"], env=settings)
        bare = StdioServerParameters(
            command=sys.executable, args=[str(Path(__file__).with_name("bare.py"))], env=environ()
        )
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            Client(bridge, mode="legacy") as client,
            Client(bare, mode="legacy") as bare_client,
            httpx2.AsyncClient(base_url=url, headers=headers) as http,
        ):
            official = inference(api_key=KEY, base_url=url)

            async def through_the_bridge() -> None:
                result = await client.call_tool("app_run", RUN)
                assert not result.is_error, result

            async def by_the_official_sdk() -> None:
                official.run(dict(RUN))

            async def by_hand() -> None:
                await _by_hand(http)

            async def at_least() -> None:
                await bare_client.call_tool("echo", {"text": "n: 1"})
                await _by_hand(http)

            took = await _interleaved(through_the_bridge, by_the_official_sdk, by_hand, at_least)
    return _told(*took)


def _told(ours: float, official: float, by_hand: float, at_least: float) -> list[Figure]:
    def figure(base: float, base_name: str, aim: float | None = None) -> Figure:
        return Figure(
            name="app_run, warm", value=ours, unit="ms", base=base, base_name=base_name, aim=aim, by_ratio=True
        )

    return [
        figure(official, "official SDK", aim=1.1),
        figure(by_hand, "httpx2 by hand, and the charge"),
        figure(at_least, "the same and a call of a bare tool"),
    ]


async def _interleaved(*ways: Callable[[], Awaitable[None]]) -> list[float]:
    """Milliseconds that each way takes, the median of rounds in which each is gone once."""
    took: list[list[float]] = [[] for _ in ways]
    for number in range(-WARM, ROUNDS):
        for way, times in zip(ways, took, strict=True):
            began = time.perf_counter()
            await way()
            if number >= 0:
                times.append(time.perf_counter() - began)
    return [median(times) * 1000 for times in took]


async def _by_hand(http: httpx2.AsyncClient) -> Any:
    """The least that an answer of the bridge needs: POST, the stream to its end, GET, and the charge."""
    task = _data(await http.post("/apps/run", json=RUN))
    async with http.stream("GET", f"/tasks/{task['id']}/stream", headers=NDJSON) as response:
        async for line in response.aiter_lines():
            json.loads(line)
    ended = _data(await http.get(f"/tasks/{task['id']}"))
    return ended, _data(await http.get(f"/tasks/{task['id']}/cost"))


def _data(response: httpx2.Response) -> Any:
    body = response.raise_for_status().json()
    return body.get("data", body)
