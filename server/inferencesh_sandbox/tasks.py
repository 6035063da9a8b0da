"""A task: one run of an app, its events, and its form in the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio

from inferencesh_sandbox.ids import fresh_id, stamp
from inferencesh_sandbox.ledger import Changed

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import App, Function
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.ledger import Ledger
    from inferencesh_sandbox.owners import Owner
    from inferencesh_sandbox.sessions import Session
    from inferencesh_sandbox.wire import Json

_LOG_OF_TASK = 4
_RUN_ANSWER = ("id", "short_id", "status", "output", "error", "session_id", "created_at", "updated_at", "run_at")
"""What a TaskResultDTO has of a TaskDTO."""


class Status(IntEnum):
    UNKNOWN = 0
    RECEIVED = 1
    QUEUED = 2
    DISPATCHED = 3
    PREPARING = 4
    SERVING = 5
    SETTING_UP = 6
    RUNNING = 7
    CANCELLING = 8
    UPLOADING = 9
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A validated run request."""

    app: App
    version_id: str
    function: Function
    inputs: Any
    """The input, validated."""
    input: Json
    """The input, as it came."""
    setup: Json
    session: Session | None
    base: str
    """The sandbox's URL as the caller sees it, for the URIs of files."""
    run_at: datetime | None
    echoed: Json
    """Fields that are only returned: infra, workers, webhook, variant, metadata, session_timeout."""


@dataclass(eq=False, kw_only=True)
class Task:
    """One task. Each change goes to the ledger and to all watchers."""

    request: RunRequest
    owner: Owner
    clock: Clock
    ledger: Ledger
    id: str = ""
    status: Status = Status.RECEIVED
    output: Json | None = None
    error: str = ""
    is_featured: bool = False
    visibility: str = "private"
    running_since: datetime | None = None
    events: list[Json] = field(default_factory=list["Json"])
    logs: list[Json] = field(default_factory=list["Json"])
    usage: list[Json] = field(default_factory=list["Json"])
    output_file_ids: list[str] = field(default_factory=list[str])
    lines: list[Json] = field(default_factory=list["Json"])
    """Of its streams, in order: partial updates and deltas. A task that has ended has none; open streams still hold them."""
    deltas: int = 0
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """Around the run: cancelled when the task is."""

    def __post_init__(self) -> None:
        self.created_at = self.updated_at = self.clock.now()
        self.id = fresh_id(self.created_at)
        self._changed = anyio.Event()
        self._record(Status.RECEIVED)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def changed(self) -> anyio.Event:
        """Set at the next change; ask again after each."""
        return self._changed

    def move(self, status: Status) -> None:
        """Set the status. A task that has ended does not change."""
        if self.ended or status == self.status:
            return
        self.status = status
        self._record(status)
        if status is Status.RUNNING:
            self.running_since = self.updated_at
        self.publish("status", "events")

    def end(self, status: Status, *, output: Json | None = None, error: str = "") -> None:
        if self.ended:
            return
        self.output, self.error = output if output is not None else self.output, error
        self.move(status)

    def log(self, text: str) -> None:
        now = stamp(self.clock.now())
        self.logs.append(
            {
                "id": fresh_id(self.clock.now()),
                "created_at": now,
                "updated_at": now,
                "task_id": self.id,
                "log_type": _LOG_OF_TASK,
                "content": text,
            }
        )
        self.publish("logs")

    def publish(self, *fields: str) -> None:
        """Send these fields to all watchers."""
        self.updated_at = self.clock.now()
        whole = self.dto()
        data = {name: whole[name] for name in ("id", *fields, "updated_at")}
        self._publish_line({"data": data, "fields": [*fields, "updated_at"]})

    def grow(self, delta: Json) -> None:
        """Stream an addition to the output."""
        self.deltas += 1
        self._publish_line({"event": "delta", "data": {"delta": delta, "seq": self.deltas}})

    def dto(self) -> Json:
        """The whole task, as a TaskDTO."""
        request = self.request
        return {
            **self.owner.record_fields(self.id, self.created_at, self.updated_at),
            "visibility": self.visibility,
            "user_public_key": "",
            "engine_public_key": "",
            "worker_id": request.session.worker_id if request.session else None,
            "status": int(self.status),
            "app_id": request.app.id,
            "app_version_id": request.version_id,
            "function": request.function.name,
            "input": request.input,
            "setup": request.setup or None,
            "output": self.output,
            "error": self.error,
            "events": list(self.events),
            "logs": list(self.logs),
            "usage_events": list(self.usage),
            "session_id": request.session.id if request.session else None,
            "run_at": stamp(request.run_at) if request.run_at else None,
            "is_featured": self.is_featured,
            "rating": "safe",
            **request.echoed,
        }

    def run_dto(self) -> Json:
        """The answer to a run, as a TaskResultDTO."""
        whole = self.dto()
        return {name: whole[name] for name in _RUN_ANSWER} | {"status_text": self.status.name.lower()}

    def timings_dto(self) -> Json:
        """The time that the task spent in each status. The last one of a live task is open."""
        groups: list[Json] = []
        events: list[Json] = []
        total = 0
        for before, after in pairwise(self.events):
            start, end = before["event_time"], after["event_time"]
            milliseconds = round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000)
            total += milliseconds
            duration = {"duration": _duration_text(milliseconds), "duration_ms": milliseconds}
            groups.append({"label": _status_name(before), "start_at": start, "end_at": end, **duration})
            status = {"status": _status_name(before), "next_status": _status_name(after)}
            events.append({**status, "timestamp": start, **duration})
        events.append({"status": _status_name(self.events[-1]), "timestamp": self.events[-1]["event_time"]})
        return {
            "task_id": self.id,
            "status": int(self.status),
            "total_duration": _duration_text(total),
            "total_duration_ms": total,
            "groups": groups,
            "events": events,
        }

    def used(self, kind: str, quantity: float, unit: str) -> None:
        now = self.clock.now()
        name = fresh_id(now)
        self.usage.append(
            {
                **self.owner.record_fields(name, now, now),
                "usage_billing_record_id": "",
                "reference_id": self.id,
                "resource_id": self.request.app.id,
                "tier": "cloud",
                "type": kind,
                "model": self.request.app.ref,
                "quantity": quantity,
                "unit": unit,
            }
        )

    def _record(self, status: Status) -> None:
        now = self.clock.now()
        self.updated_at = now
        self.ledger.note(Changed(task_id=self.id, status=int(status)))
        self.events.append(
            {
                "id": fresh_id(now),
                "created_at": stamp(now),
                "event_time": stamp(now),
                "task_id": self.id,
                "status": int(status),
            }
        )

    def _publish_line(self, line: Json) -> None:
        self.lines.append(line)
        if self.ended:
            self.lines = []
        self._changed.set()
        self._changed = anyio.Event()


def _status_name(event: Json) -> str:
    return Status(event["status"]).name.lower()


def _duration_text(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}s"
