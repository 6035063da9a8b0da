"""A record of everything that happened: the ground truth for tests."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeVar

_ENTRIES_PER_TYPE = 20_000
"""Entries of each kind that are remembered, the newest: a sandbox that runs for weeks stays small."""


@dataclass(kw_only=True)
class RequestRecord:
    """One request. Its status is 0 until the answer begins."""

    caller: str
    """Fingerprint of the key, never the key; empty for none."""
    method: str
    path: str
    status: int = 0


@dataclass(frozen=True, kw_only=True)
class Started:
    """One task that was made."""

    task_id: str
    app: str
    caller: str


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One change of a task's status."""

    task_id: str
    status: int


@dataclass(frozen=True, kw_only=True)
class CancelRequested:
    """One cancellation that reached a live task."""

    task_id: str
    caller: str


@dataclass(frozen=True, kw_only=True)
class MessageSent:
    """One message from a client to an agent. Messages between agents are not recorded."""

    chat_id: str
    message_id: str
    agent: str
    text: str
    caller: str


@dataclass(frozen=True, kw_only=True)
class Invoked:
    """One tool call that was run, after its approval if it needed one."""

    chat_id: str
    invocation_id: str
    tool: str
    type: str


@dataclass(frozen=True, kw_only=True)
class ResultGiven:
    """One result that was taken for a client tool or a widget."""

    chat_id: str
    invocation_id: str
    result: str
    caller: str


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One decision that was taken: `invoke`, `reject` or `always_allow`."""

    chat_id: str
    invocation_id: str
    decision: str
    reason: str
    option: str = ""
    """Of `always_allow`: the key of the option that was chosen."""
    caller: str


@dataclass(frozen=True, kw_only=True)
class StopRequested:
    """One stop of a busy chat."""

    chat_id: str
    caller: str


Entry = (
    RequestRecord | Started | CancelRequested | Changed
    | MessageSent | Invoked | ResultGiven | Decided | StopRequested
)  # fmt: skip
_Kind = TypeVar("_Kind")


class Ledger:
    """A bounded record of every request and its effects."""

    def __init__(self) -> None:
        self._entries: dict[type, deque[Any]] = {}

    @property
    def starts(self) -> tuple[Started, ...]:
        return self._all(Started)

    @property
    def cancels(self) -> tuple[CancelRequested, ...]:
        return self._all(CancelRequested)

    @property
    def changes(self) -> tuple[Changed, ...]:
        return self._all(Changed)

    @property
    def messages(self) -> tuple[MessageSent, ...]:
        return self._all(MessageSent)

    @property
    def invocations(self) -> tuple[Invoked, ...]:
        return self._all(Invoked)

    @property
    def results(self) -> tuple[ResultGiven, ...]:
        return self._all(ResultGiven)

    @property
    def decisions(self) -> tuple[Decided, ...]:
        return self._all(Decided)

    @property
    def stops(self) -> tuple[StopRequested, ...]:
        return self._all(StopRequested)

    def requests(self, method: str | None = None, path: str | None = None) -> tuple[RequestRecord, ...]:
        """Every request so far, or those of one method and a path like `/tasks/*/stream`."""
        return tuple(
            record
            for record in self._all(RequestRecord)
            if method in {None, record.method} and (path is None or matches(record.path, path))
        )

    def note(self, entry: Entry) -> None:
        self._entries.setdefault(type(entry), deque(maxlen=_ENTRIES_PER_TYPE)).append(entry)

    def _all(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        return tuple(self._entries.get(kind, ()))


def matches(path: str, pattern: str) -> bool:
    """Return whether a path matches. `*` is one segment, `**` any number of segments."""
    escaped = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(escaped, path, re.DOTALL) is not None
