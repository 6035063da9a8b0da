"""What a flow reports, as MCP progress: honest, sparse, and never in the flow's way (promise 4, invariant I-6)."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.api.models import Task
from inferencesh_mcp.flows import AgentProgress, BatchProgress, Transfer
from inferencesh_mcp.flows.concurrency import unwrap_exception_group
from inferencesh_mcp.redaction import without_secrets
from inferencesh_mcp.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Report, State

AT_MOST = 2  # messages in any SPAN: the first change is told at once after the first message
SPAN = 1.0  # seconds
LATEST = 10.0  # seconds: hosts give up on a call that is silent for minutes, and count from the last message
LONGEST = 200  # characters: what Claude Code shows of a message


@asynccontextmanager
async def progress(ctx: Ctx, *, in_bytes: bool = False) -> AsyncGenerator[Report]:
    """Yield a `Report` whose latest state reaches the host; where the host did not ask, one that forgets.

    `in_bytes`: the call only moves files, so that its progress is bytes, of as many as the file has.

    Writing happens in a task of its own: a host that reads slowly delays its own messages and nothing else.
    """
    if "progress_token" not in (ctx.request_context.meta or {}):
        yield lambda _: None
        return
    teller = _Teller(ctx, in_bytes=in_bytes)
    with unwrap_exception_group():
        async with anyio.create_task_group() as group:
            group.start_soon(teller.speak)
            yield teller.hear
            # A cancellation that came now would find nobody who leaves a run that is about to be handed over.
            group.cancel_scope.shield = True
            if not teller.fall_silent():
                group.cancel_scope.cancel()


class _Teller:
    def __init__(self, ctx: Ctx, *, in_bytes: bool) -> None:
        self._ctx = ctx
        self._in_bytes = in_bytes
        self._moved = 0
        """Bytes of the files before this one."""
        self._began = time.monotonic()
        self._said = -1.0
        self._state: State | None = None
        self._news = anyio.Event()
        self._over = anyio.Event()
        self._saying = False

    def hear(self, state: State) -> None:
        before = self._state
        if isinstance(before, Transfer) and isinstance(state, Transfer) and before.name != state.name:
            self._moved += before.done
        self._state = state
        if _is_news(before, state):
            self._news.set()

    def fall_silent(self) -> bool:
        """Say nothing more, for the answer is next (I-5). False while a message is still being written: it is to be broken off.

        A cancelled task would hold all of its call, in a cycle of its traceback, until garbage is looked for.
        """
        self._over.set()
        self._news.set()
        return not self._saying

    async def speak(self) -> None:
        recent: deque[float] = deque(maxlen=AT_MOST)
        while not self._over.is_set():
            self._news = anyio.Event()
            recent.append(time.monotonic())
            await self._say()
            with anyio.move_on_after(LATEST - SPAN):
                await self._news.wait()
            if len(recent) == AT_MOST and (early := recent[0] + SPAN - time.monotonic()) > 0:
                with anyio.move_on_after(early):
                    await self._over.wait()

    async def _say(self) -> None:
        elapsed = time.monotonic() - self._began
        self._said, total = self._next(elapsed)
        self._saying = True
        await self._ctx.report_progress(self._said, total, without_secrets(told(self._state, elapsed)))
        self._saying = False

    def _next(self, elapsed: float) -> tuple[float, float | None]:
        """The next number, which strictly increases (I-6), and of how many.

        A batch counts what is done, and creeps towards the next between two; files count bytes; of a single run
        nobody knows how long it takes, so it counts the seconds.
        """
        if isinstance(self._state, BatchProgress):
            done = self._state.done
            if done > self._said:
                return done, self._state.total
            return self._said + (math.floor(self._said) + 1 - self._said) / 10, self._state.total
        if self._in_bytes:
            moving = self._state if isinstance(self._state, Transfer) else Transfer("", "", 0, None)
            return max(self._moved + moving.done, self._said + 0.001), None if self._moved else moving.size
        return max(round(elapsed, 1), round(self._said + 0.1, 1)), None


def _is_news(before: State | None, state: State) -> bool:
    match state:
        case AgentProgress():
            return bool(state.tail or state.tool)  # an agent that has not said anything yet is none: its first word is
        case Task() if isinstance(before, Task):
            return (state.status, _last(state)) != (before.status, _last(before))  # what else is new, nobody would read
        case _:
            return True


def told(state: State | None, elapsed: float) -> str:
    """Say in one line where things stand: status, seconds, the task's id, and the last log line or text."""
    match state:
        case None:
            return "starting"
        case Transfer():
            whole = f" of {size(state.size)}" if state.size is not None else ""
            return clean(f"{state.verb} {state.name} · {size(state.done)}{whole}", LONGEST)
        case BatchProgress():
            now = f" · {told(state.latest, elapsed)}" if state.latest else ""
            return clean(f"{state.done} of {state.total} done{now}", LONGEST)
        case AgentProgress():
            doing = f"using {state.tool}" if state.tool else "answering"
            return clean(
                f"{doing} · {elapsed:.0f} s · chat {state.chat_id} · {state.tail}".removesuffix(" · "), LONGEST
            )
        case Task():
            where = f"{state.status} · {elapsed:.0f} s · task {state.id}"
            return clean(f"{where} · {last}" if (last := _last(state)) else where, LONGEST)


def _last(task: Task) -> str:
    """The end of what it streams, or else what it logged last."""
    return task.streamed[-80:] or (task.logs[-1].content.strip() if task.logs else "")


def size(count: int) -> str:
    """Write a number of bytes as people do: `812 B`, `1.4 MB`."""
    if count < 1000:
        return f"{count} B"
    for unit, scale in (("kB", 1e3), ("MB", 1e6)):
        if count < scale * 1000:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"
