"""Subscriptions: whoever may read a task or a chat hears of its changes, in both eras, and nobody else does (T-5, I-22)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server.subscriptions import ToolsListChanged

from inferencesh_mcp.flows.subscription_watches import MAX_PER_CALLER
from inferencesh_mcp.resources.subscriptions import CallerResourceUpdated
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from tests.conftest import KEY, MODES, Connect, Upstream, Way, callers, connected, in_memory, until
from tests.resources.hosts import (
    FOLLOWING,
    Subscriber,
    listening_to,
    refused,
    started,
    subscribe,
    subscriber,
    unsubscribe,
)
from tests.support.faults import Status, StayQueued
from tests.system.faults.hosts import MEMORY, over

pytestmark = pytest.mark.anyio

STRANGER = "inf_stranger_CANARY_9"


@asynccontextmanager
async def over_one_server(environ: dict[str, str], *keys: str) -> AsyncIterator[list[Subscriber]]:
    """Several hosts of 2026 at one server over HTTP, each with a key of their own."""
    async with callers(environ, *keys) as clients:
        hosts = [Subscriber(Way("http", "2026")) for _ in clients]
        for host, client in zip(hosts, clients, strict=True):
            host.client = client
        yield hosts


def completed(now: Any) -> bool:
    return bool("completed" == now["status"])


@over(*FOLLOWING)
async def test_a_task_of_another_client_is_followed_to_its_end(way: Way, environ: dict[str, str]) -> None:
    """Every change is told; reading when it is told shows how far the task has come, and at last its output."""
    async with connected(Way("memory", "2026"), environ) as other, subscriber(way, environ) as one:
        uri = await started(other, seconds=1.5)  # long enough to be listened to on a busy machine
        async with listening_to(one, uri):
            whole = await one.read_until(uri, completed)

    assert {uri} == set(one.heard)
    assert len(one.heard) >= 2
    assert 3 == whole["output"]["steps"]


@over(*MEMORY)
async def test_new_log_lines_are_notified(way: Way, environ: dict[str, str]) -> None:
    """The logs are a resource of their own, of the same stream."""
    async with subscriber(way, environ) as one:
        uri = await started(one.client)
        async with listening_to(one, f"{uri}/logs"):
            await one.until(lambda: len(one.heard) >= 2)

    assert {f"{uri}/logs"} == set(one.heard)


@over(Way("memory", "2025"))
async def test_growing_text_is_notified_at_intervals(way: Way, environ: dict[str, str]) -> None:
    """A host is not called upon for every word: about once a second, and at once when the status is another."""
    async with subscriber(way, environ) as one:
        given = {"text": "word " * 60, "chunk_ms": 10}
        run = await one.client.call_tool("app_run", {"app": "sandbox/stream-text", "input": given, "wait": False})
        assert run.structured_content
        uri = f"inference://tasks/{run.structured_content['task_id']}"
        async with listening_to(one, uri):
            await one.read_until(uri, completed)

    assert 2 <= len(one.heard) <= 12


@over(Way("memory", "2025"), Way("stdio", "2026"), Way("http", "2026"))
async def test_a_chat_of_another_client_is_followed(way: Way, environ: dict[str, str]) -> None:
    """A turn that another client begins is heard of, and can be read when it is over."""
    async with connected(Way("memory", "2026"), environ) as other, subscriber(way, environ) as one:
        first = await other.call_tool("agent_chat", {"agent": "sandbox/assistant", "message": "My name is Ada."})
        assert first.structured_content
        chat = first.structured_content["chat_id"]
        uri = f"inference://chats/{chat}"
        async with listening_to(one, uri):
            say = {"agent": "sandbox/assistant", "message": "What is my name?", "chat_id": chat}
            await other.call_tool("agent_chat", say)
            await one.until(lambda: one.heard)
            answer = await one.read_until(uri, lambda now: "Ada" in now["text"])

    assert {uri} == set(one.heard)
    assert "answered" == answer["status"]


async def test_any_number_of_subscribers_of_one_caller_are_one_stream(
    environ: dict[str, str], upstream: Upstream
) -> None:
    """Two hosts of one person and three subscriptions: the platform is asked for one stream."""
    async with over_one_server(environ, KEY, KEY) as (one, two):
        uri = await started(one.client)
        async with listening_to(one, uri, f"{uri}/logs"), listening_to(two, uri):
            await one.until(lambda: len(one.heard) >= 2)
            await two.until(lambda: two.heard)

    assert 1 == len(upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))


async def test_another_callers_task_is_not_notified(environ: dict[str, str], upstream: Upstream) -> None:
    """T-5: who cannot read a task is not told of it, though they name its very address."""
    async with over_one_server(environ, KEY, STRANGER) as (owner, stranger):
        theirs, own = await started(stranger.client, seconds=1.5), await started(owner.client, seconds=1.5)
        async with listening_to(stranger, own, theirs), listening_to(owner, own):
            await owner.until(lambda: len(owner.heard) >= 2)
            await stranger.until(lambda: stranger.heard)
            await owner.read_until(own, completed)

    assert [theirs] == stranger.honoured
    assert {theirs} == set(stranger.heard)
    assert {own} == set(owner.heard)


@over(*MEMORY)
async def test_events_reach_only_their_owner(way: Way, environ: dict[str, str]) -> None:
    """The bus is everybody's: what is another's on it is kept back even under one address, and what is for all is not."""
    server = build(Settings.from_environ(environ))
    one = Subscriber(way)
    async with Client(in_memory(server), mode=MODES[way.era], message_handler=one.on_message) as one.client:
        uri = await started(one.client, seconds=0.01, steps=1)
        await one.client.call_tool("task_get", {"task_id": uri.rpartition("/")[2], "wait_seconds": 5})  # it is quiet
        async with listening_to(one, uri, tools=True):
            await server._subscriptions.publish(CallerResourceUpdated(uri, "somebody else"))
            await server._subscriptions.publish(ToolsListChanged())
            await one.until(lambda: one.heard)

    tools = {"2025": "notifications/tools/list_changed", "2026": "ToolsListChanged"}
    assert [tools[way.era]] == one.heard


@over(*MEMORY)
async def test_an_unreadable_resource_is_not_subscribed_to(way: Way, environ: dict[str, str]) -> None:
    """The older era is refused with our words; the newer one's acknowledgement leaves it out."""
    wrong = ["inference://tasks/nope", "inference://chats/nope", "inference://tasks/..%2Fme", "inference://apps/sandbox/echo",
             "inference://files/nope", "inference://nothing/1", "https://example.com", "inference://tasks/%6Eope"]  # fmt: skip
    async with subscriber(way, environ) as one:
        if way.era == "2026":
            async with listening_to(one, *wrong, *(f"inference://tasks/{number}/none" for number in range(20_000))):
                assert [] == one.honoured
            return
        for uri in wrong:
            with pytest.raises(MCPError) as caught:
                await subscribe(one.client, uri)
            assert (-32602, uri) == (caught.value.error.code, caught.value.error.data["uri"])


