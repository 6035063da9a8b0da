"""What this process remembers about questions to people. Every part is bounded."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.bounded import RecentSet
from inferencesh_mcp.flows.approval_details import Asker, DetailsMemory

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from inferencesh_mcp.api.chat_turn import Pending

ANSWERED_LIMIT = 4_096
"""Answers remembered for the moments in which the platform still shows the state before them."""
SIGN_IN_LIMIT = 4_096
SIGN_IN_SECONDS = 900.0
"""How long a refused decision is remembered. The rights of a key can change without notice."""


class ApprovalMemory:
    """The order of answers, the details of approvals, and which questions need the person's own sign-in.

    A question is answered once. Calls that answer the same question at the same time take turns, and whoever comes second is
    refused. Between replicas the platform decides: its state is read again right before an answer is sent, and it refuses a
    second answer.
    """

    def __init__(self) -> None:
        self.details = DetailsMemory()
        self._locks: dict[tuple[str, str], anyio.Lock] = {}
        self._answered = RecentSet[tuple[str, str, bytes]](ANSWERED_LIMIT)
        self._sign_in_only = RecentSet[tuple[str, str]](SIGN_IN_LIMIT, seconds=SIGN_IN_SECONDS)

    @asynccontextmanager
    async def exclusive(self, caller: Asker, item: Pending) -> AsyncGenerator[None]:
        """Let one call at a time into the block, of all that answer this item for one upstream account."""
        key = (caller.api.account, item.id)
        lock = self._locks.setdefault(key, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(key, None)

    def note_answered(self, caller: Asker, item: Pending) -> None:
        """Remember that this item was answered."""
        self._answered.add(_answer_key(caller, item))

    def is_answered(self, caller: Asker, item: Pending) -> bool:
        """Whether this item was answered lately, as it is now."""
        return _answer_key(caller, item) in self._answered

    def note_sign_in_only(self, caller: Asker, item: Pending) -> None:
        """Remember that the platform accepts no decision of this kind with the caller's key."""
        self._sign_in_only.add((caller.principal, type(item).__name__))

    def is_sign_in_only(self, caller: Asker, item: Pending) -> bool:
        """Whether only the signed-in person can decide this, as far as is known."""
        return (caller.principal, type(item).__name__) in self._sign_in_only


def _answer_key(caller: Asker, item: Pending) -> tuple[str, str, bytes]:
    question = hashlib.sha256(repr(item).encode(errors="replace")).digest()
    return caller.api.account, item.id, question
