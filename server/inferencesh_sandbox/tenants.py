"""Tenants: each key has data of its own, which no other key can see."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from inferencesh_sandbox.facts import Facts
from inferencesh_sandbox.ids import fingerprint, lasting_id
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.sessions import Session
    from inferencesh_sandbox.tasks import Task

Thing = TypeVar("Thing")

_KEY_PREFIX = "inf_"
_KEY_PREFIXES = (_KEY_PREFIX, "1nfsh-")
"""Documentation writes the first; the second is what newer keys begin with."""
_PERSON_PREFIX = "inf_person_"
_TENANTS = 10_000
_TASKS = _SESSIONS = _CHATS = 5_000
"""How many are kept, the newest: a sandbox is no archive."""


class BoundedStore(Generic[Thing]):
    """Items by id, up to a limit. A new item evicts the oldest that may be evicted."""

    def __init__(self, context: int, can_go: Callable[[Thing], bool] = lambda _: True) -> None:
        self._room = context
        self._can_go = can_go
        self._things: OrderedDict[str, Thing] = OrderedDict()

    def __iter__(self) -> Iterator[Thing]:
        return iter(list(self._things.values()))

    def get(self, name: str) -> Thing | None:
        return self._things.get(name)

    def put(self, name: str, thing: Thing) -> Thing:
        if len(self._things) >= self._room:
            self._make_room()
        self._things[name] = thing
        return thing

    def take(self, name: str) -> Thing | None:
        return self._things.pop(name, None)

    def _make_room(self) -> None:
        oldest = next((name for name, thing in self._things.items() if self._can_go(thing)), None)
        if oldest is None:
            raise Problem(402, "limit_exceeded", "the sandbox is full of things that are still in use")
        del self._things[oldest]


@dataclass(eq=False)
class Tenant:
    """The data of one key."""

    key: str = field(repr=False)
    facts: Facts = field(default_factory=Facts)
    tasks: BoundedStore[Task] = field(default_factory=lambda: BoundedStore(_TASKS, lambda task: task.ended))
    sessions: BoundedStore[Session] = field(
        default_factory=lambda: BoundedStore(_SESSIONS, lambda session: session.status != "active")
    )
    chats: BoundedStore[Chat] = field(default_factory=lambda: BoundedStore(_CHATS, lambda chat: not chat.busy))

    @property
    def caller(self) -> str:
        return fingerprint(self.key)

    @property
    def user_id(self) -> str:
        return lasting_id(f"user {self.key}")

    @property
    def team_id(self) -> str:
        return lasting_id(f"team {self.key}")

    def owns(self) -> Json:
        """The owner's fields of a DTO."""
        return {"user_id": self.user_id, "team_id": self.team_id, "visibility": "private"}


class Tenants:
    """All tenants. The first request of a key creates its tenant."""

    def __init__(self, facts: Facts | None = None) -> None:
        self.facts = facts or Facts()
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
