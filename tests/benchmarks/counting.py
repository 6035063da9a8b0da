"""What a run asks of the API when nothing fails, counted where it arrives."""

from __future__ import annotations

from collections import Counter

from mcp import Client

from inferencesh_mcp.app import build
from inferencesh_mcp.sandbox import Sandbox, serving
from inferencesh_mcp.settings import Settings
from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY

RUNS = 20
RUN = {"app": "sandbox/echo", "input": {"n": 1}}


async def figures() -> list[Figure]:
    sandbox = Sandbox()
    async with serving(sandbox) as url:
        settings = Settings.from_environ({"INFERENCE_API_KEY": KEY, "INFERENCE_BASE_URL": url})
        async with Client(build(settings)) as client:
            await client.call_tool("app_run", RUN)  # this one also asks what the app takes
            before = len(sandbox.ledger.requests())
            for _ in range(RUNS):
                await client.call_tool("app_run", RUN)
    asked = Counter(_kind(entry.method, entry.path) for entry in sandbox.ledger.requests()[before:])
    told = ", ".join(f"{count / RUNS:g} {kind}" for kind, count in sorted(asked.items()))
    return [
        Figure(
            name="requests of a run", value=asked.total() / RUNS, unit="", base=3, base_name="POST, stream, GET", aim=3,
            exact=True, note=told,
        )
    ]  # fmt: skip


def _kind(method: str, path: str) -> str:
    return "stream" if path.endswith("/stream") else method
