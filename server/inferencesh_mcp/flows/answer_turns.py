"""The order of answers to an agent's questions.

The rule: a question is answered once. Calls that answer the same question at the same time take turns, and whoever comes
second is refused. Between replicas the platform decides: its state is read again right before an answer is sent, and it
refuses a second answer.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.bounded import RecentSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ANSWERED_LIMIT = 4_096
"""Answers remembered for the moments in which the platform still shows the state before them."""


class AnswerTurns:
    """Which calls answer which question now, and which questions were answered lately."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], anyio.Lock] = {}
        self._answered = RecentSet[tuple[str, str, bytes]](ANSWERED_LIMIT)

    @asynccontextmanager
    async def turn(self, account: str, invocation_id: str) -> AsyncGenerator[None]:
        """Let one call at a time into the block, of all that answer this invocation for one upstream account."""
        key = (account, invocation_id)
        lock = self._locks.setdefault(key, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(key, None)

    def note(self, account: str, invocation_id: str, question: str) -> None:
        """Remember that this question was answered."""
        self._answered.add((account, invocation_id, _digest(question)))

    def is_answered(self, account: str, invocation_id: str, question: str) -> bool:
        """Whether this question was answered lately."""
        return (account, invocation_id, _digest(question)) in self._answered


def _digest(question: str) -> bytes:
    return hashlib.sha256(question.encode(errors="replace")).digest()
