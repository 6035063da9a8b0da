"""Sessions: a worker held between runs, with its memory, until it is idle too long."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from inferencesh_sandbox.ids import fresh_id, stamp
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from datetime import datetime

    from inferencesh_sandbox.apps.types import App
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.owners import BoundedStore, Owner

DEFAULT_TIMEOUT = 60
MAX_TIMEOUT_LENGTH = 3600


@dataclass(eq=False, kw_only=True)
class Session:
    """One held worker. It ends `idle_timeout` seconds after its last use."""

    app: App
    version_id: str
    owner: Owner
    clock: Clock
    idle_timeout: int
    memory: dict[str, Any] = field(default_factory=dict[str, Any])
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    """Calls of one session run one after another: there is one worker."""
    call_count: int = 0
    working: int = 0
    task_id: str | None = None
    last_call_at: datetime | None = None
    ended_at: datetime | None = None
    lost: bool = False

    def __post_init__(self) -> None:
        self.created_at = self.touched_at = self.clock.now()
        self.id = fresh_id(self.created_at)
        self.worker_id = fresh_id(self.created_at)

    @property
    def expires_at(self) -> datetime:
        return self.touched_at + timedelta(seconds=self.idle_timeout)

    @property
    def status(self) -> str:
        if self.ended_at:
            return "ended"
        return "expired" if not self.working and self.clock.now() >= self.expires_at else "active"

    def touch(self) -> None:
        """Reset the idle timer."""
        self.touched_at = self.clock.now()

    def end(self) -> None:
        self.ended_at = self.ended_at or self.clock.now()
        self.memory.clear()

    def begin(self, task_id: str) -> None:
        self.task_id, self.last_call_at = task_id, self.clock.now()
        self.call_count += 1
        self.working += 1
        self.touch()

    def finish(self) -> None:
        self.working -= 1
        self.touch()

    def dto(self) -> Json:
        """The session, as an AppSessionDTO."""
        return {
            **self.owner.record_fields(self.id, self.created_at, self.touched_at),
            "worker_id": self.worker_id,
            "app_id": self.app.id,
            "app_version_id": self.version_id,
            "status": self.status,
            "expires_at": stamp(self.expires_at),
            "ended_at": stamp(self.ended_at) if self.ended_at else None,
            "task_id": self.task_id,
            "call_count": self.call_count,
            "last_call_at": stamp(self.last_call_at) if self.last_call_at else None,
            "idle_timeout": self.idle_timeout,
        }


def find_session(sessions: BoundedStore[Session], session_id: str) -> Session:
    session = sessions.get(session_id)
    if session is None:
        raise Problem(404, "SESSION_NOT_FOUND", f"session {session_id!r} not found")
    return session


def ensure_usable(session: Session) -> Session:
    """Raise a Problem unless the session is still usable."""
    if session.lost:
        raise Problem(500, "WORKER_LOST", f"the worker of session {session.id} was lost; start a new session")
    if session.status == "expired":
        raise Problem(410, "SESSION_EXPIRED", f"session {session.id} expired at {stamp(session.expires_at)}")
    if session.status == "ended":
        raise Problem(410, "SESSION_ENDED", f"session {session.id} has ended")
    return session


def session_for_run(
    body: Json, app: App, version_id: str | None, *, owner: Owner, sessions: BoundedStore[Session], clock: Clock
) -> Session | None:
    """Find or create the session of a run request; None if it asks for none. A new one is not stored yet."""
    name, timeout = body.get("session"), body.get("session_timeout")
    if timeout is not None and name != "new":
        raise Problem(400, "invalid_request", "session_timeout is only valid with session 'new'")
    if not name:
        return None
    if name == "new":
        return Session(
            app=app,
            version_id=version_id or app.version_ids[0],
            owner=owner,
            clock=clock,
            idle_timeout=_checked_timeout(timeout),
        )
    return _checked_session(ensure_usable(find_session(sessions, str(name))), app, version_id)


def _checked_timeout(timeout: object) -> int:
    if timeout is None:
        return DEFAULT_TIMEOUT
    if not isinstance(timeout, int) or isinstance(timeout, bool) or not 1 <= timeout <= MAX_TIMEOUT_LENGTH:
        raise Problem(
            400, "invalid_request", f"session_timeout must be 1 to {MAX_TIMEOUT_LENGTH} seconds, not {timeout}"
        )
    return timeout


def _checked_session(session: Session, app: App, version_id: str | None) -> Session:
    if session.app is not app:
        raise Problem(409, "APP_MISMATCH", f"session {session.id} runs {session.app.ref}, not {app.ref}")
    if version_id and session.version_id != version_id:
        raise Problem(409, "VERSION_MISMATCH", f"session {session.id} runs another version of {app.ref}")
    return session
