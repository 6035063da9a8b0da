"""Callers who run, batch, chat, approve, save, cancel, drop their connection, say it again, and restart what they call.

What they do is drawn from a seed, and they do it side by side. A generator of our own, and not hypothesis' state machine:
that one takes a step at a time, to its end, and here it matters what happens in the middle of another; and a shorter list of
steps is no smaller example where each request shifts the weather of the next.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp_types import CallToolResult, ElicitResult

from inferencesh_mcp.sandbox import Clock
from tests.conftest import MODES
from tests.faults.hosts import Frame, overheard
from tests.histories.world import LONGEST, Way

BROKEN = (MCPError, httpx2.HTTPError, anyio.ClosedResourceError, anyio.BrokenResourceError)
"""How a call fails whose server went."""
WORDS = "one two three four"


@dataclass
class Call:
    """One call of a tool, as whoever made it remembers it."""

    tool: str
    arguments: dict[str, Any]
    tags: tuple[str, ...]
    """What it runs or says, one tag each: the platform's records carry it too."""
    result: dict[str, Any] | None = None
    """None where no answer came: they left, or the server did."""
    over_at: datetime | None = None
    """When it was answered, or left, by the platform's clock."""
    approved: int = 0


@dataclass
class Caller:
    name: str
    key: str
    way: Way
    chance: Random
    clock: Clock
    pace: float = 1.0
    """How long their moments are; the clock of a history is turned, that of the soak is not."""
    calls: list[Call] = field(default_factory=list)
    frames: list[list[Frame]] = field(default_factory=list)
    """What passed, by connection."""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def live(self, operations: int, done: Callable[[], None] = lambda: None) -> None:
        """Do so many things, over one connection after another."""
        left = operations
        while left > 0:
            with anyio.CancelScope() as self._connection:
                try:
                    async with self._connected() as self._client:
                        stays = True
                        while stays and left > 0:
                            left -= 1
                            done()
                            stays = await self._operate()
                except* BROKEN:
                    pass  # on to the next server

    async def all_at_once(self, runs: int) -> None:
        """Make so many runs, all of them live at the same time."""
        async with self._connected() as self._client, anyio.create_task_group() as group:
            for tag in (self._tag() for _ in range(runs)):
                given = {"text": f"{tag} ends", "chunk_ms": 5_000}
                group.start_soon(self._call, Call("app_run", {"app": "sandbox/stream-text", "input": given}, (tag,)))

    def _connected(self) -> Client:
        frames: list[Frame] = []
        self.frames.append(frames)
        return Client(
            overheard(self.way.server(self.key), frames),
            mode=MODES[self.chance.choice(list(MODES))],
            elicitation_callback=self._decide,
        )

    async def _operate(self) -> bool:
        """Do something; false when this connection has had its time."""
        able = [self._run, self._run, self._batch, self._chat, self._approve, self._cancel, self._drop, self._later]
        able += [self._save] if self.way.local else [self.way.restart]
        await self.chance.choice(able)()
        return self.chance.random() < 0.8

    async def _run(self) -> None:
        await self._call(self._a_run())

    async def _batch(self) -> None:
        await self._call(self._a_batch())

    async def _chat(self) -> None:
        answered = await self._call(self._a_message("sandbox/assistant"))
        if "chat_id" in answered and self.chance.random() < 0.5:
            tag = self._tag()
            more = {"message": f"{tag} and you?", "agent": "sandbox/assistant", "chat_id": answered["chat_id"]}
            await self._call(Call("agent_chat", more, (tag,)))

    async def _approve(self) -> None:
        await self._call(self._a_message("sandbox/approver"))

    async def _cancel(self) -> None:
        """Change their mind; and now and then change it again, and ask for the same once more."""
        call = self._any()
        with anyio.move_on_after(self._moment()):
            await self._call(call)
        if self.chance.random() < 0.5:
            await self._call(Call(call.tool, call.arguments, call.tags))

    async def _drop(self) -> None:
        """Be gone in the middle of a call, with the connection."""
        call = self._any()
        async with anyio.create_task_group() as group:
            group.start_soon(self._call, call)
            await anyio.sleep(self._moment())
            self._connection.cancel()

    async def _later(self) -> None:
        """Start a run, and come back for it."""
        call = self._a_run(wait=False)
        begun = await self._call(call)
        if task := begun.get("task_id"):
            if self.chance.random() < 0.3:
                await self._call(Call("task_cancel", {"task_id": task}, ()))
            await self._call(Call("task_get", {"task_id": task, "wait_seconds": 30 * self.pace}, ()))

    async def _save(self) -> None:
        tag = self._tag()
        drawn = await self._call(
            Call("app_run", {"app": "sandbox/draw", "input": {"prompt": tag, "width": 16, "height": 16}}, (tag,))
        )
        if drawn.get("status") == "completed":
            await self._call(Call("file_save", {"task_id": drawn["task_id"]}, ()))

    async def _call(self, call: Call) -> dict[str, Any]:
        async def heard(_progress: float, _total: float | None, _message: str | None) -> None:
            """The frames tell."""

        self.calls.append(call)
        self._asking = call
        try:
            with anyio.fail_after(LONGEST):
                answer = await self._client.call_tool(call.tool, call.arguments, progress_callback=heard)
        finally:
            call.over_at = self.clock.now()
        assert isinstance(answer, CallToolResult)
        call.result = answer.structured_content or {}
        return call.result

    async def _decide(self, _context: Any, _params: Any) -> ElicitResult:
        await anyio.sleep(self.chance.uniform(0, 5) * self.pace)
        if self.chance.random() < 0.6:
            self._asking.approved += 1
            return ElicitResult(action="accept", content={"decision": "approve"})
        return ElicitResult(action=self.chance.choice(["decline", "cancel"]))

    def _any(self) -> Call:
        return self.chance.choice(
            [self._a_run, self._a_run, self._a_batch, functools.partial(self._a_message, "sandbox/assistant")]
        )()

    def _a_run(self, **more: Any) -> Call:
        tag = self._tag()
        given, app = self.chance.choice(
            [
                ({"n": tag}, "echo"),
                ({"text": f"{tag} {WORDS}", "chunk_ms": self.chance.choice([20, 1000, 20_000])}, "stream-text"),
                ({"message": tag}, "fail"),
            ]
        )
        return Call("app_run", {"app": f"sandbox/{app}", "input": given, **more}, (tag,))

    def _a_batch(self) -> Call:
        tags = tuple(self._tag() for _ in range(3))
        inputs = [{"text": f"{tag} {WORDS}", "chunk_ms": self.chance.choice([1, 20_000])} for tag in tags]
        return Call(
            "app_run_many", {"app": "sandbox/stream-text", "inputs": inputs, "max_concurrency": self.chance.choice([1, 3])}, tags
        )  # fmt: skip

    def _a_message(self, agent: str) -> Call:
        tag = self._tag()
        return Call("agent_chat", {"message": f"{tag}: hello", "agent": agent}, (tag,))

    def _tag(self) -> str:
        return f"{self.name}{next(self._numbers):05}"

    def _moment(self) -> float:
        """When somebody leaves: mostly while it begins."""
        return self.chance.choice([0.0, self.chance.uniform(0, 1), self.chance.uniform(0, 30)]) * self.pace
