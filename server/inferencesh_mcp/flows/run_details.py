"""What an answer says of a run besides its output: its status word, duration, session, charge and files, and the estimate.

What has to be read for that may neither delay nor fail the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.api.enums import ENDED, STATUSES
from inferencesh_mcp.api.models import Session
from inferencesh_mcp.errors import Gone
from inferencesh_mcp.flows.concurrency import PATIENCE, both, for_each, optional_call
from inferencesh_mcp.flows.output_files import output_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from inferencesh_mcp.api.models import Estimate, File, Task
    from inferencesh_mcp.flows import Caller

_QUEUED = ("received", "queued")
_WORDS = {**dict.fromkeys(_QUEUED, "queued"), "rejected": "failed"}
_LIVE = tuple(status for status in STATUSES if status not in ENDED and status != "unknown")
STATUS_FILTERS: dict[str, tuple[str, ...]] = {
    "any": (),
    "active": _LIVE,
    "queued": _QUEUED,
    "running": tuple(status for status in _LIVE if status not in _QUEUED),
    "completed": ("completed",),
    "failed": ("failed", "rejected"),
    "cancelled": ("cancelled",),
}
"""The platform's statuses that each of our words means."""


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """What is known about a run besides its task."""

    now: datetime | None = None
    """When it was read, by the platform's clock."""
    session: Session | None = None
    charge: int | None = None
    """Microcents; None if it is not known, or not yet."""
    files: tuple[File, ...] = ()
    """The files of the output, with the names that the platform knows."""
    estimate: Estimate | None = None
    """For the run's own input; read only while it runs."""


async def read_details(
    caller: Caller, task: Task, estimate: Callable[[], Awaitable[Estimate | None]] | None = None
) -> RunDetails:
    """Read what an answer about this task adds to it, all at the same time."""

    async def price() -> Estimate | None:
        return await estimate() if estimate and not task.ended else None

    (session, charge), (files, run_estimate) = await both(
        lambda: both(lambda: session_of(caller, task), lambda: charge_of(caller, task)),
        lambda: both(lambda: files_of(caller, task), price),
    )
    return RunDetails(now=caller.api.now(), session=session, charge=charge, files=files, estimate=run_estimate)


async def session_of(caller: Caller, task: Task) -> Session | None:
    """The session that a task used, with its expiry."""
    if not task.session_id:
        return None
    try:
        return await optional_call(caller.api.session(task.session_id), f"session {task.session_id}", reraise=Gone)
    except Gone:
        return Session(id=task.session_id, status="ended")


async def charge_of(caller: Caller, task: Task) -> int | None:
    """What an ended task was charged, in microcents; None if it still runs or the platform does not say yet."""
    if not task.ended:
        return None
    cost = await optional_call(caller.api.billing.task_cost(task.id), f"cost of {task.id}")
    return cost.charged if cost else None


async def charges_of(caller: Caller, tasks: Sequence[Task]) -> dict[str, int]:
    """What each of these tasks was charged, where that is known."""
    charges: dict[str, int] = {}

    async def read(task: Task) -> None:
        charge = await charge_of(caller, task)
        if charge is not None:
            charges[task.id] = charge

    with anyio.move_on_after(PATIENCE):
        await for_each(tasks, read)
    return charges


async def files_of(caller: Caller, task: Task) -> tuple[File, ...]:
    """The files of a task's output as the platform knows them."""
    if not output_files(task.output, 1):
        return ()
    return await optional_call(caller.api.task_files(task.id), f"files of {task.id}") or ()


def elapsed_seconds(task: Task, now: datetime | None) -> float | None:
    """How long a task took, or has taken so far, since its start; None if that is not known."""
    began = max(filter(None, (task.created_at, task.run_at)), default=None)
    until = task.updated_at if task.ended else now
    return max((until - began).total_seconds(), 0) if began and until else None


def status_of(task: Task) -> str:
    """`queued`, `running`, `completed`, `failed` or `cancelled`."""
    return _WORDS.get(task.status, task.status if task.ended else "running")


def status_detail(task: Task) -> str:
    """The platform's own word if it says more; empty if it is the same."""
    return "" if task.status == status_of(task) else task.status
