"""What outlasts its call: an answer that names what goes on, for a client that follows it as an MCP task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp_types import CallToolResult
from pydantic import Field

if TYPE_CHECKING:
    from inferencesh_mcp.context import Ctx


class HandedOver(CallToolResult):
    """The answer of a tool that has started something and does not wait for it. Only the answer is ever sent."""

    kind: str = Field(exclude=True)
    """What goes on: it says how it is read again."""
    held: dict[str, Any] = Field(exclude=True)
    """All that reading it again takes: upstream ids. There is no other memory of it."""


def hands_over(ctx: Ctx) -> bool:
    """Whether this call is to start what lasts and hand it over, instead of waiting for it."""
    return ctx.request_context.lifespan_context.hands_over


def handed_over(answer: CallToolResult, kind: str, **held: Any) -> HandedOver:
    """An answer about something that goes on, with what it takes to read it again."""
    return HandedOver(
        content=answer.content, structured_content=answer.structured_content, is_error=answer.is_error, kind=kind, held=held
    )  # fmt: skip
