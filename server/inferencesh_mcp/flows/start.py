"""Start a run once, and know its id.

A start is never sent again if it may have arrived. If the reply was lost, the task is looked for among the recent ones
(`lost_starts`), and taken as this run's only if nothing else can have started it (`ownership`).
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.models import MAX_PAGE_SIZE
from inferencesh_mcp.errors import OutcomeUnknown
from inferencesh_mcp.flows.cancel import cancel_abandoned_task, log_abandoned_candidates
from inferencesh_mcp.flows.lost_starts import Candidates, LostStart

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import RunRequest, Task
    from inferencesh_mcp.flows import Caller

SEARCH_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each search of the recent tasks
ALLOWANCE = timedelta(seconds=2)  # on top of the known clock skew: `Date` has whole seconds, and replies take a while
PAGES = 5  # of recent tasks in one search: a lost start is at most some seconds old

logger = logging.getLogger(__name__)


async def start(caller: Caller, request: RunRequest, app_id: str) -> Task:
    """Start a run and return its task. If the reply is lost, return the task that certainly is this run's.

    Raises:
        OutcomeUnknown: it is not known whether the run started; `candidates` are the tasks it may be.
        InferenceError: it did not start; `outcome` says so.
    """
    this_start = caller.runs.starts.begin(_fingerprint(request, app_id))
    try:
        task = await caller.api.run(request)
    except OutcomeUnknown as lost:
        logger.warning("the reply to a run of %s was lost; looking for its task", request.app)
        since = (lost.sent_at or datetime.now(UTC)) - ALLOWANCE
        result = await LostStart(
            caller=caller,
            start=this_start,
            delays=SEARCH_DELAYS,
            search=partial(_search, caller, request, app_id, since),
            cancel=partial(cancel_abandoned_task, caller),
            log_candidates=partial(log_abandoned_candidates, request.app),
        ).find()
        if isinstance(result, list):
            # Also in the log: the caller may have left, or never see the answer.
            ids = ", ".join(result) or "its task could not be found"
            logger.warning("what became of a run of %s is not known, and it may still run: %s", request.app, ids)
            raise _outcome_unknown(request, lost, result) from lost
        return result
    except (
        BaseException
    ):  # a cancelled call too: see `Transport._attempt`, which lets no request be cancelled once it is sent
        this_start.made_nothing()
        raise
    this_start.made(task.id)
    return task


async def _search(caller: Caller, request: RunRequest, app_id: str, since: datetime) -> Candidates[Task]:
    """The tasks that the lost start may have made: newer than its sending, of the same work, and no other call's own."""
    candidates: dict[str, Task] = {}
    cursor = ""
    for _ in range(PAGES):
        page = await caller.api.list_tasks(limit=MAX_PAGE_SIZE, since=since, cursor=cursor)
        recent = [task for task in page.items if task.created_at is None or task.created_at >= since]
        candidates |= {
            task.id: task
            for task in recent
            if _is_same(task, request, app_id) and not caller.runs.starts.is_owned(task.id)
        }
        cursor = page.next_cursor
        if len(recent) < len(page.items) or not (page.has_next and cursor):  # newest first: the rest is older
            return Candidates(candidates, complete=True)
    return Candidates(candidates)


def _is_same(task: Task, request: RunRequest, app_id: str) -> bool:
    """Whether a task is of the work that was requested, as far as the task shows it."""
    return (
        task.app_id in {"", app_id}
        and _canonical(task.input) == _canonical(request.input)
        and task.function in {"", request.function or task.function}
        and request.session in {None, "new", task.session_id}
    )


def _fingerprint(request: RunRequest, app_id: str) -> str:
    """Equal for starts whose tasks `_is_same` may confuse: a function or session that is not named matches any."""
    return _canonical(["run", app_id, request.input])


def _canonical(value: Any) -> str:
    """The value in one spelling: the API may return 7.0 as 7. Integers stay exact, however large (seeds)."""
    return json.dumps(json.loads(json.dumps(value), parse_float=_number), sort_keys=True)


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _outcome_unknown(request: RunRequest, lost: OutcomeUnknown, candidates: list[str]) -> OutcomeUnknown:
    if candidates:
        where = f"it may be {' or '.join(candidates)}"
        next_step = "Look at these tasks with `task_get`; do not run the app again before that."
    else:
        where = "it is not among the recent tasks, but may still appear"
        next_step = "Call `task_list` in a minute to see whether it runs; running it again may pay twice."
    return OutcomeUnknown(
        message=f"{request.app}: {lost.message}; {where}.",
        next_step=next_step,
        outcome="unknown",
        retry_safe=False,
        candidates=tuple(candidates),
    )
