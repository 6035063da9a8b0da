"""Hosts that subscribe, in the way of their era."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from mcp import Client, MCPError
from mcp_types import (
    EmptyResult,
    ReadResourceResult,
    SubscribeRequest,
    SubscribeRequestParams,
    TextResourceContents,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)

from tests.conftest import Way, connected

FOLLOWING = [
    Way("memory", "2025"),
    Way("memory", "2026"),
    Way("stdio", "2025"),
    Way("stdio", "2026"),
    Way("http", "2026"),
]
"""Every way in on which a host can be told of changes."""


class Subscriber:
    """A client, and the addresses that it was told of."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.heard: list[str] = []
        self.honoured: list[str] = []
        self.client: Client
        self._news = anyio.Event()

    async def on_message(self, message: Any) -> None:
        """What the older era is sent outside of answers; the newer one's streams are heard by themselves."""
        method = getattr(message, "method", "") if self.way.era == "2025" else ""
        if method == "notifications/resources/updated":
            self.hear(message.params.uri)
        elif method.endswith("list_changed"):
            self.hear(method)

    def hear(self, what: str) -> None:
        self.heard.append(what)
        self._news.set()

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait until what was heard makes this true."""
        with anyio.fail_after(20):
            while not true():
                await self._news.wait()
                self._news = anyio.Event()

    async def read_until(self, uri: str, true: Callable[[Any], bool]) -> Any:
        """Read an address, and again whenever something is heard, until what it tells makes this true."""
        while True:
            known = len(self.heard)  # before it is read: what changes meanwhile is heard, and read again
            if true(now := told(await self.client.read_resource(uri))):
                return now
            await self.until(lambda known=known: len(self.heard) > known)

    async def status(self, uri: str) -> str:
        return told(await self.client.read_resource(uri))["status"]


@asynccontextmanager
async def subscriber(way: Way, environ: dict[str, str]) -> AsyncIterator[Subscriber]:
    """A host that has not subscribed to anything yet."""
    one = Subscriber(way)
    async with connected(way, environ, message_handler=one.on_message) as one.client:
        yield one


@asynccontextmanager
async def listening_to(one: Subscriber, *uris: str, tools: bool = False) -> AsyncIterator[Subscriber]:
    """Subscribe for as long as the block; in the older era each address by itself."""
    if one.way.era == "2025":
        for uri in uris:
            await subscribe(one.client, uri)
        yield one
        for uri in uris:
            await unsubscribe(one.client, uri)
        return

    async def listen(stream: Any) -> None:
        async for event in stream:
            one.hear(getattr(event, "uri", type(event).__name__))

    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        stream = await stack.enter_async_context(
            one.client.listen(resource_subscriptions=list(uris), tools_list_changed=tools)
        )
        one.honoured += stream.honored.resource_subscriptions or []
        group.start_soon(listen, stream)
        yield one
        group.cancel_scope.cancel()


async def subscribe(client: Client, uri: str) -> None:
    params = SubscribeRequestParams(uri=uri)
    await client.session.send_request(SubscribeRequest(params=params), EmptyResult)


async def unsubscribe(client: Client, uri: str) -> None:
    params = UnsubscribeRequestParams(uri=uri)
    await client.session.send_request(UnsubscribeRequest(params=params), EmptyResult)


async def started(client: Client, seconds: float = 0.4, steps: int = 3) -> str:
    """A slow run that nobody waits for; returns the address of its task."""
    given = {"app": "sandbox/slow", "input": {"seconds": seconds, "steps": steps}, "wait": False}
    result = await client.call_tool("app_run", given)
    assert result.structured_content
    return f"inference://tasks/{result.structured_content['task_id']}"


def texts(result: ReadResourceResult) -> list[str]:
    return [part.text for part in result.contents if isinstance(part, TextResourceContents)]


def told(result: ReadResourceResult) -> Any:
    return json.loads(texts(result)[1])


async def refused(client: Client, uri: str) -> MCPError:
    """The error that reading an address ends with."""
    try:
        result = await client.read_resource(uri)
    except MCPError as exc:
        return exc
    raise AssertionError(f"{uri} was read: {result}")
