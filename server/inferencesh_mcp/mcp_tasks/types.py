"""What an MCP task can say of itself, and what is asked of whatever is to be one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mcp_types import CallToolResult, ErrorData, InputRequest

    from inferencesh_mcp.context import Ctx


@dataclass(frozen=True, kw_only=True)
class Held:
    """What goes on, as an id holds it."""

    kind: str
    of: dict[str, Any]
    began: float
    """Seconds since 1970."""

    @property
    def age(self) -> float:
        return max(time.time() - self.began, 0)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How something stands, in the words of MCP tasks."""

    status: Literal["working", "input_required", "completed", "cancelled", "failed"]
    message: str = ""
    changed_at: datetime | None = None
    result: CallToolResult | None = None
    """What the tool answers, once that is known; a run that failed is an answer too."""
    asks: Mapping[str, InputRequest] = field(default_factory=dict[str, "InputRequest"])
    """What the person is asked; the key names the very question, so that an answer counts for nothing else."""
    error: ErrorData | None = None
    """Only of `failed`, which no run of an app ever is."""


def headline(answer: CallToolResult) -> str:
    """The first line of an answer: what became of it, and its id."""
    return next((part.text.partition("\n")[0] for part in answer.content if part.type == "text"), "")


class Lasting(Protocol):
    """Something that outlasts its call."""

    async def look(self, ctx: Ctx, held: Held) -> Standing: ...

    async def answer(self, ctx: Ctx, held: Held, responses: Mapping[str, Any]) -> None:
        """Carry out the answers to what is asked now; others are ignored, as the specification has it."""
        ...

    async def cancel(self, ctx: Ctx, held: Held) -> None:
        """Have it stopped; what has ended already stays as it is."""
        ...
