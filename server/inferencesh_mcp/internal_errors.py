"""What nobody foresaw: kept in the log with its traceback, and told to others by its number alone."""

from __future__ import annotations

import logging
import secrets
import traceback
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import InternalError
from inferencesh_mcp.redaction import without_secrets

if TYPE_CHECKING:
    from inferencesh_mcp.errors import Outcome

MOST_OF_A_TRACEBACK = 3_500  # characters: a line of the log holds 4,096

logger = logging.getLogger(__name__)


def internal_error(
    exc: BaseException, where: str, *, outcome: Outcome | None = None, task_id: str = ""
) -> InternalError:
    """Log an unexpected exception, and make the error that stands for it: none of its text is in that."""
    error_id = secrets.token_hex(4)
    # As text, since others may format this log than we: the end of a traceback is what tells most.
    trace = without_secrets("".join(traceback.format_exception(exc)))[-MOST_OF_A_TRACEBACK:]
    logger.error("error %s in %s\n%s", error_id, where, trace)
    report = f"If it fails again, report error_id {error_id} to whoever runs this server."
    match outcome:
        case "started" if task_id:
            then = (
                f'Follow the run with task_get(task_id="{task_id}", wait_seconds=45); do not start it again. {report}'
            )
        case "started" | "unknown":
            then = f"Look at what was started with task_list or chat_list before you call again. {report}"
        case _:
            then = f"Call again. {report}"
    return InternalError(
        message="Something went wrong inside this server.",
        next_step=then,
        outcome=outcome,
        task_id=task_id or None,
        retry_safe=None if outcome is None else outcome == "not_started",
        error_id=error_id,
    )
