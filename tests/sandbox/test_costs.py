"""Pretended money: prices, charges, balance, spending and limits."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.conftest import KEY, Upstream, until

pytestmark = pytest.mark.anyio
HEADERS = {"Authorization": f"Bearer {KEY}"}


async def ask(upstream: Upstream, method: str, path: str, body: Any = None) -> Any:
    async with httpx2.AsyncClient(base_url=upstream.url, headers=HEADERS) as http:
        response = await http.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json()["data"]


async def ended(upstream: Upstream, app: str, app_input: dict[str, Any]) -> str:
    task = await ask(upstream, "POST", "/apps/run", {"app": app, "input": app_input})
    (tenant,) = upstream.sandbox.tenants
    record = tenant.tasks.get(task["id"])
    assert record is not None
    await until(lambda: record.ended)
    return str(task["id"])


async def test_an_ended_task_is_charged_and_a_running_one_not_yet(upstream: Upstream) -> None:
    drawn = await ended(upstream, "sandbox/draw", {"prompt": "x", "width": 100, "height": 50})
    running = await ask(upstream, "POST", "/apps/run", {"app": "sandbox/slow", "input": {"seconds": 60}})

    assert 10_000 == (await ask(upstream, "GET", f"/tasks/{drawn}/cost"))["charged"]
    assert "charged" not in await ask(upstream, "GET", f"/tasks/{running['id']}/cost")
    assert 999_990_000 == (await ask(upstream, "GET", "/billing"))["balance"]
    assert {"balance": 999_990_000} == await ask(upstream, "GET", "/billing/balance")


async def test_a_cancelled_task_is_charged_for_the_time_that_it_ran(upstream: Upstream) -> None:
    task = await ask(upstream, "POST", "/apps/run", {"app": "sandbox/slow", "input": {"seconds": 60, "steps": 600}})
    (tenant,) = upstream.sandbox.tenants
    record = tenant.tasks.get(task["id"])
    assert record is not None
    await until(lambda: record.logs)
    await ask(upstream, "POST", f"/tasks/{task['id']}/cancel", {})
    await until(lambda: record.ended)

    assert 0 < (await ask(upstream, "GET", f"/tasks/{task['id']}/cost"))["charged"] < 60_000_000


async def test_spending_is_by_app_and_day(upstream: Upstream) -> None:
    for width in (100, 200):
        await ended(upstream, "sandbox/draw", {"prompt": "x", "width": width, "height": 100})
    spent = await ask(upstream, "GET", "/usage/breakdown?range=7d")

    assert [{"app_endpoint": "sandbox/draw", "call_count": 2, "cost": 60_000}] == spent["per_model"]
    assert [{"sandbox/draw": 60_000}] == [day["per_app"] for day in spent["timeseries"]]
    assert 60_000 == spent["total_cost"]


async def test_limits_and_the_scopes_of_a_key_are_shown(upstream: Upstream) -> None:
    await ask(upstream, "POST", "/apps/run", {"app": "sandbox/slow", "input": {"seconds": 60}})
    (limit,) = await ask(upstream, "GET", "/entitlements/usage")
    (plan,) = await ask(upstream, "GET", "/entitlements")
    me = await ask(upstream, "GET", "/me")

    assert plan == {name: value for name, value in limit.items() if name != "usage"}
    assert ("concurrency", 1) == (limit["resource"], limit["usage"])
    assert "billing:read" in me["scopes"]
    assert "approvals:write" not in me["scopes"]


async def test_a_suggestion_is_found_by_another_word_for_the_same(upstream: Upstream) -> None:
    found = await ask(upstream, "POST", "/suggest", {"query": "sketch a sunset", "category": "app"})

    assert "sandbox/draw" == found["results"][0]["name"]
