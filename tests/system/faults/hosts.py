"""A host whose every message is written down, and a judge who compares what it was told with what really happened."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from tests.conftest import Way, until
from tests.support.sandbox import Sandbox

LIMIT = 45.0
"""Seconds after which a test has failed, whatever it waits for."""
MEMORY = (Way("memory", "2025"), Way("memory", "2026"))
PIPE, HTTP = NEAR = (Way("memory", "2025"), Way("http", "2026"))
"""Servers in this process, a pipe's and one that listens: their limits can be shortened, and their pauses are."""
STDIO = (Way("stdio", "2025"), Way("stdio", "2026"))
DISKS = (*MEMORY, STDIO[0])
"""A server that listens has no disk for its callers, so what is on a disk goes wrong on pipes alone."""


def over(*ways: Way) -> pytest.MarkDecorator:
    """Run a test over these ways in, instead of both that are near and one process."""
    return pytest.mark.parametrize("way", ways, ids=str)


@dataclass(frozen=True)
class Frame:
    """One message, as the host saw it."""

    by_host: bool
    """By the host, rather than by the server."""
    message: dict[str, Any]

    @property
    def id(self) -> Any:
        return self.message.get("id")

    @property
    def method(self) -> str:
        return self.message.get("method", "")

    @property
    def params(self) -> dict[str, Any]:
        return self.message.get("params") or {}


@dataclass
class Host:
    """A real MCP client in front of a server, and all that passed between them."""

    client: Client
    hurries: bool
    """A server that is near: its pauses are short, and so can its runs be."""
    frames: list[Frame]
    slept: list[float]
    """The pauses that a server that is near made."""
    read_log: Callable[[], str]

    async def run(self, app: str, input_: dict[str, Any], **arguments: Any) -> CallToolResult:
        return await self.call("app_run", app=f"sandbox/{app}", input=input_, **arguments)

    def slow(self, seconds: float, steps: int) -> dict[str, Any]:
        """What the app `slow` is given to take so long, or a fifth of it nearby."""
        return {"seconds": seconds / 5 if self.hurries else seconds, "steps": steps}

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        async def ignore(_progress: float, _total: float | None, _message: str | None) -> None:
            """The frames tell."""

        return await self.client.call_tool(tool, arguments, progress_callback=ignore)

    async def cancelled_at(self, moment: Callable[[], Any], app: str, input_: dict[str, Any], **more: Any) -> None:
        """Run an app, and cancel the call as soon as `moment` has come."""
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(self.run, app, input_, **more))
            await moment()
            group.cancel_scope.cancel()

    @property
    def runs(self) -> list[Frame]:
        """The calls of `app_run` that this host made."""
        return [frame for frame in self.frames if frame.method == "tools/call" and frame.params["name"] == "app_run"]

    def progress_of(self, call: Frame) -> list[dict[str, Any]]:
        token = call.params["_meta"]["progressToken"]
        updates = [frame.params for frame in self.frames if frame.method == "notifications/progress"]
        return [params for params in updates if params["progressToken"] == token]

    def messages_about(self, call: Frame) -> list[Frame]:
        """All that the server said about a call, in order."""
        token = call.params["_meta"]["progressToken"]
        messages = [frame for frame in self.frames if not frame.by_host]
        return [frame for frame in messages if frame.id == call.id or frame.params.get("progressToken") == token]

    def answers_to(self, call: Frame) -> list[dict[str, Any]]:
        return [frame.message for frame in self.frames if not frame.by_host and frame.id == call.id]

    async def until_progress(self, text: str) -> None:
        """Wait until some progress says this."""
        await until(lambda: any(text in frame.params.get("message", "") for frame in self.frames if not frame.by_host))


Hosted = Callable[..., AbstractAsyncContextManager[Host]]


