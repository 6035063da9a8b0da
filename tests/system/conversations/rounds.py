"""What the conversations share: hosts, and the two rounds of a question in the newer protocol, each sent by hand."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult

from tests.conftest import Upstream, Way

MEMORY = [Way("memory", "2026"), Way("memory", "2025")]
HERE = [*MEMORY, Way("stdio", "2025"), Way("http", "2026")]
THREE = [HERE[0], *HERE[2:]]  # for what takes its time: each transport, each era
MODERN = [Way(transport, "2026") for transport in ("memory", "stdio", "http")]
OTHER = "inf_person_other_CANARY"


def over(*ways: Way) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", ways, indirect=True, ids=str)


async def send_round(
    client: Client, tool: str, arguments: dict[str, Any], before: InputRequiredResult | None = None, **content: Any
) -> CallToolResult | InputRequiredResult:
    """One round of a call. With the answer of the one `before`, the person accepts, filling in `content`."""
    if before is None:
        return await client.session.call_tool(tool, arguments, allow_input_required=True)  # type: ignore[return-value]
    answers = {name: ElicitResult(action="accept", content=content) for name in before.input_requests or {}}
    return await client.session.call_tool(  # type: ignore[return-value]
        tool, arguments, input_responses=answers, request_state=before.request_state, allow_input_required=True
    )


def chats(upstream: Upstream) -> list[Any]:
    """The sandbox's own chats, of every key."""
    return [chat for tenant in upstream.sandbox.tenants for chat in tenant.chats]


def waiting_in(upstream: Upstream) -> Any:
    """The one invocation that somebody has to decide."""
    (waiting,) = [invocation for chat in chats(upstream) for invocation in chat.open]
    return waiting


def sent_once(upstream: Upstream) -> bool:
    return len(upstream.sandbox.ledger.messages) == 1
