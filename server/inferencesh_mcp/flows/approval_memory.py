"""What this process remembers about questions to people. Every part is bounded."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import anyio

from inferencesh_mcp.bounded import BoundedDict, RecentSet
from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.flows.concurrency import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from inferencesh_mcp.api.chat_models import AlwaysAllowOption, SecretSend, ToolExplanation
    from inferencesh_mcp.api.chat_turn import Approval, Pending
    from inferencesh_mcp.api.client import Api

REMEMBERED = 1_024
"""Calls whose details are cached, because a question may be asked again."""
MAX_ANSWERED = 4_096
"""Answers remembered for the moments in which the platform still shows the state before them."""
MAX_SIGN_INS = 4_096
SIGN_IN_SECONDS = 900.0
"""How long a refused decision is remembered. The rights of a key can change without notice."""

_NO_SUCH_CALL = frozenset({400, 404, 405})
"""How older platforms answer a request that they do not know."""

logger = logging.getLogger(__name__)


class Asker(Protocol):
    """Whose chat asks. `flows.Caller` is one, and holds the memory of its questions."""

    @property
    def api(self) -> Api: ...

    @property
    def principal(self) -> str: ...


@dataclass(kw_only=True)
class ApprovalDetails:
    """What is known about a call that waits for approval."""

    options: tuple[AlwaysAllowOption, ...] | None = None
    """What the person may allow for the rest of the chat; None if that was not read."""
    by_name: bool = False
    """The platform is older: it has no options, and allows a tool by its name."""
    secret_send: SecretSend | None = None
    explanation: ToolExplanation | None = None
    explanation_requested: bool = False
    """It is requested once, even if that fails."""


class ApprovalMemory:
    """The order of answers, the details of approvals, and which questions need the person's own sign-in.

    A question is answered once. Calls that answer the same question at the same time take turns, and whoever comes second is
    refused. Between replicas the platform decides: its state is read again right before an answer is sent, and it refuses a
    second answer.
    """

    def __init__(self) -> None:
        self._details = BoundedDict[tuple[str, str, str], ApprovalDetails](REMEMBERED)
        """By caller, invocation and arguments."""
        self._locks: dict[tuple[str, str], anyio.Lock] = {}
        self._answered = RecentSet[tuple[str, str, bytes]](MAX_ANSWERED)
        self._sign_in_only = RecentSet[tuple[str, str]](MAX_SIGN_INS, seconds=SIGN_IN_SECONDS)

    async def read_approval_details(self, caller: Asker, approval: Approval, *, always_allow: bool) -> ApprovalDetails:
        """What can be read about a call within `PATIENCE`: the question itself matters more.

        `always_allow`: include what may be allowed for the rest of the chat. That is read in any case, because it shows secrets
        that the call would send.
        """
        key = (caller.principal, approval.id, _digest(approval))
        details = self._details.setdefault(key, ApprovalDetails())
        self._details.move_to_end(key)
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as group:
                if details.options is None and not details.by_name:
                    group.start_soon(_read_options, caller, approval, details)
                if not details.explanation_requested:
                    details.explanation_requested = True
                    group.start_soon(_read_explanation, caller, approval, details)
        return replace(details) if always_allow else replace(details, options=None, by_name=False)

    def forget_details(self, caller: Asker, invocation_id: str) -> None:
        """Drop the details of a call, because the platform refused one of its options."""
        for key in [key for key in self._details if key[:2] == (caller.principal, invocation_id)]:
            del self._details[key]

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


def _digest(approval: Approval) -> str:
    call = json.dumps([approval.tool_name, approval.arguments, approval.unread], default=str)
    return hashlib.sha256(call.encode(errors="replace")).hexdigest()


async def _read_options(caller: Asker, approval: Approval, details: ApprovalDetails) -> None:
    try:
        offered = await caller.api.chats.always_allow_options(approval.chat_id, approval.id)
    except InferenceError as exc:
        details.by_name = exc.status in _NO_SUCH_CALL
        logger.info("the always-allow options could not be read: %s", exc.code)
    else:
        details.options = tuple(option for option in offered.options if option.key)
        details.secret_send = offered.secret_send


async def _read_explanation(caller: Asker, approval: Approval, details: ApprovalDetails) -> None:
    try:
        explanation = await caller.api.chats.explain(approval.chat_id, approval.id)
    except InferenceError as exc:
        logger.info("the call could not be explained: %s", exc.code)
    else:
        details.explanation = explanation if explanation.explanation else None