@asynccontextmanager
async def recorded(transport: Any, frames: list[Frame]) -> AsyncIterator[Any]:
    """The same streams, with every message written down as it passes."""
    async with transport as (read, write), anyio.create_task_group() as group:

        async def relay(source: Any, target: Any, *, by_host: bool) -> None:
            async with source, target:
                async for item in source:
                    frames.append(
                        Frame(by_host, item.message.model_dump(by_alias=True, exclude_unset=True, mode="json"))
                    )
                    with suppress(anyio.BrokenResourceError):  # whoever it is for has left
                        await target.send(item)

        to_client, from_server = anyio.create_memory_object_stream[Any](0)
        to_server, from_client = anyio.create_memory_object_stream[Any](0)
        group.start_soon(functools.partial(relay, read, to_client, by_host=False))
        group.start_soon(functools.partial(relay, from_client, write, by_host=True))
        yield from_server, to_server
        group.cancel_scope.cancel()


def judge(host: Host, sandbox: Sandbox, *, starts: int, cancels: int = 0, twice: bool = False) -> None:
    """Compare what the host was told with the ledger: invariants I-1 to I-7, as far as one host can see them.

    `twice`: the sandbox was told to make two tasks of one request.
    """
    ledger = sandbox.ledger
    assert (starts, cancels) == (len(ledger.starts), len(ledger.cancels)), (ledger.starts, ledger.cancels)
    assert starts <= len(host.runs) * (2 if twice else 1), "I-1: at most one start for each call"
    _nothing_is_lost(host, sandbox)
    for call in host.runs:
        _is_well_told(host, call)
        for answer in host.answers_to(call):
            _is_honest(answer["result"], sandbox, alone=len(host.runs) == 1)


def _nothing_is_lost(host: Host, sandbox: Sandbox) -> None:
    """I-2: every task reached the host or the log, or was cancelled."""
    shown = str([frame.message for frame in host.frames if not frame.by_host]) + host.read_log()
    cancelled = {cancel.task_id for cancel in sandbox.ledger.cancels}
    for start in sandbox.ledger.starts:
        assert start.task_id in cancelled or start.task_id in shown, f"I-2: {start.task_id} is lost"


def _is_well_told(host: Host, call: Frame) -> None:
    numbers = [params["progress"] for params in host.progress_of(call)]
    assert sorted(set(numbers)) == numbers, "I-6: progress strictly increases"
    mine = host.messages_about(call)
    answered = [place for place, frame in enumerate(mine) if frame.id == call.id]
    cancellations = [frame for frame in host.frames if frame.method == "notifications/cancelled" and frame.by_host]
    if any(frame.params["requestId"] == call.id for frame in cancellations):
        assert not answered, "I-7: a cancelled call is not answered"
    else:
        assert [len(mine) - 1] == answered, "I-5: one answer, and nothing after it"


def _is_honest(result: dict[str, Any], sandbox: Sandbox, *, alone: bool) -> None:
    outcome = result["structuredContent"]
    failure = outcome.get("error")
    if failure is None:
        _equals_the_record(outcome, sandbox)
        return
    assert failure["outcome"] in {"not_started", "started", "unknown"}, "I-3"
    assert failure["retry_safe"] is (failure["outcome"] == "not_started"), "I-3"
    assert len(failure["message"]) <= 700
    if failure["outcome"] == "not_started" and alone:
        assert () == sandbox.ledger.starts, "I-3: not_started means that nothing was"
    if failure["outcome"] == "started":
        assert failure["task_id"] in {start.task_id for start in sandbox.ledger.starts}, "I-3"


def _equals_the_record(outcome: dict[str, Any], sandbox: Sandbox) -> None:
    """I-4: what is told as a success is what the platform has on record."""
    tasks = [task for tenant in sandbox.tenants for task in tenant.tasks if task.id == outcome["task_id"]]
    assert 1 == len(tasks)
    if outcome["status"] == "completed":
        assert (tasks[0].status.name.lower(), tasks[0].output) == (outcome["status"], outcome.get("output")), "I-4"
