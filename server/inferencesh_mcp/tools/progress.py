"""Send what a flow reports as MCP progress. Sending never delays the flow (I-6)."""

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
from inferencesh_mcp.flows.run_details import elapsed_seconds, status_detail, status_of
from inferencesh_mcp.redaction import without_secrets
from inferencesh_mcp.sanitize import clean
from inferencesh_mcp.tools.units import size

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Report, State

MAX_MESSAGES = 2  # messages in any window: the first change is sent at once, right after the first message
WINDOW_SECONDS = 1.0  # seconds
MAX_SILENCE_SECONDS = 10.0  # hosts cancel a call that sends nothing for minutes
MAX_MESSAGE_LENGTH = 200  # characters that Claude Code shows of a message


@asynccontextmanager
async def progress(ctx: Ctx, *, in_bytes: bool = False) -> AsyncGenerator[Report]:
    """Yield a `Report` that sends the latest state to the host, or does nothing if the host did not ask for progress.

    `in_bytes`: the call only moves files, so its progress counts bytes of the file's size.

    Messages are sent from a task of its own, so that a host that reads slowly does not delay the flow.
    """
    if "progress_token" not in (ctx.request_context.meta or {}):
        yield lambda _: None
        return
    reporter = ProgressReporter(ctx, in_bytes=in_bytes)
    with unwrap_exception_group():
        async with anyio.create_task_group() as group:
            group.start_soon(reporter.run)
            yield reporter.update
            # A cancellation here would come after the flow, which alone can cancel a run: it would leave the run unattended.
            group.cancel_scope.shield = True
            if not reporter.finish():
                group.cancel_scope.cancel()


class ProgressReporter:
    def __init__(self, ctx: Ctx, *, in_bytes: bool) -> None:
        self._ctx = ctx
        self._in_bytes = in_bytes
        self._bytes_before = 0
        """Bytes of the files that are already done."""
        self._started_at = time.monotonic()
        self._last_value = -1.0
        self._state: State | None = None
        self._changed = anyio.Event()
        self._finished = anyio.Event()
        self._sending = False

    def update(self, state: State) -> None:
        previous = self._state
        if isinstance(previous, Transfer) and isinstance(state, Transfer) and previous.name != state.name:
            self._bytes_before += previous.done
        self._state = state
        if _is_worth_sending(previous, state):
            self._changed.set()

    def finish(self) -> bool:
        """Send nothing more, because the result is next (I-5). False if a message is being sent: the caller cancels it then.

        Cancelling without need would keep the whole call in memory until the next garbage collection.
        """
        self._finished.set()
        self._changed.set()
        return not self._sending

    async def run(self) -> None:
        recent: deque[float] = deque(maxlen=MAX_MESSAGES)
        while not self._finished.is_set():
            self._changed = anyio.Event()
            recent.append(time.monotonic())
            await self._send()
            with anyio.move_on_after(MAX_SILENCE_SECONDS - WINDOW_SECONDS):
                await self._changed.wait()
            if len(recent) == MAX_MESSAGES and (too_early_by := recent[0] + WINDOW_SECONDS - time.monotonic()) > 0:
                with anyio.move_on_after(too_early_by):
                    await self._finished.wait()

    async def _send(self) -> None:
        elapsed = self._elapsed()
        self._last_value, total = self._next_value(elapsed)
        self._sending = True
        await self._ctx.report_progress(self._last_value, total, without_secrets(status_line(self._state, elapsed)))
        self._sending = False

    def _elapsed(self) -> float:
        """Seconds since the task's start, which may lie before this call; for anything else, of this call."""
        now = self._ctx.request_context.lifespan_context.transport.now()
        seconds = elapsed_seconds(self._state, now) if isinstance(self._state, Task) else None
        return time.monotonic() - self._started_at if seconds is None else seconds

    def _next_value(self, elapsed: float) -> tuple[float, float | None]:
        """The next value, which strictly increases (I-6), and the total if it is known.

        A batch counts finished runs, with small steps in between. Files count bytes. A single run counts seconds, because
        nobody knows how long it takes.
        """
        if isinstance(self._state, BatchProgress):
            done = self._state.done
            if done > self._last_value:
                return done, self._state.total
            return self._last_value + (math.floor(self._last_value) + 1 - self._last_value) / 10, self._state.total
        if self._in_bytes:
            moving = self._state if isinstance(self._state, Transfer) else Transfer("", "", 0, None)
            value = max(self._bytes_before + moving.done, self._last_value + 0.001)
            return value, None if self._bytes_before else moving.size
        return max(round(elapsed, 1), round(self._last_value + 0.1, 1)), None


def _is_worth_sending(previous: State | None, state: State) -> bool:
    match state:
        case AgentProgress():
            return bool(state.tail or state.tool)  # the first word of an agent is worth a message; silence is not
        case Task() if isinstance(previous, Task):
            # nobody reads other changes
            return state.status != previous.status or _last_output(state) != _last_output(previous)
        case _:
            return True


def status_line(state: State | None, elapsed: float) -> str:
    """Describe a state in one line: status, seconds, the task's id, and the last log line or text."""
    match state:
        case None:
            return "starting"
        case Transfer():
            of_total = f" of {size(state.size)}" if state.size is not None else ""
            return clean(f"{state.verb} {state.name} · {size(state.done)}{of_total}", MAX_MESSAGE_LENGTH)
        case BatchProgress():
            latest = f" · {status_line(state.latest, elapsed)}" if state.latest else ""
            live = f", {state.live} running" if state.live else ""
            return clean(f"{state.done} of {state.total} done{live}{latest}", MAX_MESSAGE_LENGTH)
        case AgentProgress():
            using = f"{state.tool} waits for an answer" if state.is_waiting else f"using {state.tool}"
            position = f"{using if state.tool else 'answering'} · {elapsed:.0f} s · chat {state.chat_id}"
            return clean(f"{position} · {state.tail}" if state.tail else position, MAX_MESSAGE_LENGTH)
        case Task():
            detail = f" ({status_detail(state)})" if status_detail(state) else ""
            position = f"{status_of(state)}{detail} · {elapsed:.0f} s · task {state.id}"
            return clean(f"{position} · {output}" if (output := _last_output(state)) else position, MAX_MESSAGE_LENGTH)


def _last_output(task: Task) -> str:
    """The end of the streamed text, or else the last log line."""
    return task.streamed[-80:] or (task.logs[-1].content.strip() if task.logs else "")
