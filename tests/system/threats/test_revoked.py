"""A key that may not read a private app, or no longer, is not shown it from memory (S7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import Client, MCPError

from tests.conftest import Connect, Upstream, Way
from tests.results import error, payload
from tests.support.faults import Status
from tests.system.faults.hosts import over

pytestmark = [pytest.mark.anyio, pytest.mark.finding("S7"), over(Way("memory", "2025"), Way("http", "2026"))]

PRIVATE: dict[str, Any] = {"id": "secret-app", "namespace": "mine", "name": "secret", "description": "A CONFIDENTIAL app", "visibility": "private",
                           "version": {"id": "v", "input_schema": {"type": "object", "properties": {"hush": {"type": "string"}}}}}  # fmt: skip
PATH, ESTIMATE = "/apps/mine/secret", "/store/apps/secret-app/estimate"


def refuse(upstream: Upstream, status: int, *paths: str, times: int = -1) -> None:
    upstream.sandbox.faults.clear()
    for path in paths:
        upstream.sandbox.faults.add(Status(code=status), path=path, times=times)


async def ways_to_see(client: Client) -> dict[str, str]:
    """What each way to look at the app shows."""
    texts = {
        "app_get": (await client.call_tool("app_get", {"app": "mine/secret"})).model_dump_json(),
        "dry_run": (
            await client.call_tool("app_run", {"app": "mine/secret", "input": {"hush": "x"}, "dry_run": True})
        ).model_dump_json(),
    }
    try:
        texts["resource"] = (await client.read_resource("inference://apps/mine/secret")).model_dump_json()
    except MCPError as exc:
        texts["resource"] = exc.error.model_dump_json()
    return texts


async def remembered(client: Client, upstream: Upstream, visibility: str = "private") -> None:
    body = json.dumps({**PRIVATE, "visibility": visibility})
    upstream.sandbox.faults.add(Status(code=200, body=body), path=PATH)
    upstream.sandbox.faults.add(Status(code=200, body='{"confidence": "unknown"}'), path=ESTIMATE)
    assert "CONFIDENTIAL" in (await client.call_tool("app_get", {"app": "mine/secret"})).model_dump_json()


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_private_app_is_not_shown_after_a_refusal_in_the_same_call(
    connect: Connect, upstream: Upstream, status: int
) -> None:
    """The price is what is asked first; its refusal is reason enough to ask for the app."""
    async with connect() as client:
        await remembered(client, upstream)
        refuse(upstream, status, PATH, ESTIMATE)
        texts = await ways_to_see(client)

    assert [] == [way for way, text in texts.items() if "CONFIDENTIAL" in text or "hush" in text]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_private_app_is_forgotten_after_one_refusal(connect: Connect, upstream: Upstream, status: int) -> None:
    """What is asked later, while the platform does not say what it thinks, is not answered from memory either."""
    async with connect() as client:
        await remembered(client, upstream)
        refuse(upstream, status, PATH, ESTIMATE)
        await client.call_tool("app_get", {"app": "mine/secret"})
        refuse(upstream, 503, PATH)
        texts = await ways_to_see(client)

    assert [] == [way for way, text in texts.items() if "CONFIDENTIAL" in text or "hush" in text]


async def test_any_401_makes_the_private_apps_forgotten(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        await remembered(client, upstream)
        refuse(upstream, 401, "/tasks/list")
        await client.call_tool("task_list", {})
        refuse(upstream, 503, PATH)
        texts = await ways_to_see(client)

    assert [] == [way for way, text in texts.items() if "CONFIDENTIAL" in text or "hush" in text]


async def test_a_refused_price_does_not_hide_a_readable_app(connect: Connect, upstream: Upstream) -> None:
    """A key that may not ask for prices may know the app: it is read anew, and shown without a price."""
    async with connect() as client:
        await remembered(client, upstream)
        upstream.sandbox.faults.add(Status(code=200, body=json.dumps(PRIVATE)), path=PATH)
        upstream.sandbox.faults.add(Status(code=403), path=ESTIMATE)
        result = await client.call_tool("app_get", {"app": "mine/secret"})

    assert "CONFIDENTIAL" in payload(result)["description"]
    assert payload(result)["price"].startswith("not known")


async def test_a_public_app_stays_cached(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        await remembered(client, upstream, visibility="public")
        refuse(upstream, 401, ESTIMATE, "/tasks/list")
        assert "key_refused" == error(await client.call_tool("task_list", {}))["code"]
        result = await client.call_tool("app_get", {"app": "mine/secret"})

    assert "CONFIDENTIAL" in payload(result)["description"]
