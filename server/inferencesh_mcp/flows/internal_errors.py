"""Unexpected exceptions, and the ids of what the failed call had started.

The exception is logged with its traceback under an id, and callers get only the id. A paid id is never lost: flows record
each task and chat as soon as it is known, so that the answer can name it even if the call fails in a way that nobody foresaw.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import InternalError
from inferencesh_mcp.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Generator

    from inferencesh_mcp.errors import Outcome

MAX_TRACEBACK_LENGTH = 3_500  # characters: a line of the log holds 4,096

logger = logging.getLogger(__name__)


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


def internal_error(exc: BaseException, where: str, started: StartedIds, *, may_start: bool) -> InternalError:
    """Log an unexpected exception and return an error for the caller, which has none of its text.

    `may_start`: the call could have started something that is not in `started`, because its reply was lost.
    """
    error_id = secrets.token_hex(4)
    # As text, because the log may have a formatter of its own. The end of a traceback is the useful part.
    trace = without_secrets("".join(traceback.format_exception(exc)))[-MAX_TRACEBACK_LENGTH:]
    logger.error("error %s in %s\n%s", error_id, where, trace)
    outcome: Outcome | None = "started" if started.tasks or started.chats else "unknown" if may_start else None
    report = f"If it fails again, report error_id {error_id} to the operator of this server."
    return InternalError(
        message="Something went wrong inside this server.",
        next_step=f"{_next_step(started, outcome)} {report}",
        outcome=outcome,
        task_id=started.tasks[0] if started.tasks else None,
        candidates=tuple(started.tasks) if len(started.tasks) > 1 else (),
        retry_safe=False if outcome else None,
        error_id=error_id,
    )


def _next_step(started: StartedIds, outcome: Outcome | None) -> str:
    if started.tasks:
        return f'Follow the run with task_get(task_id="{started.tasks[0]}", wait_seconds=45); do not start it again.'
    if started.chats:
        return f'Read the chat with chat_get(chat_id="{started.chats[0]}") before you send anything again.'
    if outcome:
        return "Check what was started with task_list before you call again."
    return "Call again."
