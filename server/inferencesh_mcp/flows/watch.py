"""Whoever wants to hear of changes hears of them, for as long as they listen (threat T-5, invariant I-22).

However many listen to one thing with one key, there is one stream upstream: the first opens it, the last closes it. What
is watched is read first, so that nobody watches what their key cannot read, and each caller has a stream of their own, so
that nobody hears of a stranger's.
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

EACH = 8  # subscriptions of one caller, and of all callers together (reliability 4.6)
EACH_ADDRESS = 64  # of all who call from one address with keys that nobody has vouched for
ALL = 512
SPAN = 1.0  # seconds: text that grows is told of this often; a new status is told at once

Kind = Literal["task", "chat"]
Part = Literal["task", "logs", "chat"]
Notify = Callable[[str, Part, str], Awaitable[None]]
"""Told a principal, which part of what they watch has changed, and its id."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WatchKey:
    """A thing, and whose it is."""

    principal: str
    kind: Kind
    id: str


class Watches:
    """What callers of this process watch now."""

    def __init__(self, group: TaskGroup, tell: Notify) -> None:
        self._group = group
        self._tell = tell
        self._taken: Counter[str] = Counter()
        self._taken_from: Counter[str] = Counter()
        """By address, where that is counted."""
        self._watches: dict[WatchKey, _Watch] = {}

    @contextmanager
    def slots(self, caller: Caller, wanted: int) -> Generator[int]:
        """Hold as many of a caller's places as are wanted and free; yield how many.

        Raises:
            RateLimited: none is free.
        """
        principal, address = caller.principal, caller.address
        free = min(EACH - self._taken[principal], ALL - self._taken.total())
        if address:
            free = min(free, EACH_ADDRESS - self._taken_from[address])
        if free < 1:
            raise RateLimited(
                message=f"This server keeps at most {EACH} subscriptions of one caller, {EACH_ADDRESS} from one address, "
                f"and {ALL} in all.",
                next_step="End one of them first, or ask with task_get or chat_get and wait_seconds.",
            )
        held = min(free, wanted)
        self._taken[principal] += held
        self._taken_from[address] += held
        try:
            yield held
        finally:
            self._taken[principal] -= held
            self._taken_from[address] -= held
            self._taken += Counter()  # drops the zeros
            self._taken_from += Counter()

    @asynccontextmanager
    async def watch(self, caller: Caller, kind: Kind, thing: str) -> AsyncGenerator[None]:
        """A block in which changes of a thing are told. May be left in another task than it was entered in.

        Raises:
            NotFound, KeyMissing, …: what reading it raises: the caller cannot watch what they cannot read.
        """
        known = await _read(caller, kind, thing)
        key = WatchKey(principal=caller.principal, kind=kind, id=thing)
        watch = self._watches.setdefault(key, _Watch(key, self._tell))
        watch.listeners += 1
        if not watch.runs and not _is_over(known):
            watch.runs, watch.scope = True, anyio.CancelScope()
            self._group.start_soon(watch.run, caller, known)
        try:
            yield
        finally:
            watch.listeners -= 1
            if not watch.listeners:
                del self._watches[key]
                watch.scope.cancel()


class _Watch:
    """One stream upstream, and what it told that nobody was told of yet."""

    def __init__(self, key: WatchKey, tell: Notify) -> None:
        self.listeners = 0
        self.runs = False
        self.scope = anyio.CancelScope()
        self._key = key
        self._tell = tell
        self._changed: dict[Part, None] = {}
        self._news = anyio.Event()

    async def run(self, caller: Caller, known: Task | Chat) -> None:
        """Follow the thing to its end, or until nobody listens any more."""
        with self.scope:
            try:
                await self._follow(caller, known)
            except InferenceError as exc:
                logger.info("%s %s: it cannot be watched any more (%s)", self._key.kind, self._key.id, exc.code)
                self._changed = dict.fromkeys(_parts(known))
                await self._say()  # whoever reads it now is told why
            except Exception:  # one caller's stream must not take the others' server with it
                logger.exception("%s %s: watching it failed", self._key.kind, self._key.id)
            self.runs = False

    async def _follow(self, caller: Caller, known: Task | Chat) -> None:
        with unwrap_exception_group():
            async with anyio.create_task_group() as group:
                group.start_soon(self._say_later)
                async with _states(caller, known) as states:
                    async for state in states:
                        await self._hear(known, state)
                        known = state
                group.cancel_scope.cancel()
        await self._say()

    async def _hear(self, before: Task | Chat, state: Task | Chat) -> None:
        was = _parts(before)
        self._changed |= {part: None for part, shown in _parts(state).items() if shown != was[part]}
        if _standing(before) != _standing(state):
            await self._say()
        elif self._changed:
            self._news.set()

    async def _say_later(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await self._say()
            await anyio.sleep(SPAN)

    async def _say(self) -> None:
        changed, self._changed = self._changed, {}
        for part in changed:
            await self._tell(self._key.principal, part, self._key.id)


async def _read(caller: Caller, kind: Kind, thing: str) -> Task | Chat:
    return await (caller.api.task(thing) if kind == "task" else caller.api.chats.chat(thing))


def _states(caller: Caller, known: Task | Chat) -> AbstractAsyncContextManager[AsyncIterator[Task | Chat]]:
    if isinstance(known, Task):
        return caller.api.follow(known, stream=caller.stream, poll_interval=caller.poll_interval)
    return caller.api.chats.follow_chat(known, stream=caller.stream, poll_interval=caller.poll_interval)


def _is_over(known: Task | Chat) -> bool:
    return isinstance(known, Task) and known.ended


def _parts(state: Task | Chat) -> dict[Part, Any]:
    """What each part shows: it has changed when this is another."""
    if isinstance(state, Task):
        shown = (state.status, state.output, state.error, state.streamed, state.logs, state.session_id)
        return {"task": shown, "logs": (state.status, state.logs)}
    return {"chat": (_standing(state), state.chat_messages, state.agent_data.plan_steps)}


def _standing(state: Task | Chat) -> Any:
    """Where a thing stands: a change of this is told at once."""
    if isinstance(state, Task):
        return state.status
    run = state.active_run
    return (
        state.status,
        run and (run.id, run.state),
        state.output,
        tuple((one.id, one.status) for one in state.chat_messages),
        tuple((call.id, call.status) for one in state.chat_messages for call in one.tool_invocations),
        tuple((one.id, one.status) for one in state.pending_interrupts),
    )
