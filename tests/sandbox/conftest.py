"""A sandbox on a loopback port whose clock the test turns, and plain HTTP in front of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx2
import pytest

from inferencesh_sandbox import Facts, serving
from tests.support.clock import TurnedClock
from tests.support.sandbox import Sandbox

ENDED = {10, 11, 12}
LIMIT = 10.0
"""Seconds of real time after which whatever a test waits for has failed."""


@dataclass
class Caller:
    """One key's view of the sandbox."""

    http: httpx2.AsyncClient
    clock: TurnedClock

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        return await self.http.post(path, json=body, headers=headers)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(path, headers=headers)

    async def begin(self, app: str, given: Any, **more: Any) -> dict[str, Any]:
        answer = await self.post("/apps/run", {"app": app, "input": given, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def run(self, app: str, given: Any, **more: Any) -> dict[str, Any]:
        """Run to the end, turning the clock for as long as the run sleeps."""
        task = await self.begin(app, given, **more)
        return (await self.lines(task["id"]))[-1]

    async def lines(self, task_id: str) -> list[dict[str, Any]]:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(self.clock.hurry)
                answer = await self.get(f"/tasks/{task_id}/stream")
                group.cancel_scope.cancel()
        # Not splitlines: U+2028 in a string ends no line of NDJSON.
        return [json.loads(line) for line in answer.content.split(b"\n") if line]

    async def upload(self, body: bytes, **record: Any) -> dict[str, Any]:
        file = (await self.post("/files", {"files": [{"filename": "a.png", **record}]})).json()[0]
        async with httpx2.AsyncClient(verify=False) as stranger:
            answer = await stranger.put(file["upload_url"], content=body)
        assert answer.status_code == 200, answer.text
        return file


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def facts() -> Facts:
    """The newest platform; a test that is about an older one is parametrized with its own."""
    return Facts()


@pytest.fixture
def sandbox(clock: TurnedClock, facts: Facts) -> Sandbox:
    return Sandbox(clock, facts=replace(facts, versioned_answers=True))


@pytest.fixture
async def url(sandbox: Sandbox) -> AsyncIterator[str]:
    async with serving(sandbox) as url:
        yield url


@pytest.fixture
def caller(url: str, clock: TurnedClock) -> Callable[[str], Any]:
    @asynccontextmanager
    async def opened(key: str) -> AsyncIterator[Caller]:
        headers = {"authorization": f"Bearer {key}", "x-api-version": "2"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=LIMIT, verify=False) as http:
            yield Caller(http, clock)

    return opened


@pytest.fixture
async def me(caller: Callable[[str], Any]) -> AsyncIterator[Caller]:
    async with caller("inf_me") as mine:
        yield mine
