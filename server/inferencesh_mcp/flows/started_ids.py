"""What a call has started so far: its ids are told whatever fails after that."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass(frozen=True)
class StartedIds:
    """Ids of the tasks and chats that began, the oldest first."""

    tasks: list[str] = field(default_factory=list[str])
    chats: list[str] = field(default_factory=list[str])


_current: ContextVar[StartedIds | None] = ContextVar("started by this call", default=None)


@contextmanager
def collect_started_ids() -> Generator[StartedIds]:
    """Collect what is started inside the block, also by tasks that it starts; a block around it hears of it too."""
    around, started = _current.get(), StartedIds()
    token = _current.set(started)
    try:
        yield started
    finally:
        _current.reset(token)
        if around:
            around.tasks.extend(started.tasks)
            around.chats.extend(started.chats)


def record_task(task_id: str) -> None:
    """A run began."""
    if started := _current.get():
        started.tasks.append(task_id)


def record_chat(chat_id: str) -> None:
    """A message was taken by a chat."""
    if started := _current.get():
        started.chats.append(chat_id)
