"""Which task a start made whose reply was lost, and when that may be known (promise 1, reliability 4.1).

A task tells its upstream account, and nothing else about who started it: all callers who share a key share its tasks, and an
identical run of another caller looks the same. So this is the rule:

1. An id that an answer named to one call is that call's own. No other call of this process takes it, whatever its key.
2. A lost start may have made a task only if the task is newer than the sending and of the same: app, function, session, input.
3. That task is adopted only if it is the only one, all recent tasks were looked through, and nobody else can have started it:
   no other identical start of this process waits for its answer, is looked for, or was given up in the last minutes; and
   this server has no other replicas. What they start with the same key cannot be told apart.
4. Otherwise each is a candidate. Candidates are told to the caller, or to the log: they are never followed as the caller's
   run, and never cancelled.

Messages to agents go by the same rule; there it is the chat, or the message, that is looked for.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from typing import TYPE_CHECKING

from inferencesh_mcp.flows.bounded import RecentSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OWNED_LIMIT = 16_384
"""Ids that are remembered as some call's own: more than are made in the minutes for which a lost start is looked for."""
GIVEN_UP_LIMIT = 4_096
GIVEN_UP_SECONDS = 600.0
"""For so long the task of a start that was given up may still appear: a queue before the API may hold it back."""


class StartRegistry:
    """The starts of this process whose tasks are not known yet, and the ids of those that are."""

    def __init__(self, *, replicated: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """`replicated`: other processes may start runs with the same keys."""
        self.replicated = replicated
        self._open = Counter[str]()
        self._given_up = RecentSet[str](GIVEN_UP_LIMIT, GIVEN_UP_SECONDS, clock)
        self._owned = RecentSet[str](OWNED_LIMIT)

    def begin(self, what: str) -> Start:
        """Note that a start is about to be sent. `what` is equal for starts whose tasks could be mistaken for each other."""
        digest = hashlib.sha256(what.encode()).hexdigest()  # the input itself may be large
        self._open[digest] += 1
        return Start(self, digest)

    def is_owned(self, made: str) -> bool:
        """Whether a task, a chat or a message is some call's own."""
        return made in self._owned

    def is_only(self, what: str) -> bool:
        """Whether only one start of this process can have made a task of this."""
        return self._open[what] == 1 and what not in self._given_up

    def end(self, what: str, *, made: str = "", given_up: bool = False) -> None:
        """Take a start from those that are open."""
        self._open[what] -= 1
        if not self._open[what]:
            del self._open[what]
        if made:
            self._owned.add(made)
        if given_up:
            self._given_up.add(what)


class Start:
    """One start, from its sending until it is known what it made, or that this cannot be known."""

    def __init__(self, starts: StartRegistry, what: str) -> None:
        self._starts, self._what = starts, what

    @property
    def is_only(self) -> bool:
        """Whether what it made can be mistaken for what no other start of this process made."""
        return self._starts.is_only(self._what)

    def may_adopt(self, candidates: Sequence[str], *, complete: bool) -> bool:
        """Whether what was found is certainly what this start made (rule 3). `complete`: nothing was left unlooked at."""
        return len(candidates) == 1 and complete and self.is_only and not self._starts.replicated

    def made(self, made: str) -> None:
        """It is known what it made: that is this call's own from now on."""
        self._starts.end(self._what, made=made)

    def refused(self) -> None:
        """It made nothing."""
        self._starts.end(self._what)

    def give_up(self) -> None:
        """It may have made something, and nobody will know."""
        self._starts.end(self._what, given_up=True)
