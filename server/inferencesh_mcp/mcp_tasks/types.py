"""The state of an MCP task, its handle, and the interface of what can be an MCP task."""

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
class TaskHandle:
    """The content of a task id: which kind of work it is, and its upstream ids."""

    kind: str
    upstream_ids: dict[str, Any]
    started_at: float
    """Seconds since 1970."""

    @property
    def age(self) -> float:
        return max(time.time() - self.started_at, 0)


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """The state of an MCP task, with the status names of the specification."""

    status: Literal["working", "input_required", "completed", "cancelled", "failed"]
    message: str = ""
    changed_at: datetime | None = None
    result: CallToolResult | None = None
    """The result of the tool, once it is known. A failed run is a result too."""
    requests: Mapping[str, InputRequest] = field(default_factory=dict[str, "InputRequest"])
    """Questions for the person. The key identifies the question, so that an answer counts for no other."""
    error: ErrorData | None = None
    """Only with `failed`, which is never the status of a run: a failed run is a result."""


def first_line(answer: CallToolResult) -> str:
    """The first line of a result: its status and id."""
    return next((part.text.partition("\n")[0] for part in answer.content if part.type == "text"), "")


class TaskSource(Protocol):
    """Reads, answers and cancels one kind of work that outlasts its call."""

    async def read(self, ctx: Ctx, handle: TaskHandle) -> TaskState: ...

    async def answer(self, ctx: Ctx, handle: TaskHandle, responses: Mapping[str, Any]) -> None:
        """Send the answers to the open questions; ignore others, as the specification says."""
        ...

    async def cancel(self, ctx: Ctx, handle: TaskHandle) -> None:
        """Cancel the work; do nothing if it has ended."""
        ...
