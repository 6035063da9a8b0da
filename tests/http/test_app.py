"""The main job in every mode and era, by a real host. All other tests of the `http` way run in the mode of TEST_HTTP_AUTH."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import Client

from inferencesh_sandbox.ids import fingerprint
from tests.conftest import KEY, MODES, Upstream, over_http, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=MODES)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


@asynccontextmanager
async def host(environ: dict[str, str], mode: str, era: str, **changed: str) -> AsyncIterator[Client]:
    with anyio.fail_after(30):
        async with over_http(environ | changed, mode) as server, Client(server, mode=MODES[era]) as client:
            yield client


async def test_a_run_completes_in_every_mode(environ: dict[str, str], upstream: Upstream, mode: str, era: str) -> None:
    """Found, run, watched, with an answer that names its files; and all of it with one key."""
    heard: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async with host(environ, mode, era) as client:
        result = await client.call_tool(
            "app_run", {"app": "sandbox/draw", "input": {"prompt": "a kite", "width": 64, "height": 48}},
            progress_callback=hear,
        )  # fmt: skip

    told: Any = result.structured_content
    assert ("completed", 1) == (told["status"], len(told["files"]))
    assert heard
    assert {fingerprint(KEY)} == {asked.caller for asked in upstream.sandbox.ledger.requests() if asked.caller}


async def test_a_long_run_is_handed_over_and_read_again(environ: dict[str, str], mode: str, era: str) -> None:
    async with host(environ, mode, era, INFERENCE_WAIT_SECONDS="1") as client:
        first = await client.call_tool("app_run", {"app": "sandbox/slow", "input": {"seconds": 1.6, "steps": 2}})
        told: Any = first.structured_content
        then = await client.call_tool("task_get", {"task_id": told["task_id"], "wait_seconds": 20})

    found: Any = then.structured_content
    assert ("completed", told["task_id"]) == (found["status"], found["task_id"])
    assert told["status"] != "completed"


async def test_a_client_that_disconnects_leaves_nothing_running(
    environ: dict[str, str], upstream: Upstream, mode: str, era: str
) -> None:
    async with host(environ, mode, era) as client, anyio.create_task_group() as group:
        group.start_soon(client.call_tool, "app_run", {"app": "sandbox/slow", "input": {"seconds": 30, "steps": 3}})
        await until(lambda: upstream.sandbox.ledger.starts)
        group.cancel_scope.cancel()
    await until(lambda: upstream.sandbox.ledger.cancels)

    assert 1 == len(upstream.sandbox.ledger.cancels)
