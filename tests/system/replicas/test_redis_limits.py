"""What replicas tell each other through Redis, and how they do without."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis.asyncio
from mcp import Client
from mcp.server.subscriptions import ResourceUpdated, ToolsListChanged
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult
from pydantic import SecretStr

from inferencesh_mcp.redis_limits import RedisLimits
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_sandbox import serving
from tests.conftest import KEY, in_memory
from tests.support.clock import TurnedClock
from tests.support.sandbox import Sandbox
from tests.system.conversations.rounds import send_round
from tests.system.replicas.cluster import Redis

pytestmark = [pytest.mark.anyio, pytest.mark.programs]

LONG = {"app": "sandbox/slow", "input": {"seconds": 600, "steps": 1}}


@asynccontextmanager
async def two(
    url: str, elicitation_callback: Any = None, **settings: str
) -> AsyncIterator[tuple[Client, Client, Sandbox]]:
    """Two replicas for one person, who may have two runs; none of them ends before its call is left."""
    sandbox = Sandbox(TurnedClock())
    async with serving(sandbox) as upstream:
        environ = {
            "INFERENCE_API_KEY": KEY,
            "INFERENCE_BASE_URL": upstream,
            "INFERENCE_REDIS_URL": url,
            "INFERENCE_MAX_CONCURRENT_RUNS": "2",
            **settings,
        }
        first, second = (build(Settings.from_environ(environ)) for _ in range(2))
        with anyio.fail_after(30):
            callback = {"elicitation_callback": elicitation_callback}
            async with Client(in_memory(first), **callback) as here, Client(in_memory(second), **callback) as there:
                yield here, there, sandbox


@asynccontextmanager
async def live(client: Client, sandbox: Sandbox, runs: int) -> AsyncIterator[None]:
    """So many runs that last as long as the block."""
    before = len(sandbox.ledger.starts)
    async with anyio.create_task_group() as group:
        for _ in range(runs):
            group.start_soon(client.call_tool, "app_run", LONG)
        while len(sandbox.ledger.starts) < before + runs:
            await anyio.sleep(0.01)
        yield
        group.cancel_scope.cancel()


async def code_of_a_run(client: Client) -> str:
    """How one more run is answered, at once or not at all."""
    with anyio.move_on_after(2):
        result = await client.call_tool("app_run", LONG)
        return (result.structured_content or {})["error"]["code"]
    return ""


async def test_a_callers_limit_is_shared_by_all_replicas(tmp_path: Path) -> None:
    """And a run that is over makes room on all of them."""
    with Redis(tmp_path).running() as url:
        async with two(url) as (here, there, sandbox):
            async with live(here, sandbox, 2):
                assert await code_of_a_run(there) == "rate_limited"
            await nothing_is_held(url)

            assert await code_of_a_run(there) == ""
    assert len(sandbox.ledger.starts) == 3


async def test_one_agreement_to_a_cost_counts_once_on_all_replicas(tmp_path: Path) -> None:
    """The state that the host sends back is sealed for all of them."""
    settings = {"INFERENCE_STATE_KEYS": "k" * 32, "INFERENCE_MAX_RUN_COST": "0.04"}
    call = {"app": "sandbox/slow", "input": {"seconds": 5, "steps": 500}, "wait": False}
    with Redis(tmp_path).running() as url:
        async with two(url, elicitation_callback=decline, **settings) as (here, there, sandbox):
            question = await send_round(here, "app_run", call)
            assert isinstance(question, InputRequiredResult)
            await anyio.sleep(0.35)  # nobody agrees faster
            agreed = await send_round(here, "app_run", call, question)
            again = await send_round(there, "app_run", call, question)

    assert isinstance(agreed, CallToolResult)
    assert isinstance(again, InputRequiredResult), "it is asked anew"
    assert len(sandbox.ledger.starts) == 1


async def decline(_context: Any, _params: ElicitRequestParams) -> ElicitResult:
    """The rounds are sent by hand; this only tells the server that a person can be asked."""
    return ElicitResult(action="decline")


async def nothing_is_held(url: str) -> None:
    connection = redis.asyncio.Redis.from_url(url)
    while await connection.keys("*"):
        await anyio.sleep(0.01)
    await connection.aclose()


async def test_redis_holds_only_hashes_that_expire(tmp_path: Path) -> None:
    with Redis(tmp_path).running() as url:
        connection = redis.asyncio.Redis.from_url(url, decode_responses=True)
        async with two(url) as (here, _, sandbox), live(here, sandbox, 2):
            (key,) = await connection.keys("*")

            assert 0 < await connection.ttl(key) <= 60
            assert KEY not in key + str(await connection.zrange(key, 0, -1))
        await connection.aclose()


async def test_without_redis_each_replica_works_alone_and_logs_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No run is refused, waits or is started twice for it; once it is back, it is used again."""
    shared = Redis(tmp_path)
    async with two(shared.url) as (here, there, sandbox):
        started_at = time.monotonic()
        async with live(here, sandbox, 2), live(there, sandbox, 1):
            assert time.monotonic() - started_at < 4
            assert await code_of_a_run(here) == "rate_limited"
    assert len(sandbox.ledger.starts) == 3
    assert sum("Redis is away" in line.getMessage() for line in caplog.records) == 2  # one for each replica


async def test_a_silent_redis_delays_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """It takes connections and does not answer: worse than none, as it can be waited for."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        async with two(f"redis://:{KEY}@127.0.0.1:{mute.getsockname()[1]}/0") as (here, _, sandbox):
            started_at = time.monotonic()
            async with live(here, sandbox, 2):
                assert time.monotonic() - started_at < 4
    assert KEY not in caplog.text


async def test_limits_are_written_again_to_an_empty_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is away and comes back counts again what is live."""
    monkeypatch.setattr("inferencesh_mcp.redis_limits.RENEW_INTERVAL", 0.2)
    monkeypatch.setattr("inferencesh_mcp.redis_limits.RETRY_PAUSE", 0.1)
    shared = Redis(tmp_path)
    async with two(shared.url) as (here, there, sandbox):
        with shared.running():
            await anyio.lowlevel.checkpoint()
        async with live(here, sandbox, 2):
            with shared.running() as url:
                connection = redis.asyncio.Redis.from_url(url)
                while not await connection.keys("*"):
                    await anyio.sleep(0.05)
                await connection.aclose()
                await anyio.sleep(0.2)

                assert await code_of_a_run(there) == "rate_limited"


async def test_a_change_of_the_tools_reaches_all_replicas(tmp_path: Path) -> None:
    """Whoever listens for something of their own has it watched where they listen."""
    changes: list[Any] = []
    with Redis(tmp_path).running() as url:
        here, there = RedisLimits(SecretStr(url)), RedisLimits(SecretStr(url))
        there.bus.subscribe(changes.append)
        here.bus.subscribe(changes.append)
        async with anyio.create_task_group() as group:
            group.start_soon(here.run)
            group.start_soon(there.run)
            connection = redis.asyncio.Redis.from_url(url)
            while (await connection.pubsub_numsub("inferencesh:changed"))[0][1] < 2:
                await anyio.sleep(0.01)
            await connection.aclose()
            await here.bus.publish(ResourceUpdated("inference://tasks/t"))
            await here.bus.publish(ToolsListChanged())
            with anyio.fail_after(5):
                while len(changes) < 3:
                    await anyio.sleep(0.01)
            await anyio.sleep(0.1)
            group.cancel_scope.cancel()

    assert changes == [ResourceUpdated("inference://tasks/t"), ToolsListChanged(), ToolsListChanged()]
