"""An MCP task belongs to whoever started it, and to no server: any replica with the same keys follows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from inferencesh_mcp.http import tokens
from inferencesh_mcp.http.app import create_app
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from tests.conftest import Upstream, Way, listening, over_http
from tests.mcp_tasks.following import UNKNOWN, Declaring, Follower, answer, following
from tests.mcp_tasks.test_runs import LONG, SHORT, started
from tests.system.conversations.rounds import OTHER
from tests.tools.test_agents import PERSON

pytestmark = pytest.mark.anyio

MEMORY, HTTP = Way("memory", "2026"), Way("http", "2026")
OLD, NEW = "old-" * 8, "new-" * 8
NO_SUCH = {(UNKNOWN, "There is no such MCP task.")}


@asynccontextmanager
async def replica(environ: dict[str, str], key: str = PERSON, **client: Any) -> AsyncIterator[Follower]:
    """A server over HTTP for callers who bring their own key, and one of them in front of it."""
    async with (
        over_http(environ | {"INFERENCE_API_KEY": key}, "caller") as server,
        Client(server, mode="auto", extensions=[Declaring()], **client) as connection,
    ):
        yield Follower(connection)


@asynccontextmanager
async def holder(url: str, token: str) -> AsyncIterator[Follower]:
    """Somebody whom an operator's token lets in."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode="auto", extensions=[Declaring()]) as mine,
    ):
        yield Follower(mine)


def sealed_with(environ: dict[str, str], *keys: str) -> dict[str, str]:
    return environ | {"INFERENCE_STATE_KEYS": ", ".join(keys)}


async def test_another_replica_follows_and_cancels_a_task(environ: dict[str, str], upstream: Upstream) -> None:
    keys = sealed_with(environ, OLD)
    async with replica(keys) as here, replica(keys) as there:
        ended = await there.until(await here.begin("app_run", **SHORT))
        task_id = await here.begin("app_run", **LONG)
        await there.cancel(task_id)
        cancelled = await here.until(task_id)

    assert ("completed", "cancelled") == (ended["status"], cancelled["status"])
    assert 2 == len(started(upstream))


async def test_a_task_of_another_key_is_unknown_and_causes_no_upstream_request(
    environ: dict[str, str], upstream: Upstream
) -> None:
    """As if nobody had made it: looking, answering and cancelling (A-5)."""
    keys = sealed_with(environ, OLD)
    async with replica(keys) as mine, replica(keys, OTHER) as theirs:
        task_id = await mine.begin("app_run", **LONG)
        before = len(upstream.sandbox.ledger.requests())
        refused = await theirs.refused(task_id)
        after = len(upstream.sandbox.ledger.requests())
        now = await mine.get(task_id)
        await mine.cancel(task_id)

    assert (NO_SUCH, before, "working") == (refused, after, now["status"])


async def test_callers_who_share_the_operators_key_have_their_own_tasks(
    environ: dict[str, str], upstream: Upstream
) -> None:
    """Upstream they are one; here whoever was let in as somebody else knows nothing of it."""
    ada, bob = tokens.mint(), tokens.mint()
    known = {
        "INFERENCE_HTTP_AUTH": "tokens",
        "INFERENCE_HTTP_TOKENS": f"{tokens.line('ada', ada)},{tokens.line('bob', bob)}",
    }
    settings = Settings.from_environ(environ | known)
    async with (
        listening(create_app(build(settings, remote=True), settings)) as url,
        holder(url, ada) as mine,
        holder(url, bob) as theirs,
    ):
        task_id = await mine.begin("app_run", **LONG)
        refused = await theirs.refused(task_id)
        await mine.cancel(task_id)

    assert NO_SUCH == refused
    assert 1 == len(upstream.sandbox.ledger.cancels)


async def test_state_keys_can_be_rotated_while_tasks_run(environ: dict[str, str]) -> None:
    """The first seals and all open: what the old one sealed is followed by who knows both, and not by who has dropped it."""
    async with (
        following(MEMORY, sealed_with(environ, OLD)) as before,
        following(MEMORY, sealed_with(environ, NEW, OLD)) as between,
        following(MEMORY, sealed_with(environ, NEW)) as after,
    ):
        old, new = await before.begin("app_run", **LONG), await between.begin("app_run", **LONG)
        standing = [(await between.get(old))["status"], (await after.get(new))["status"]]
        refused = [await after.refused(old), await before.refused(new)]
        for one in (old, new):
            await between.cancel(one)

    assert (["working", "working"], [NO_SUCH, NO_SUCH]) == (standing, refused)


async def test_without_state_keys_a_process_follows_only_its_own_tasks(environ: dict[str, str]) -> None:
    async with following(MEMORY, environ) as here, following(MEMORY, environ) as there:
        task_id = await here.begin("app_run", **LONG)
        refused = await there.refused(task_id)
        await here.cancel(task_id)

    assert NO_SUCH == refused


async def test_a_question_that_one_replica_asks_is_answered_through_another(
    environ: dict[str, str], upstream: Upstream
) -> None:
    keys = sealed_with(environ, OLD)

    async def ask(*_: object) -> None:
        raise AssertionError("it is asked through the MCP task")

    async with (
        replica(keys, elicitation_callback=ask) as here,
        replica(keys, elicitation_callback=ask) as there,
    ):
        task_id = await here.begin("agent_chat", message="Draw a cat", agent="sandbox/approver")
        asks = (await here.until(task_id, "input_required"))["inputRequests"]
        await there.update(task_id, {key: answer("accept", decision="approve") for key in asks})
        end = await there.until(task_id)

    assert ("completed", "answered") == (end["status"], end["result"]["structuredContent"]["status"])
    assert ["invoke"] == [one.decision for one in upstream.sandbox.ledger.decisions]


async def test_over_http_the_header_must_name_the_task(environ: dict[str, str]) -> None:
    """What routes a request must not say another thing than what it asks for."""
    async with following(HTTP, environ) as mine:
        task_id = await mine.begin("app_run", **LONG)
        with pytest.raises(MCPError) as refused:
            await mine.ask("tasks/get", task_id, named="another")
        await mine.cancel(task_id)

    assert -32020 == refused.value.error.code
