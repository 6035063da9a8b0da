"""Details of a call that waits for approval: what may always be allowed, and an explanation of the call.

Both are optional. They are read at the same time, for a few seconds at most; then the question is asked with what has come.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio

from inferencesh_mcp.bounded import BoundedDict
from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from inferencesh_mcp.api.chat_models import AlwaysAllowOption, AlwaysAllowOptions, SecretSend, ToolExplanation
    from inferencesh_mcp.api.chat_turn import Approval
    from inferencesh_mcp.api.client import Api

PATIENCE = 3.0
"""Seconds that a person waits for the details at most: the question matters more."""
REMEMBERED = 1_024
"""Calls whose details are cached, because a question may be asked again."""

_NO_SUCH_CALL = frozenset({400, 404, 405})
"""How older platforms answer a request that they do not know."""

logger = logging.getLogger(__name__)


class Asker(Protocol):
    """Whose chat asks. `flows.Caller` is one, and holds the memory of its questions."""

    @property
    def api(self) -> Api: ...

    @property
    def principal(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class ApprovalDetails:
    """The details of one call."""

    options: tuple[AlwaysAllowOption, ...] = ()
    """What the person may allow for the rest of the chat."""
    by_name: bool = False
    """The platform is older: it has no options, and allows a tool by its name."""
    secret_send: SecretSend | None = None
    explanation: ToolExplanation | None = None


@dataclass
class _Read:
    """The details read so far; None for those that are missing."""

    offered: AlwaysAllowOptions | None = None
    has_no_options: bool = False
    explanation: ToolExplanation | None = None
    was_explained: bool = False
    """Whether the explanation was requested: it is requested once, even if that failed."""


@dataclass
class DetailsMemory:
    """The details of the newest calls, by caller, invocation and arguments."""

    _details: BoundedDict[tuple[str, str, str], _Read] = field(
        default_factory=lambda: BoundedDict[tuple[str, str, str], _Read](REMEMBERED)
    )

    async def read(self, who: Asker, approval: Approval, *, always: bool) -> ApprovalDetails:
        """The details of a call that waits for approval. Options are included only if `always` lets people use them; they
        are read in any case, because they show secrets that the call would send."""
        key = (who.principal, approval.id, _digest(approval))
        details = self._details.setdefault(key, _Read())
        self._details.move_to_end(key)
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as group:
                if details.offered is None and not details.has_no_options:
                    group.start_soon(_read_options, who, approval, details)
                if not details.was_explained:
                    details.was_explained = True
                    group.start_soon(_read_explanation, who, approval, details)
        offered = details.offered
        return ApprovalDetails(
            options=tuple(option for option in offered.options if option.key) if offered and always else (),
            by_name=details.has_no_options and always,
            secret_send=offered.secret_send if offered else None,
            explanation=details.explanation,
        )

    def forget(self, who: Asker, invocation_id: str) -> None:
        """Drop the details of a call, because the platform refused one of its options."""
        for key in [key for key in self._details if key[:2] == (who.principal, invocation_id)]:
            del self._details[key]


def _digest(approval: Approval) -> str:
    call = json.dumps([approval.tool_name, approval.arguments, approval.unread], default=str)
    return hashlib.sha256(call.encode(errors="replace")).hexdigest()


async def _read_options(who: Asker, approval: Approval, details: _Read) -> None:
    try:
        details.offered = await who.api.chats.always_allow_options(approval.chat_id, approval.id)
    except InferenceError as exc:
        details.has_no_options = exc.status in _NO_SUCH_CALL
        logger.info("the always-allow options could not be read: %s", exc.code)


async def _read_explanation(who: Asker, approval: Approval, details: _Read) -> None:
    try:
        explanation = await who.api.chats.explain(approval.chat_id, approval.id)
    except InferenceError as exc:
        logger.info("the call could not be explained: %s", exc.code)
    else:
        details.explanation = explanation if explanation.explanation else None
