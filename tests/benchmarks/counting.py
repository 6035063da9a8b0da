"""What a run asks of the API when nothing fails, and what calls ask of one that is down, counted where it arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from mcp import Client

from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_sandbox import serving
from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import KEY
from tests.support.faults import Status
from tests.support.sandbox import Sandbox

RUNS = 20
RUN = {"app": "sandbox/echo", "input": {"n": 1}}
CALLS = 600  # of an API that is down: ten a second for a minute


async def figures() -> list[Figure]:
    return [await _when_nothing_fails(), *await _when_it_is_down()]


async def _when_nothing_fails() -> Figure:
    sandbox = Sandbox()
    async with _client(sandbox) as client:
        await client.call_tool("app_run", RUN)  # this one also asks what the app takes
        before = len(sandbox.ledger.requests())
        for _ in range(RUNS):
            await client.call_tool("app_run", RUN)
    asked = Counter(_kind(entry.method, entry.path) for entry in sandbox.ledger.requests()[before:])
    text = ", ".join(f"{count / RUNS:g} {kind}" for kind, count in sorted(asked.items()))
    return Figure(
        name="requests of a run", value=asked.total() / RUNS, unit="", base=4, base_name="POST, stream, GET, charge", aim=4,
        exact=True, note=text,
    )  # fmt: skip


async def _when_it_is_down() -> list[Figure]:
    """Once the budget of retries is used up. No pause takes any time: the budget knows no clock."""
    sandbox = Sandbox()
    async with _client(sandbox, sleep=_at_once) as client:

        async def asked(tool: str, **arguments: Any) -> int:
            before = len(sandbox.ledger.requests())
            result = await client.call_tool(tool, arguments)
            assert result.is_error, result
            return len(sandbox.ledger.requests()) - before

        ran = await client.call_tool("app_run", RUN)
        task = (ran.structured_content or {})["task_id"]
        sandbox.faults.add(Status(code=503), times=-1)
        retried = 0
        with anyio.fail_after(60):
            while (requests := await asked("task_get", task_id=task)) > 1:
                retried += requests - 1
        reads = [await asked("task_get", task_id=task) for _ in range(CALLS)]
        runs = await asked("app_run", **RUN)
    return [
        Figure(
            name=f"requests of {CALLS} calls, API down", value=sum(reads), unit="", base=CALLS, base_name="one each", aim=1.2,
            by_ratio=True, note=f"once the caller's budget was used up, by {retried} retries",
        ),
        Figure(
            name="requests of a run, API down", value=runs, unit="", base=1, base_name="its POST", aim=None,
            note="the others look for its task: who answers so may have started it",
        ),
    ]  # fmt: skip


@asynccontextmanager
async def _client(sandbox: Sandbox, **time: Any) -> AsyncIterator[Client]:
    """Of a server in this process that has this sandbox for its API."""
    async with serving(sandbox) as url:
        settings = Settings.from_environ({"INFERENCE_API_KEY": KEY, "INFERENCE_BASE_URL": url})
        async with Client(build(settings, network=partial(Transport, **time))) as client:
            yield client


async def _at_once(_seconds: float) -> None:
    await checkpoint()


def _kind(method: str, path: str) -> str:
    return {"stream": "stream", "cost": "charge"}.get(path.rpartition("/")[2], method)
