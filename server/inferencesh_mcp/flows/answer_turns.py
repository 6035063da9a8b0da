"""An answer to an agent is sent once: callers who answer the same question at the same time take turns.

Within this process the turns see to it. Between replicas the platform's own state does, which is read again right before the
sending, and the platform's refusal of a second answer.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.flows.bounded import RecentSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ANSWERED_LIMIT = 4_096
"""Answers that are remembered: for the moment in which the platform still tells what was before them."""


class AnswerTurns:
    """Who answers which question now, and what was answered lately."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], anyio.Lock] = {}
        self._answered = RecentSet[tuple[str, str, bytes]](ANSWERED_LIMIT)

    @asynccontextmanager
    async def turn(self, account: str, invocation_id: str) -> AsyncGenerator[None]:
        """A block that one call at a time is in, of all that answer this with one upstream account."""
        key = (account, invocation_id)
        lock = self._locks.setdefault(key, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(key, None)

    def note(self, account: str, invocation_id: str, question: str) -> None:
        """Remember that this very question was answered."""
        self._answered.add((account, invocation_id, _digest(question)))

    def is_answered(self, account: str, invocation_id: str, question: str) -> bool:
        return (account, invocation_id, _digest(question)) in self._answered


def _digest(question: str) -> bytes:
    return hashlib.sha256(question.encode(errors="replace")).digest()
