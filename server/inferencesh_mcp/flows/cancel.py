"""What nobody waits for any more is brought to the end that the operator chose (reliability D-5)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.errors import Conflict, InferenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from inferencesh_mcp.api.models import Task
    from inferencesh_mcp.flows import Caller

CANCEL_GRACE = 5.0  # seconds for telling the platform that nobody waits any more

logger = logging.getLogger(__name__)


async def cancel_abandoned_task(caller: Caller, task: Task) -> None:
    """Cancel a task, or let it go on where the operator wants that."""
    if task.ended:
        logger.info("task %s had ended when its caller left", task.id)
    else:
        await cancel_abandoned_run(caller, task.id)


async def cancel_abandoned_run(caller: Caller, task_id: str) -> None:
    """The same of a task of which no more is known than its id."""
    if _stops(caller, f"task {task_id}"):
        await _stopped(f"task {task_id}", "cancelled", caller.api.cancel(task_id))


def log_abandoned_candidates(app: str, candidates: Iterable[str]) -> None:
    """Name the tasks that a run may be: which of them to cancel, nobody can tell."""
    told = f"it may be: {ids}" if (ids := ", ".join(candidates)) else "its task could not be found"
    logger.error("a run of %s may go on without its caller; %s", app, told)


async def cancel_abandoned_chat(caller: Caller, chat_id: str) -> None:
    """Stop the agent of a chat, or let it go on where the operator wants that."""
    if _stops(caller, f"chat {chat_id}"):
        await _stopped(f"chat {chat_id}", "stopped", caller.api.chats.stop_chat(chat_id))


def _stops(caller: Caller, what: str) -> bool:
    # It is not the caller who leaves when the server does: a deploy must not end what they pay for (reliability 4.4).
    keeps = caller.on_cancel == "keep" or caller.runs.drain.started
    if keeps:
        logger.warning("%s goes on without its caller", what)
    return not keeps


async def _stopped(what: str, how: str, stop: Awaitable[None]) -> None:
    """Do it under a shield, within the grace, and say how it went: the log is all that remains."""
    with anyio.move_on_after(CANCEL_GRACE, shield=True) as grace:
        try:
            await stop
            logger.warning("%s was %s because its caller left", what, how)
        except Conflict:
            logger.info("%s had ended when its caller left", what)
        except InferenceError as exc:
            logger.error("%s may still run: it could not be %s (%s)", what, how, exc.code)  # noqa: TRY400
    if grace.cancelled_caught:
        logger.error("%s may still run: that it be %s was not answered", what, how)
