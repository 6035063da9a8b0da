"""A sealed question belongs to whom it was put, in every mode: also where all callers share one key upstream (T-6, I-9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult, InputRequiredResult

from tests.conftest import Upstream
from tests.http.asking import facing
from tests.http.conftest import tokens
from tests.http_auth_modes import issuing, trusting
from tests.system.conversations.rounds import send_round

pytestmark = pytest.mark.anyio

PERSON = "inf_person_CANARY_5e"
DRAW = {"message": "Draw a cat", "agent": "sandbox/approver"}


@asynccontextmanager
async def two(mode: str, upstream: Upstream) -> AsyncIterator[tuple[Client, Client]]:
    """Two callers of one server, whose hosts can ask."""

    async def never(_context: Any, _params: Any) -> ElicitResult:
        raise AssertionError("the rounds are sent by hand")

    async with AsyncExitStack() as stack:
        environ = {"INFERENCE_BASE_URL": upstream.url, "INFERENCE_API_KEY": PERSON}
        if mode == "caller":
            theirs = [PERSON, "inf_person_other"]
        elif mode == "tokens":
            theirs = [tokens.mint(), tokens.mint()]
            lines = [tokens.line(name, token) for name, token in zip(("ada", "bob"), theirs, strict=True)]
            environ |= {"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_HTTP_TOKENS": ",".join(lines)}
        else:
            issuer = await stack.enter_async_context(issuing())
            theirs = [issuer.token(sub=name) for name in ("ada", "bob")]
            environ |= trusting(issuer)
        face = await stack.enter_async_context(facing(environ, upstream.sandbox, {}))
        clients: list[Client] = []
        for credential in theirs:
            headers = {"authorization": f"Bearer {credential}"}
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=30, verify=False))
            server = streamable_http_client(f"{face.url}/mcp", http_client=http)
            clients.append(await stack.enter_async_context(Client(server, elicitation_callback=never)))
        yield clients[0], clients[1]


async def test_only_the_caller_who_was_asked_can_answer(mode: str, upstream: Upstream) -> None:
    with anyio.fail_after(40):
        async with two(mode, upstream) as (owner, thief):
            question = await send_round(owner, "agent_chat", DRAW)
            assert isinstance(question, InputRequiredResult)
            with pytest.raises(MCPError) as refused:
                await send_round(thief, "agent_chat", DRAW, question, decision="approve")
            before = len(upstream.sandbox.ledger.decisions)
            answered: Any = await send_round(owner, "agent_chat", DRAW, question, decision="approve")

    assert (-32602, 0) == (refused.value.code, before)
    assert "answered" == answered.structured_content["status"]
    assert 1 == len(upstream.sandbox.ledger.decisions)
