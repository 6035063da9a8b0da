"""A warm run of `sandbox/echo`: through the bridge, by the official SDK, and by hand."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import httpx2
from inferencesh import inference
from mcp import Client, StdioServerParameters

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY, environ, sandbox

ROUNDS = 150
WARM = 5  # runs that do not count: connections, the app's schema, late imports
RUN = {"app": "sandbox/echo", "input": {"n": 1}}


async def figures() -> list[Figure]:
    with sandbox() as url, httpx2.Client(headers={"authorization": f"Bearer {KEY}"}) as http:
        settings = environ(INFERENCE_API_KEY=KEY, INFERENCE_BASE_URL=url)
        server = StdioServerParameters(command=sys.executable, args=["-m", "inferencesh_mcp"], env=settings)
        official = inference(api_key=KEY, base_url=url)
        async with Client(server, mode="legacy") as client:

            async def through_the_bridge() -> None:
                result = await client.call_tool("app_run", RUN)
                assert not result.is_error, result

            async def by_the_official_sdk() -> None:
                official.run(dict(RUN))

            async def by_hand() -> None:
                _by_hand(http, url)

            async def listing() -> None:
                await client.list_tools()

            bridge, sdk, bare, round_trip = await _interleaved(
                through_the_bridge, by_the_official_sdk, by_hand, listing
            )
    note = f"medians of {ROUNDS}; asking the same bridge for its tools alone takes {round_trip:.2f} ms"
    return [
        Figure(name="app_run, warm", value=bridge, unit="ms", base=sdk, base_name="official SDK", aim=1, by_ratio=True, note=note),
        Figure(name="app_run, warm", value=bridge, unit="ms", base=bare, base_name="httpx2 by hand", aim=None),
    ]  # fmt: skip


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


def _by_hand(http: httpx2.Client, url: str) -> Any:
    """The least that a run needs: POST, the stream to its end, GET."""
    task = _data(http.post(f"{url}/apps/run", json=RUN))
    with http.stream("GET", f"{url}/tasks/{task['id']}/stream", headers={"accept": "application/x-ndjson"}) as response:
        for _ in response.iter_lines():
            pass
    return _data(http.get(f"{url}/tasks/{task['id']}"))


def _data(response: httpx2.Response) -> Any:
    told = response.raise_for_status().json()
    return told.get("data", told)
