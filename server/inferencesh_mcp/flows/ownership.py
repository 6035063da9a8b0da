"""Which task a start made if its reply was lost, and when that may be known.

A task shows its upstream account and nothing else about who started it. All callers who share a key share its tasks, and an
identical run of another caller looks the same. So this is the rule:

1. An id in an answer to one call belongs to that call. No other call of this process takes it, whatever its key.
2. A lost start may have made a task only if the task is newer than the sending and of the same app, function, session and
   input.
3. That task is adopted only if it is the only one, all recent tasks were searched, and nobody else can have started it: no
   other identical start of this process waits for its answer, is searched for, or was given up in the last minutes; and
   this server has no other replicas, because what they start with the same key looks the same.
4. Otherwise each such task is a candidate. Candidates are named to the caller or in the log. They are never followed as the
   caller's run, and never cancelled.

The same rule holds for messages to agents; there the chat, or the message, is searched for.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from typing import TYPE_CHECKING

from inferencesh_mcp.bounded import RecentSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_OWNED = 16_384
"""Ids remembered as some call's own: more than are made in the minutes in which a lost start is searched for."""
MAX_GIVEN_UP = 4_096
GIVEN_UP_SECONDS = 600.0
"""How long the task of a start that was given up may still appear: a queue before the API may hold it back."""


class StartRegistry:
    """The starts of this process whose tasks are not known yet, and the ids of those whose tasks are."""

    def __init__(self, *, replicated: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """`replicated`: other processes may start runs with the same keys."""
        self.replicated = replicated
        self._open = Counter[str]()
        self._given_up = RecentSet[str](MAX_GIVEN_UP, GIVEN_UP_SECONDS, clock)
        self._owned = RecentSet[str](MAX_OWNED)

    def begin(self, fingerprint: str) -> Start:
        """Register a start before it is sent. `fingerprint` is equal for starts whose tasks could be confused."""
        digest = hashlib.sha256(fingerprint.encode()).hexdigest()  # the input itself may be large
        self._open[digest] += 1
        return Start(self, digest)

    def is_owned(self, made_id: str) -> bool:
        """Whether a task, a chat or a message belongs to some call."""
        return made_id in self._owned

    def has_no_rivals(self, digest: str) -> bool:
        """Whether only one start of this process can have made a task with this fingerprint."""
        return self._open[digest] == 1 and digest not in self._given_up

    def end(self, digest: str, *, made_id: str = "", given_up: bool = False) -> None:
        """Remove a start from the open ones."""
        self._open[digest] -= 1
        if not self._open[digest]:
            del self._open[digest]
        if made_id:
            self._owned.add(made_id)
        if given_up:
            self._given_up.add(digest)


class Start:
    """One start, from before it is sent until it is known what it made, or that this cannot be known."""

    def __init__(self, registry: StartRegistry, digest: str) -> None:
        self._registry, self._digest = registry, digest

    @property
    def has_no_rivals(self) -> bool:
        """Whether no other start of this process can have made what this one did."""
        return self._registry.has_no_rivals(self._digest)

    def may_adopt(self, candidates: Sequence[str], *, complete: bool) -> bool:
        """Whether the candidate certainly is what this start made (rule 3). `complete`: everything recent was searched."""
        return len(candidates) == 1 and complete and self.has_no_rivals and not self._registry.replicated

    def made(self, made_id: str) -> None:
        """Record what it made: the id belongs to this call from now on."""
        self._registry.end(self._digest, made_id=made_id)

    def made_nothing(self) -> None:
        """Record that it made nothing."""
        self._registry.end(self._digest)

    def give_up(self) -> None:
        """Record that it may have made something that will not be found."""
        self._registry.end(self._digest, given_up=True)
