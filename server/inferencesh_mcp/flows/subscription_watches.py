"""Notify subscribers of changes of tasks and chats (threat T-5, invariant I-22).

All subscribers of one task or chat with one key share one upstream stream: the first opens it, the last closes it. It is
read first, so that no caller watches what their key cannot read. Each caller has streams of their own, so that no caller is
notified of another caller's tasks and chats.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from inferencesh_mcp.api.models import Task
from inferencesh_mcp.errors import InferenceError, RateLimited
from inferencesh_mcp.flows.concurrency import unwrap_exception_group

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.flows import Caller

MAX_PER_CALLER = 8  # subscriptions of one caller
MAX_PER_ADDRESS = 64  # subscriptions of all callers from one address with unverified keys
MAX_TOTAL = 512  # subscriptions of all callers
MIN_INTERVAL_SECONDS = 1.0  # seconds between notifications while text grows; a new status is notified at once

Kind = Literal["task", "chat"]
Part = Literal["task", "logs", "chat"]
Notify = Callable[[str, Part, str], Awaitable[None]]
"""Called with a principal, the part that has changed, and the id of its task or chat."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WatchKey:
    """A task or chat, and the caller who watches it."""

    principal: str
    kind: Kind
    id: str


class Watches:
    """The tasks and chats that callers of this process watch."""

    def __init__(self, group: TaskGroup, notify: Notify) -> None:
        self._group = group
        self._notify = notify
        self._taken: Counter[str] = Counter()
        self._taken_from: Counter[str] = Counter()
        """By address, for callers whose key is not verified."""
        self._watches: dict[WatchKey, _Watch] = {}

    @contextmanager
    def slots(self, caller: Caller, count: int) -> Generator[int]:
        """Hold up to `count` of a caller's slots; yield how many.

        Raises:
            RateLimited: none is free.
        """
        principal, address = caller.principal, caller.address
        free = min(MAX_PER_CALLER - self._taken[principal], MAX_TOTAL - self._taken.total())
        if address:
            free = min(free, MAX_PER_ADDRESS - self._taken_from[address])
        if free < 1:
            raise RateLimited(
                message=f"This server keeps at most {MAX_PER_CALLER} subscriptions of one caller, {MAX_PER_ADDRESS} from one address, "
                f"and {MAX_TOTAL} in all.",
                next_step="End one of them first, or ask with task_get or chat_get and wait_seconds.",
            )
        granted = min(free, count)
        self._taken[principal] += granted
        self._taken_from[address] += granted
        try:
            yield granted
        finally:
            self._taken[principal] -= granted
            self._taken_from[address] -= granted
            self._taken += Counter()  # drops the zeros
            self._taken_from += Counter()

    @asynccontextmanager
    async def watch(self, caller: Caller, kind: Kind, watched_id: str) -> AsyncGenerator[None]:
        """Notify of changes of a task or chat inside the block, which may be left in another task than it was entered in.

        Raises:
            NotFound, KeyMissing, …: reading it failed; the caller cannot watch what they cannot read.
        """
        state = await (caller.api.task(watched_id) if kind == "task" else caller.api.chats.chat(watched_id))
        key = WatchKey(principal=caller.principal, kind=kind, id=watched_id)
        watch = self._watches.setdefault(key, _Watch(key, self._notify))
        watch.listeners += 1
        has_ended = isinstance(state, Task) and state.ended
        if not watch.runs and not has_ended:
            watch.runs, watch.scope = True, anyio.CancelScope()
            self._group.start_soon(watch.run, caller, state)
        try:
            yield
        finally:
            watch.listeners -= 1
            if not watch.listeners:
                del self._watches[key]
                watch.scope.cancel()


class _Watch:
    """One upstream stream, and its changes that were not notified yet."""

    def __init__(self, key: WatchKey, notify: Notify) -> None:
        self.listeners = 0
        self.runs = False
        self.scope = anyio.CancelScope()
        self._key = key
        self._notify = notify
        self._changed: dict[Part, None] = {}
        self._has_changes = anyio.Event()

    async def run(self, caller: Caller, state: Task | Chat) -> None:
        """Follow it until it ends or nobody watches it any more."""
        with self.scope:
            try:
                await self._follow(caller, state)
            except InferenceError as exc:
                logger.info("%s %s: it cannot be watched any more (%s)", self._key.kind, self._key.id, exc.code)
                self._changed = dict.fromkeys(_parts(state))
                await self._flush()  # reading it now shows the error
            except Exception:  # one caller's stream must not end the server for the others
                logger.exception("%s %s: watching it failed", self._key.kind, self._key.id)
            self.runs = False

    async def _follow(self, caller: Caller, before: Task | Chat) -> None:
        with unwrap_exception_group():
            async with anyio.create_task_group() as group:
                group.start_soon(self._flush_later)
                async with _states(caller, before) as states:
                    async for state in states:
                        await self._compare(before, state)
                        before = state
                group.cancel_scope.cancel()
        await self._flush()

    async def _compare(self, before: Task | Chat, state: Task | Chat) -> None:
        old = _parts(before)
        self._changed |= {part: None for part, value in _parts(state).items() if value != old[part]}
        if _milestone(before) != _milestone(state):
            await self._flush()
        elif self._changed:
            self._has_changes.set()

    async def _flush_later(self) -> None:
        while True:
            await self._has_changes.wait()
            self._has_changes = anyio.Event()
            await self._flush()
            await anyio.sleep(MIN_INTERVAL_SECONDS)

    async def _flush(self) -> None:
        changed, self._changed = self._changed, {}
        for part in changed:
            await self._notify(self._key.principal, part, self._key.id)


def _states(caller: Caller, state: Task | Chat) -> AbstractAsyncContextManager[AsyncIterator[Task | Chat]]:
    if isinstance(state, Task):
        return caller.api.follow(state, stream=caller.stream, poll_interval=caller.poll_interval)
    return caller.api.chats.follow_chat(state, stream=caller.stream, poll_interval=caller.poll_interval)


def _parts(state: Task | Chat) -> dict[Part, Any]:
    """What each part shows. A part has changed if this is not equal."""
    if isinstance(state, Task):
        whole = (state.status, state.output, state.error, state.streamed, state.logs, state.session_id)
        return {"task": whole, "logs": (state.status, state.logs)}
    return {"chat": (_milestone(state), state.chat_messages, state.agent_data.plan_steps)}


def _milestone(state: Task | Chat) -> Any:
    """What is notified at once if it changes; the rest can wait for `MIN_INTERVAL_SECONDS`."""
    if isinstance(state, Task):
        return state.status
    run = state.active_run
    return (
        state.status,
        run and (run.id, run.state),
        state.output,
        tuple((message.id, message.status) for message in state.chat_messages),
        tuple((call.id, call.status) for message in state.chat_messages for call in message.tool_invocations),
        tuple((interrupt.id, interrupt.status) for interrupt in state.pending_interrupts),
    )
