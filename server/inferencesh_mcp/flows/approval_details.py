"""What the platform adds to a question about an approval: what may be allowed for good, and a reading of the call.

Both are extras. They are asked for at the same time, for a few seconds at most, and the question is put without what has not
come by then.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from inferencesh_mcp.api.chat_models import AlwaysAllowOption, AlwaysAllowOptions, SecretSend, ToolExplanation
    from inferencesh_mcp.api.chat_turn import Approval
    from inferencesh_mcp.flows import Caller

PATIENCE = 3.0
"""Seconds that a person waits for these at most: the question itself matters more."""
REMEMBERED = 1_024
"""Calls whose details are kept: a question that is put again is the same question."""

_NO_SUCH_CALL = frozenset({400, 404, 405})
"""How older platforms answer a call that they do not have."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ApprovalDetails:
    """What is known of one call beyond the call itself."""

    options: tuple[AlwaysAllowOption, ...] = ()
    """What the person may allow for the rest of the chat."""
    by_name: bool = False
    """The platform is an older one: it has no options, and allows a tool by its name."""
    secret_send: SecretSend | None = None
    explanation: ToolExplanation | None = None


@dataclass
class _Read:
    """What has come so far; None for what has not."""

    offered: AlwaysAllowOptions | None = None
    has_no_options: bool = False
    explanation: ToolExplanation | None = None
    was_explained: bool = False
    """It was asked for: whatever came of that, it is not asked for again."""


@dataclass
class DetailsMemory:
    """The details of the calls that were asked about last, by caller, invocation and what it was called with."""

    _held: OrderedDict[tuple[str, str, str], _Read] = field(default_factory=OrderedDict[tuple[str, str, str], _Read])

    async def read(self, who: Caller, approval: Approval, *, always: bool) -> ApprovalDetails:
        """The details of a call that waits for approval; options only where `always` lets people use them. They are read
        either way, since they tell of secrets that the call would send."""
        key = (who.principal, approval.id, _digest(approval))
        known = self._held.setdefault(key, _Read())
        self._held.move_to_end(key)
        while len(self._held) > REMEMBERED:
            self._held.popitem(last=False)
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as group:
                if known.offered is None and not known.has_no_options:
                    group.start_soon(_read_options, who, approval, known)
                if not known.was_explained:
                    known.was_explained = True
                    group.start_soon(_read_explanation, who, approval, known)
        offered = known.offered
        return ApprovalDetails(
            options=tuple(one for one in offered.options if one.key) if offered and always else (),
            by_name=known.has_no_options and always,
            secret_send=offered.secret_send if offered else None,
            explanation=known.explanation,
        )

    def forget(self, who: Caller, invocation_id: str) -> None:
        """What is kept of a call is no longer so: the platform refused one of its options."""
        for key in [one for one in self._held if one[:2] == (who.principal, invocation_id)]:
            del self._held[key]


def _digest(approval: Approval) -> str:
    called = json.dumps([approval.tool_name, approval.arguments, approval.unread], default=str)
    return hashlib.sha256(called.encode(errors="replace")).hexdigest()


async def _read_options(who: Caller, approval: Approval, known: _Read) -> None:
    try:
        known.offered = await who.api.chats.always_allow_options(approval.chat_id, approval.id)
    except InferenceError as exc:
        known.has_no_options = exc.status in _NO_SUCH_CALL
        logger.info("the always-allow options could not be read: %s", exc.code)


async def _read_explanation(who: Caller, approval: Approval, known: _Read) -> None:
    try:
        told = await who.api.chats.explain(approval.chat_id, approval.id)
    except InferenceError as exc:
        logger.info("the call could not be explained: %s", exc.code)
    else:
        known.explanation = told if told.explanation else None