@over(Way("stdio", "2025"), Way("http", "2025"))
async def test_the_older_era_announces_subscriptions_only_where_they_work(way: Way, environ: dict[str, str]) -> None:
    """Without a session HTTP has no way back to such a client: it says so, and refuses instead of being silent."""
    async with subscriber(way, environ) as one:
        told_of = one.client.server_capabilities
        uri = await started(one.client)
        assert told_of.resources
        assert told_of.tools
        if way.transport == "stdio":
            assert (True, True) == (told_of.resources.subscribe, told_of.tools.list_changed)
            await subscribe(one.client, uri)
            await subscribe(one.client, uri)  # asked twice is held once
            await unsubscribe(one.client, uri)
            await unsubscribe(one.client, uri)
            return
        assert (False, False) == (told_of.resources.subscribe, told_of.tools.list_changed)
        with pytest.raises(MCPError, match="task_get or chat_get"):
            await subscribe(one.client, uri)
        await unsubscribe(one.client, uri)


async def test_subscriptions_of_one_caller_are_limited(environ: dict[str, str]) -> None:
    """The next is refused with what to do; another caller has their own; one that ends makes room."""
    async with over_one_server(environ, KEY, STRANGER) as (one, other), AsyncExitStack() as stack:
        uri = await started(one.client, seconds=20)
        for _ in range(MAX_PER_CALLER - 1):
            await stack.enter_async_context(listening_to(one, uri))
        async with listening_to(one, uri, f"{uri}/logs"):
            assert [uri] * MAX_PER_CALLER == one.honoured  # there was room for the first of the two alone
            with pytest.raises(MCPError, match=f"at most {MAX_PER_CALLER} subscriptions"):
                await stack.enter_async_context(one.client.listen(tools_list_changed=True))
            async with listening_to(other, tools=True):
                pass
        await until_listened(one, uri)
        await one.client.call_tool("task_cancel", {"task_id": uri.rpartition("/")[2]})


