"""All errors, as a tree by remedy. Imports nothing.

InferenceError
├── CallError              change the arguments
│   ├── InvalidInput         400, 422, or refused by us before anything was sent
│   ├── NotFound             404
│   │   └── SessionNotFound    no such session, or not the caller's
│   ├── Conflict             409
│   ├── Gone                 410
│   │   ├── SessionExpired     it was idle for longer than its time-out
│   │   └── SessionEnded       it was ended
│   └── FileRefused          a file must not or cannot be read or written
├── AccountError           a person has to do something
│   ├── KeyMissing           no key
│   ├── KeyRefused           401
│   ├── PaymentRequired      402
│   ├── Forbidden            403
│   ├── SpendLimitExceeded   a run may cost more than the operator allows without asking
│   └── RequirementsNotMet   412, with what is missing and how to supply it
├── WaitError              the same call may work later
│   ├── RateLimited          429, or a limit of this server
│   ├── Unavailable          5xx, no connection, or this server stops
│   └── TimedOut             no answer in time
├── WorkerLost             the session's machine and its state are lost
├── OutcomeUnknown         the reply to something that must not be sent twice was lost
├── UpstreamError          the API's answer cannot be understood: report it
├── InternalError          a bug in the server: its text is only in the log
├── HostFileRefused        a host's configuration cannot be edited; nothing was changed
└── SettingsError          a setting is wrong: the start is refused
"""

from __future__ import annotations

import dataclasses
from dataclasses import FrozenInstanceError, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

Outcome = Literal["not_started", "started", "unknown"]
"""Whether a run was started (I-3)."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One thing that an app still needs from a person (HTTP 412)."""

    kind: str
    """`secret`, `integration`, `credential` or `scope`."""
    key: str
    message: str
    action: str = ""
    """What to do about it, as a sentence; empty if the API named no action."""
    details: tuple[str, ...] = ()
    """What the provider adds, one line each: instructions, a website, the meaning of scopes. Foreign text."""


@dataclass(eq=False, kw_only=True)
class InferenceError(Exception):
    """The root. The text says what failed; the fields say what that means for the caller. Frozen: see `replace`."""

    code: ClassVar[str] = "error"
    """Stable, machine-readable name of the failure: part of the answers' contract."""

    message: str
    next_step: str = ""
    """What to do next, as a sentence."""
    outcome: Outcome | None = None
    """Set on every error while a run is started or followed."""
    task_id: str | None = None
    retry_safe: bool | None = None
    """Whether the same call can be made again without risking a second paid run."""
    status: int | None = None
    """The HTTP status, if the error came from the API."""
    upstream_code: str = ""
    """The API's own code, for example `SESSION_EXPIRED`."""
    retry_after: float | None = None
    """Seconds the API asked to wait."""
    candidates: tuple[str, ...] = ()
    """Task ids that may belong to a run whose reply was lost."""
    suggestions: tuple[str, ...] = ()
    """References similar to one that was not found."""
    requirements: tuple[Requirement, ...] = field(default=())

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def __setattr__(self, name: str, value: object) -> None:
        # Not by `frozen=True`, which would also refuse the `__traceback__` that contextlib sets.
        if name in self.__dict__:
            raise FrozenInstanceError(name)
        super().__setattr__(name, value)

    def replace(self, **changes: Any) -> Self:
        """The same error with other fields, for who knows more: `raise error.replace(outcome="started") from error`."""
        changed = dataclasses.replace(self, **changes)
        changed.__cause__ = self.__cause__
        return changed


class CallError(InferenceError):
    code = "invalid_call"


class InvalidInput(CallError):
    code = "invalid_input"


class NotFound(CallError):
    code = "not_found"


class SessionNotFound(NotFound):
    code = "session_not_found"


class Conflict(CallError):
    code = "conflict"


class Gone(CallError):
    code = "gone"


class SessionExpired(Gone):
    code = "session_expired"


class SessionEnded(Gone):
    code = "session_ended"


class FileRefused(CallError):
    code = "file_refused"


class AccountError(InferenceError):
    code = "account"


class KeyMissing(AccountError):
    code = "key_missing"


class KeyRefused(AccountError):
    code = "key_refused"


class PaymentRequired(AccountError):
    code = "payment_required"


class Forbidden(AccountError):
    code = "forbidden"


class SpendLimitExceeded(AccountError):
    code = "spend_limit_exceeded"


class RequirementsNotMet(AccountError):
    code = "requirements_not_met"


class WaitError(InferenceError):
    code = "wait"


class RateLimited(WaitError):
    code = "rate_limited"


class Unavailable(WaitError):
    code = "unavailable"


class TimedOut(WaitError):
    code = "timed_out"


class WorkerLost(InferenceError):
    code = "worker_lost"


@dataclass(eq=False, kw_only=True)
class OutcomeUnknown(InferenceError):
    code = "outcome_unknown"

    sent_at: datetime | None = None
    """When the request was sent, by the API's clock: a run that it started was created after this."""


class UpstreamError(InferenceError):
    code = "upstream_error"


@dataclass(eq=False, kw_only=True)
class InternalError(InferenceError):
    code = "internal_error"

    error_id: str = ""
    """The error's id in the log."""


class HostFileRefused(InferenceError):
    code = "host_file_refused"


class SettingsError(InferenceError):
    code = "settings"
