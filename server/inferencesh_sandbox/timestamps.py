"""The time that a task spent in each status."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from inferencesh_sandbox.tasks import Status

if TYPE_CHECKING:
    from inferencesh_sandbox.tasks import Task
    from inferencesh_sandbox.wire import Json


def timings(task: Task) -> Json:
    """A task's statuses as spans. The last span of a live task is open."""
    spans = [_span(before, after) for before, after in pairwise(task.events)]
    total = sum(span["duration_ms"] for span in spans)
    return {
        "task_id": task.id,
        "status": int(task.status),
        "total_duration": _duration_text(total),
        "total_duration_ms": total,
        "groups": [{name: span[name] for name in _GROUP} for span in spans],
        "events": [{name: span[name] for name in _EVENT} for span in spans] + [_last(task)],
    }


_GROUP = ("label", "start_at", "end_at", "duration", "duration_ms")
_EVENT = ("status", "timestamp", "duration", "duration_ms", "next_status")


def _span(before: Json, after: Json) -> Json:
    start, end = before["event_time"], after["event_time"]
    spent = round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000)
    status = _status_name(before)
    return {
        "label": status, "status": status, "next_status": _status_name(after), "timestamp": start,
        "start_at": start, "end_at": end, "duration": _duration_text(spent), "duration_ms": spent,
    }  # fmt: skip


def _last(task: Task) -> Json:
    return {"status": _status_name(task.events[-1]), "timestamp": task.events[-1]["event_time"]}


def _status_name(event: Json) -> str:
    return Status(event["status"]).name.lower()


def _duration_text(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}s"
