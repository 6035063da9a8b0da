"""The ids of the tasks and chats that a call has started.

The rule: a paid id is never lost. Flows record each id as soon as it is known, so that the answer can name it even if the
call fails in a way that nobody foresaw.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass(frozen=True)
class StartedIds:
    """The tasks and chats that were started, oldest first."""

    tasks: list[str] = field(default_factory=list[str])
    chats: list[str] = field(default_factory=list[str])


_current: ContextVar[StartedIds | None] = ContextVar("started by this call", default=None)


@contextmanager
def collect_started_ids() -> Generator[StartedIds]:
    """Collect what is started inside the block, also in its child tasks. A block around it gets the same ids."""
    outer, started = _current.get(), StartedIds()
    token = _current.set(started)
    try:
        yield started
    finally:
        _current.reset(token)
        if outer:
            outer.tasks.extend(started.tasks)
            outer.chats.extend(started.chats)


def record_task(task_id: str) -> None:
    """Record that a run has started."""
    if started := _current.get():
        started.tasks.append(task_id)


def record_chat(chat_id: str) -> None:
    """Record that a chat has accepted a message."""
    if started := _current.get():
        started.chats.append(chat_id)
