"""A run that nobody waits for any more is brought to the end that the operator chose (reliability D-5)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.errors import Conflict, InferenceError

if TYPE_CHECKING:
    from inferencesh_mcp.flows import Caller

CANCEL_GRACE = 5.0  # seconds for telling the platform that nobody waits any more

logger = logging.getLogger(__name__)


async def leave(caller: Caller, task_id: str) -> None:
    """Cancel a task, or let it go on where the operator wants that, and say so: the log is all that remains."""
    if caller.on_cancel == "keep":
        logger.warning("task %s goes on without its caller", task_id)
        return
    with anyio.move_on_after(CANCEL_GRACE, shield=True) as grace:
        try:
            await caller.api.cancel(task_id)
            logger.warning("task %s was cancelled because its caller left", task_id)
        except Conflict:
            logger.info("task %s had ended when its caller left", task_id)
        except InferenceError as exc:
            logger.error("task %s may still run: it could not be cancelled (%s)", task_id, exc.code)  # noqa: TRY400
    if grace.cancelled_caught:
        logger.error("task %s may still run: the cancel was not answered", task_id)
