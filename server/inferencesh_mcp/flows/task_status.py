"""One set of status words for a task; the platform's finer word stands beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_mcp.api.enums import ENDED, STATUSES

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import Task

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


def status_of(task: Task) -> str:
    """`queued`, `running`, `completed`, `failed` or `cancelled`."""
    return _WORDS.get(task.status, task.status if task.ended else "running")


def status_detail(task: Task) -> str:
    """The platform's own word if it says more; empty if it is the same."""
    return "" if task.status == status_of(task) else task.status
