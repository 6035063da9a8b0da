"""Cancel an abandoned run or chat, or keep it, as INFERENCE_ON_CANCEL says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.errors import Conflict, InferenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from inferencesh_mcp.api.models import Task
    from inferencesh_mcp.flows import Caller

CANCEL_GRACE = 5.0  # seconds for the request that cancels

logger = logging.getLogger(__name__)


async def cancel_abandoned_task(caller: Caller, task: Task) -> None:
    """Cancel a task, or keep it."""
    if task.ended:
        logger.info("task %s had ended when its caller left", task.id)
    else:
        await cancel_abandoned_run(caller, task.id)


async def cancel_abandoned_run(caller: Caller, task_id: str) -> None:
    """Cancel a task of which only the id is known, or keep it."""
    if not _keeps(caller, f"task {task_id}"):
        await _shielded(f"task {task_id}", "cancelled", caller.api.cancel(task_id))


async def cancel_abandoned_chat(caller: Caller, chat_id: str) -> None:
    """Stop the agent of a chat, or let it go on."""
    if not _keeps(caller, f"chat {chat_id}"):
        await _shielded(f"chat {chat_id}", "stopped", caller.api.chats.stop_chat(chat_id))


def log_abandoned_candidates(app: str, candidates: Iterable[str]) -> None:
    """Log the tasks that an abandoned run may be. Cancel none of them: each may belong to another caller."""
    where = f"it may be: {ids}" if (ids := ", ".join(candidates)) else "its task could not be found"
    logger.error("a run of %s may go on without its caller; %s", app, where)


def _keeps(caller: Caller, name: str) -> bool:
    # When `http` ends, the caller has not left: a deploy must not end what they pay for.
    keeps = caller.on_cancel == "keep" or caller.runs.drain.is_stopping
    if keeps:
        logger.warning("%s goes on without its caller", name)
    return keeps


async def _shielded(name: str, how: str, request: Awaitable[None]) -> None:
    """Send the request although the call is cancelled, and log the result: nobody else learns of it."""
    with anyio.move_on_after(CANCEL_GRACE, shield=True) as grace:
        try:
            await request
            logger.warning("%s was %s because its caller left", name, how)
        except Conflict:
            logger.info("%s had ended when its caller left", name)
        except InferenceError as exc:
            logger.error("%s may still run: it could not be %s (%s)", name, how, exc.code)  # noqa: TRY400
    if grace.cancelled_caught:
        logger.error("%s may still run: the request to have it %s was not answered", name, how)