async def test_subscriptions_of_all_callers_are_limited(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of the process holds for whoever comes last, however few they have."""
    monkeypatch.setattr("inferencesh_mcp.flows.subscription_watches.MAX_TOTAL", 2)
    async with AsyncExitStack() as stack:
        one, other = await stack.enter_async_context(over_one_server(environ, KEY, STRANGER))
        for host in (one, other):
            await stack.enter_async_context(listening_to(host, tools=True))
        with pytest.raises(MCPError, match="2 in all"):
            await stack.enter_async_context(other.client.listen(tools_list_changed=True))


async def until_listened(one: Subscriber, uri: str) -> None:
    """Listen as soon as there is room: over HTTP a server learns late that a client has left."""
    with anyio.fail_after(10):
        while True:
            try:
                async with listening_to(one, uri):
                    return
            except* MCPError:
                await anyio.sleep(0.02)


@over(Way("memory", "2025"))
async def test_the_older_era_has_the_same_limit(way: Way, environ: dict[str, str]) -> None:
    """One address more is refused until one is left."""
    async with subscriber(way, environ) as one:
        uris = [await started(one.client, seconds=0.01, steps=1) for _ in range(MAX_PER_CALLER + 1)]
        for uri in uris[:MAX_PER_CALLER]:
            await subscribe(one.client, uri)
        with pytest.raises(MCPError, match=f"at most {MAX_PER_CALLER} subscriptions"):
            await subscribe(one.client, uris[MAX_PER_CALLER])
        await unsubscribe(one.client, uris[0])
        await subscribe(one.client, uris[MAX_PER_CALLER])


@over(*MEMORY)
async def test_a_task_that_has_ended_needs_no_stream(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """Subscribing to it is allowed, and costs one read."""
    async with subscriber(way, environ) as one:
        uri = await started(one.client, seconds=0.01, steps=1)
        await one.client.call_tool("task_get", {"task_id": uri.rpartition("/")[2], "wait_seconds": 5})
        before = len(upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))
        async with listening_to(one, uri):
            assert "completed" == await one.status(uri)

    assert before == len(upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))


@over(*MEMORY, Way("http", "2026"))
async def test_an_ended_subscription_leaves_nothing_behind(way: Way, environ: dict[str, str]) -> None:
    """I-22: when the last has left, the stream upstream is closed, and there are no more tasks than before."""
    async with subscriber(way, environ) as one:
        uri = await started(one.client, seconds=20)
        chat = await one.client.call_tool("agent_chat", {"agent": "sandbox/assistant", "message": "Hello."})
        assert chat.structured_content
        before = len(asyncio.all_tasks())
        for _ in range(3):
            async with listening_to(one, uri, f"{uri}/logs", f"inference://chats/{chat.structured_content['chat_id']}"):
                await until(lambda: len(asyncio.all_tasks()) > before)
            await until(lambda: len(asyncio.all_tasks()) <= before)
        await one.client.call_tool("task_cancel", {"task_id": uri.rpartition("/")[2]})


@over(*MEMORY)
async def test_a_task_that_can_no_longer_be_followed_is_notified(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """A key that is revoked in between: whoever reads then is told why, and the server goes on."""
    async with subscriber(way, environ) as one:
        upstream.sandbox.faults.add(StayQueued(), method="POST", path="/apps/run")
        uri = await started(one.client)
        gone = Status(code=401, error="unauthorized")
        upstream.sandbox.faults.add(gone, method="GET", path="/tasks/*/stream", times=-1)
        async with listening_to(one, uri):
            assert [] == one.heard
            upstream.sandbox.faults.add(gone, method="GET", path="/tasks/*", times=-1)
            await one.until(lambda: one.heard)
            error = (await refused(one.client, uri)).error
            tools = await one.client.list_tools()

    assert -32603 == error.code
    assert "key_refused" == error.data["error"]["code"]
    assert tools.tools


async def test_without_a_key_nothing_is_subscribed_to(connect: Connect, way: Way, upstream: Upstream) -> None:
    """Listening works, honours nothing of anybody's, and asks the platform nothing."""
    if way.transport == "http":
        pytest.skip("without a key nobody comes in")
    async with connect(INFERENCE_API_KEY=None) as client:
        if way.era == "2025":
            with pytest.raises(MCPError, match="INFERENCE_API_KEY"):
                await subscribe(client, "inference://tasks/one")
        else:
            async with client.listen(resource_subscriptions=["inference://tasks/one"]) as stream:
                assert not stream.honored.resource_subscriptions

    assert () == upstream.sandbox.ledger.requests()
