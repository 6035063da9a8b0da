"""Three replicas, thirty callers, three hundred live runs: one replica dies, and then all are replaced in turn."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.transport import Transport
from tests.conftest import MODES, until
from tests.system.replicas.cluster import Cluster, running

CALLERS, EACH = 30, 10
LONG = 600  # seconds of the sandbox's clock, which only the test turns: a run is live until it says
TASK = re.compile(r"\btask (\w+)")
pytestmark = pytest.mark.programs


@dataclass
class Caller:
    """One person, with a key and a host of their own, who has several runs going."""

    number: int
    era: str
    cluster: Cluster
    going_on: bool = True
    """Whether a run that is answered is followed by another."""
    known: dict[float, str] = field(default_factory=dict)
    """The task of each run, by the input that tells it from all others, however it came to be known."""
    live: set[float] = field(default_factory=set)
    """Runs whose task is known and whose call is not answered yet."""
    broken: list[float] = field(default_factory=list)
    """Runs whose call ended without an answer."""
    refused: list[str] = field(default_factory=list)
    """What the calls said that were answered with an error."""
    answered: int = 0
    done: bool = False

    @property
    def key(self) -> str:
        return f"inf_caller{self.number:02}_CANARY"

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        # A proxy that reads its configuration anew closes idle connections, and may close one that is just being used.
        once = httpx2.Limits(max_keepalive_connections=0)
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {self.key}"}, timeout=60, limits=once) as http:
            server = streamable_http_client(f"{self.cluster.url}/mcp", http_client=http)
            async with Client(server, mode=MODES[self.era]) as client:
                yield client

    async def works(self) -> None:
        serial = itertools.count()

        async def lane(client: Client) -> None:
            await self.runs(client, next(serial))
            while self.going_on and not self.refused:
                await self.runs(client, next(serial))

        async with self.client() as client, anyio.create_task_group() as group:
            for _ in range(EACH):
                group.start_soon(lane, client)
        self.done = True

    async def runs(self, client: Client, serial: int) -> None:
        """Run something once. Its length is its name."""
        name = LONG * (1 + serial % EACH / EACH) + self.number / 100 + serial / 1_000_000

        async def hear(_done: float, _total: float | None, message: str | None) -> None:
            if match := TASK.search(message or ""):
                self.known[name] = match[1]
                self.live.add(name)

        try:
            arguments = {"app": "sandbox/slow", "input": {"seconds": name, "steps": 1}}
            result = await client.call_tool("app_run", arguments, progress_callback=hear)
        except (MCPError, httpx2.HTTPError) as exc:
            self.broken.append(name)
            self.refused.append(repr(exc))
            return
        finally:
            self.live.discard(name)
        self.answered += 1
        if result.is_error:
            self.refused.append(str(result.content))
        else:
            self.known[name] = (result.structured_content or {})["task_id"]

    async def looks_for_what_is_missing(self) -> None:
        """As a model would: what the progress did not tell, the list of recent tasks does."""
        if all(name in self.known for name in self.broken):
            return
        async with self.client() as client:
            listed = await client.call_tool("task_list", {"limit": 50})
        ids = {task["task_id"] for task in (listed.structured_content or {})["tasks"]}
        self.known |= {name: task for task, name in (await self.owned()).items() if task in ids}

    async def owned(self) -> dict[str, float]:
        """All tasks that the platform has of this caller, and the names of their runs."""
        transport = Transport(self.cluster.upstream, client="test")
        try:
            tasks = await Api(transport, self.key).list_tasks(limit=100)
        finally:
            await transport.aclose()
        return {task.id: task.input["seconds"] for task in tasks.items}


@pytest.mark.anyio
@pytest.mark.timeout(300)
async def test_a_replica_may_die_and_all_replicas_may_be_replaced(tmp_path: Path) -> None:
    """Whoever a dying replica serves knows each task's id and nobody else notices; being replaced, nobody notices."""
    async with running(tmp_path, replicas=3) as cluster:
        await one_dies(cluster)
        await each_is_replaced(cluster)


async def one_dies(cluster: Cluster) -> None:
    callers = [new_caller(cluster, number, going_on=False) for number in range(CALLERS)]
    async with anyio.create_task_group() as group:
        for caller in callers:
            group.start_soon(caller.works)
        await until(lambda: live(callers) == CALLERS * EACH or any(caller.refused for caller in callers), within=60)
        await cluster.replicas[0].end(signal.SIGKILL)
        await until(lambda: sum(len(caller.broken) for caller in callers) >= CALLERS * EACH / 6, within=60)
        cluster.clock.advance(2 * LONG)
    for caller in callers:
        await caller.looks_for_what_is_missing()
        assert len(caller.known) == EACH
    await all_is_accounted_for(cluster, callers)
    await cluster.replicas[0].start()


async def each_is_replaced(cluster: Cluster) -> None:
    """In turn, while runs end and others begin all the time."""
    before = len(cluster.sandbox.ledger.starts)
    callers = [new_caller(cluster, CALLERS + number, going_on=True) for number in range(CALLERS)]
    async with anyio.create_task_group() as passing, anyio.create_task_group() as group:
        for caller in callers:
            group.start_soon(caller.works)
        await until(lambda: live(callers) == CALLERS * EACH, within=60)
        passing.start_soon(time_passes, cluster, LONG / 100)
        for replica in cluster.replicas:
            await until(lambda: live(callers) >= CALLERS * EACH * 2 / 3, within=60)
            await cluster.take_out(replica)  # as the manifests' pause does, before the signal
            assert await replica.end(signal.SIGTERM) == 128 + signal.SIGTERM
            await replica.start()
            await cluster.put_back()
        for caller in callers:
            caller.going_on = False
        passing.start_soon(time_passes, cluster, LONG)
        await until(lambda: all(caller.done for caller in callers), within=60)
        passing.cancel_scope.cancel()

    assert [] == [refusal for caller in callers for refusal in caller.refused]
    started = len(cluster.sandbox.ledger.starts) - before
    assert started == sum(caller.answered for caller in callers)
    await all_is_accounted_for(cluster, callers)


async def time_passes(cluster: Cluster, seconds: float) -> None:
    """So much of it every tenth of a second."""
    while True:
        await anyio.sleep(0.1)
        cluster.clock.advance(seconds)


async def all_is_accounted_for(cluster: Cluster, callers: list[Caller]) -> None:
    """Each run has one task, each task one run, each caller only their own; and nobody's key was written down."""
    for caller in callers:
        assert {task: name for name, task in caller.known.items()} == await caller.owned()
    assert "CANARY" not in cluster.written()


def new_caller(cluster: Cluster, number: int, *, going_on: bool) -> Caller:
    """Every other host is of the older era."""
    return Caller(number, list(MODES)[number % len(MODES)], cluster, going_on=going_on)


def live(callers: list[Caller]) -> int:
    return sum(len(caller.live) for caller in callers)
