"""Callers who run, batch, chat, approve, save, cancel, drop their connection, say it again, and restart what they call.

What they do is drawn from a seed, and they do it side by side. A generator of our own, and not hypothesis' state machine:
that one takes a step at a time, to its end, and here it matters what happens in the middle of another; and a shorter list of
steps is no smaller example where each request shifts the weather of the next.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp_types import CallToolResult, ElicitResult

from inferencesh_sandbox import Clock
from tests.conftest import MODES
from tests.results import text_of
from tests.support.faults import Delay, Drop, Fault, Swallow
from tests.system.faults.hosts import Frame, recorded
from tests.system.histories.random_faults import Weather
from tests.system.histories.world import LONGEST, Way

TAG = re.compile(r"(?<!\[data )(?<!of data )\b[a-z]{3}\d{5}\b")  # the name of a frame may look like one
BROKEN = (MCPError, httpx2.HTTPError, anyio.ClosedResourceError, anyio.BrokenResourceError)
"""How a call fails whose server went."""
WORDS = "one two three four"
SLOWLY = 10_000
"""Milliseconds between two of them, the most that the app takes: five words take longer than a call waits."""
BRIEF = ("count to 3 for", {"agent": "sandbox/assistant"})
WISH = ("draw", {"agent": "sandbox/approver"})
LABOUR = (
    "be slow for 40 seconds in 2 steps for",
    {
        "config": {
            "core_app": {"ref": "sandbox/llm"},
            "tools": [{"name": "slow", "type": "app", "app": {"ref": "sandbox/slow"}}],
        }
    },
)
"""What is said to an agent, and to which. The last is at work for longer than a call waits, in few words."""
STARTS = {"app_run": "/apps/run", "app_run_many": "/apps/run", "agent_chat": "/agents/run"}
DECISION = "/tools/*/invoke"


@dataclass
class Call:
    """One call of a tool, as whoever made it remembers it."""

    tool: str
    arguments: dict[str, Any]
    tags: tuple[str, ...]
    """What it runs or says, one tag each: the platform's records carry it too."""
    result: dict[str, Any] | None = None
    """None where no answer came: they left, or the server did."""
    text: str = ""
    """The same in words, which is all that some hosts show."""
    began_at: datetime | None = None
    over_at: datetime | None = None
    """When it was answered, or left, by the platform's clock."""
    left: bool = False
    """By whoever made it."""
    unheard: bool = False
    """Left by a word that no server hears: over HTTP, the older era's belongs to no session here."""


