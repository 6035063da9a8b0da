"""Unexpected exceptions: logged with their traceback under an id; callers get only the id."""

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
    """Log an unexpected exception and return an error for the caller, which has none of its text."""
    error_id = secrets.token_hex(4)
    # As text, because the log may have a formatter of its own. The end of a traceback is the useful part.
    trace = without_secrets("".join(traceback.format_exception(exc)))[-MOST_OF_A_TRACEBACK:]
    logger.error("error %s in %s\n%s", error_id, where, trace)
    report = f"If it fails again, report error_id {error_id} to the operator of this server."
    match outcome:
        case "started" if task_id:
            then = (
                f'Follow the run with task_get(task_id="{task_id}", wait_seconds=45); do not start it again. {report}'
            )
        case "started" | "unknown":
            then = f"Check what was started with task_list before you call again. {report}"
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
