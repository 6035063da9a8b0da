"""Tenants: each key has data of its own, which no other key can see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferencesh_sandbox.ids import fingerprint
from inferencesh_sandbox.owners import BoundedStore, Owner
from inferencesh_sandbox.wire import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.facts import Facts
    from inferencesh_sandbox.sessions import Session
    from inferencesh_sandbox.tasks import Task

_KEY_PREFIX = "inf_"
_KEY_PREFIXES = (_KEY_PREFIX, "1nfsh-")
"""Documentation writes the first; the second is what newer keys begin with."""
_PERSON_PREFIX = "inf_person_"
_TENANTS = 10_000
_TASKS = _SESSIONS = _CHATS = 5_000
"""Limits of a tenant. The newest stay: a sandbox is no archive."""


@dataclass(eq=False)
class Tenant(Owner):
    """The data of one key."""

    tasks: BoundedStore[Task] = field(default_factory=lambda: BoundedStore(_TASKS, lambda task: task.ended))
    sessions: BoundedStore[Session] = field(
        default_factory=lambda: BoundedStore(_SESSIONS, lambda session: session.status != "active")
    )
    chats: BoundedStore[Chat] = field(default_factory=lambda: BoundedStore(_CHATS, lambda chat: not chat.busy))


class Tenants:
    """All tenants. The first request of a key creates its tenant."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._by_key: BoundedStore[Tenant] = BoundedStore(_TENANTS)

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._by_key)

    def of(self, request: Request) -> Tenant:
        """Find the tenant of a bearer key. Any key with a known prefix is valid.

        `inf_person_x` is the sign-in of the person whose key is `inf_x`. Both share one tenant.
        """
        key = key_in(request.headers.get("authorization", ""))
        if not key.startswith(_KEY_PREFIXES):
            raise Problem(401, "unauthorized", "the key must begin with inf_ or 1nfsh-")
        key = _KEY_PREFIX + key.removeprefix(_PERSON_PREFIX) if key.startswith(_PERSON_PREFIX) else key
        return self._of_key(key)

    def of_owner(self, owner: Owner) -> Tenant:
        return self._of_key(owner.key)

    def _of_key(self, key: str) -> Tenant:
        return self._by_key.get(key) or self._by_key.put(key, Tenant(key, self.facts))


def is_person(request: Request) -> bool:
    """Return whether a signed-in person asks. Only a person may decide approvals."""
    return key_in(request.headers.get("authorization", "")).startswith(_PERSON_PREFIX)


def caller_of(request: Request) -> str:
    """The fingerprint of the request's key."""
    return fingerprint(key_in(request.headers.get("authorization", "")))


def key_in(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