@dataclass
class Caller:
    name: str
    key: str
    way: Way
    chance: Random
    clock: Clock
    weather: Weather
    """Some of what they do they do because of it."""
    pace: float = 1.0
    """How long their moments are; the clock of a history is turned, that of the soak is not."""
    calls: list[Call] = field(default_factory=list)
    frames: list[list[Frame]] = field(default_factory=list)
    """What passed, by connection."""
    approved: Counter[str] = field(default_factory=Counter)
    """How often they said yes, by the tag of what they were asked about."""
    _hears_of_leaving: bool = True
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
                input_ = {"text": f"{tag} ends", "chunk_ms": 5_000}
                group.start_soon(self._call, Call("app_run", {"app": "sandbox/stream-text", "input": input_}, (tag,)))

    def _connected(self) -> Client:
        frames: list[Frame] = []
        self.frames.append(frames)
        era = self.chance.choice(list(MODES))
        self._hears_of_leaving = self.way.local or era != "2025"
        return Client(
            recorded(self.way.server(self.key), frames),
            mode=MODES[era],
            elicitation_callback=self._decide,
        )

    async def _operate(self) -> bool:
        """Do something; false when this connection has had its time."""
        able = [
            self._run,
            self._batch,
            self._chat,
            self._approve,
            self._cancel,
            self._cancel,
            self._drop,
            self._twice,
            self._later,
        ]
        able += [self._save] if self.way.local else [self.way.restart]
        await self.chance.choice(able)()
        return self.chance.random() < 0.8

    async def _run(self) -> None:
        await self._call(self._a_run())

    async def _batch(self) -> None:
        await self._call(self._a_batch())

    async def _chat(self) -> None:
        answered = await self._call(self._a_message(*BRIEF))
        if "chat_id" in answered and self.chance.random() < 0.5:
            words, to = BRIEF
            await self._call(self._a_message(words, {**to, "chat_id": answered["chat_id"]}))

    async def _approve(self) -> None:
        """Be asked by an agent whether it may; and where nothing came of that, ask to be asked again, in two windows."""
        self._worsen(DECISION, Swallow(), Drop(), None, None)
        answered = await self._call(self._a_message(*WISH))
        if pending := answered.get("pending"):
            arguments = {"chat_id": answered["chat_id"], "invocation_id": pending[0]["id"]}
            await self._at_once(*(Call("chat_respond", arguments, ()) for _ in range(self.chance.choice([1, 2]))))

    async def _twice(self) -> None:
        """Ask for the same in two windows: two runs, or two chats, and each has its own."""
        call = self._any()
        self._worsen(STARTS[call.tool], Swallow(), Drop(), Drop(), None)
        await self._at_once(*(Call(call.tool, call.arguments, call.tags) for _ in range(2)))

    async def _at_once(self, *calls: Call) -> None:
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(self._call, call)

    async def _cancel(self) -> None:
        """Change their mind; and now and then change it again, and ask for the same once more."""
        call = self._that_is_left()
        with anyio.move_on_after(self._moment()):
            await self._call(call)
        call.unheard = call.left and not self._hears_of_leaving
        if self.chance.random() < 0.5:
            await self._call(Call(call.tool, call.arguments, call.tags))

    async def _drop(self) -> None:
        """Be gone in the middle of a call, with the connection."""
        call = self._that_is_left()
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
            await self._call(Call("file_save", {"task_ids": [drawn["task_id"]]}, ()))

    async def _call(self, call: Call) -> dict[str, Any]:
        async def ignore(_progress: float, _total: float | None, _message: str | None) -> None:
            """The frames tell."""

        self.calls.append(call)
        call.began_at = self.clock.now()
        try:
            with anyio.fail_after(LONGEST):
                answer = await self._client.call_tool(call.tool, call.arguments, progress_callback=ignore)
        except anyio.get_cancelled_exc_class():
            call.left = True
            raise
        finally:
            call.over_at = self.clock.now()
        assert isinstance(answer, CallToolResult)
        call.result, call.text = answer.structured_content or {}, text_of(answer)
        return call.result

    async def _decide(self, _context: Any, params: Any) -> ElicitResult:
        await anyio.sleep(self.chance.uniform(0, 5) * self.pace)
        if self.chance.random() < 0.6:
            self.approved[tag_in(params.message)] += 1
            return ElicitResult(action="accept", content={"decision": "approve"})
        return ElicitResult(action=self.chance.choice(["decline", "cancel"]))

    def _any(self) -> Call:
        a_message = functools.partial(self._a_message, *BRIEF)
        return self.chance.choice([self._a_run, self._a_run, self._a_batch, a_message])()

    def _that_is_left(self) -> Call:
        """Mostly something that takes long. Many leave because nothing is heard: the answer to its start is late, or lost."""
        call = self._any() if self.chance.random() < 0.2 else self._that_lasts()
        self._worsen(STARTS[call.tool], Swallow(), Delay(seconds=1), None)
        return call

    def _that_lasts(self) -> Call:
        a_message = functools.partial(self._a_message, *LABOUR)
        return self.chance.choice(
            [functools.partial(self._a_run, lasts=True), functools.partial(self._a_batch, lasts=True), a_message]
        )()

    def _worsen(self, path: str, *faults: Fault | None) -> None:
        """Let the next request of this path meet one of these; it may be another caller's."""
        if fault := self.chance.choice(faults):
            self.weather.add(fault, method="POST", path=path)

    def _a_run(self, *, lasts: bool = False, **more: Any) -> Call:
        tag = self._tag()
        pauses = [SLOWLY] if lasts else [20, 1000, SLOWLY]
        streamed = {"text": f"{tag} {WORDS}", "chunk_ms": self.chance.choice(pauses)}, "stream-text"
        others = [] if lasts else [({"n": tag}, "echo"), ({"message": tag}, "fail")]
        input_, app = self.chance.choice([streamed, streamed, *others])
        return Call("app_run", {"app": f"sandbox/{app}", "input": input_, **more}, (tag,))

    def _a_batch(self, *, lasts: bool = False) -> Call:
        tags = tuple(self._tag() for _ in range(3))
        pauses = [SLOWLY] if lasts else [1, SLOWLY]
        inputs = [{"text": f"{tag} {WORDS}", "chunk_ms": self.chance.choice(pauses)} for tag in tags]
        return Call(
            "app_run_many", {"app": "sandbox/stream-text", "inputs": inputs, "max_concurrency": self.chance.choice([1, 3])}, tags
        )  # fmt: skip

    def _a_message(self, words: str, to: dict[str, Any]) -> Call:
        tag = self._tag()
        return Call("agent_chat", {"message": f"{words} {tag}", **to}, (tag,))

    def _tag(self) -> str:
        return f"{self.name}{next(self._numbers):05}"

    def _moment(self) -> float:
        """When somebody leaves: mostly while it begins, or while a lost start is looked for."""
        beginning = self.chance.uniform(0, 0.5)
        return self.chance.choice([0.0, beginning, beginning, self.chance.uniform(0, 15)]) * self.pace


def tag_in(text: str) -> str:
    match = TAG.search(text)
    return match[0] if match else ""
