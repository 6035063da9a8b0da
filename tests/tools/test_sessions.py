"""State on warm workers, as a host sees it; the clock is the sandbox's own, turned by hand."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client

from tests.conftest import Connect, Upstream
from tests.results import payload, run, text_of
from tests.support.faults import LoseWorker, Status
from tests.system.faults.hosts import MEMORY, NEAR, over

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream(turned_upstream: Upstream) -> Upstream:
    """An inference.sh whose idle time passes only when a test says so."""
    return turned_upstream


async def count(client: Client, **session: Any) -> Any:
    return payload(await run(client, "sandbox/count", {"step": 2}, **session))


def advance(upstream: Upstream, seconds: float) -> None:
    clock: Any = upstream.sandbox.clock
    clock.advance(seconds)


async def test_a_session_keeps_the_apps_state(connect: Connect) -> None:
    """Every outcome says which session it used, when it expires, and how to go on."""
    async with connect() as client:
        first = await count(client, session="new", session_timeout=600)
        second = await count(client, session=first["session_id"])
        outside = await count(client)
        second_result = await run(client, "sandbox/count", {"step": 2}, session=first["session_id"])

    assert [2, 4, 2] == [outcome["output"]["value"] for outcome in (first, second, outside)]
    assert first["session_id"] == second["session_id"]
    assert second["session_expires_at"] >= first["session_expires_at"]
    assert "session_id" not in outside
    assert f'app_run(session="{first["session_id"]}")' in text_of(second_result)


@over(*NEAR)
async def test_a_session_can_be_listed_read_kept_alive_and_ended(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        session_id = (await count(client, session="new", session_timeout=100))["session_id"]
        before = payload(await client.call_tool("session_get", {"session_id": session_id}))
        advance(upstream, 90)
        extended = payload(await client.call_tool("session_keepalive", {"session_id": session_id}))
        advance(upstream, 90)
        listed = payload(await client.call_tool("session_list", {}))
        ended = await client.call_tool("session_end", {"session_id": session_id})
        after = await run(client, "sandbox/count", {"step": 1}, session=session_id)

    assert ("active", 1, 100) == (before["status"], before["runs"], before["idle_timeout_seconds"])
    assert extended["session_expires_at"] > before["session_expires_at"]
    assert [session_id] == [session["session_id"] for session in listed["sessions"]]
    assert not ended.is_error
    assert "session_ended" == payload(after)["error"]["code"]


@over(*NEAR)
async def test_four_session_failures_have_four_codes(connect: Connect, upstream: Upstream) -> None:
    """Each says what became of the state; none is silently moved to a new session."""
    async with connect() as client:
        expired = (await count(client, session="new", session_timeout=10))["session_id"]
        advance(upstream, 11)
        lost = (await count(client, session="new", session_timeout=3600))["session_id"]
        upstream.sandbox.faults.add(LoseWorker(), method="POST", path="/apps/run")
        during = await run(client, "sandbox/count", {"step": 1}, session=lost)
        answers = {
            name: await run(client, "sandbox/count", {"step": 1}, session=session)
            for name, session in {"expired": expired, "lost": lost, "unknown": "nosuchsession"}.items()
        }
        ended = (await count(client, session="new"))["session_id"]
        await client.call_tool("session_end", {"session_id": ended})
        answers["ended"] = await run(client, "sandbox/count", {"step": 1}, session=ended)
        sessions = payload(await client.call_tool("session_list", {}))["sessions"]

    codes = {name: payload(answer)["error"]["code"] for name, answer in answers.items()}
    assert {
        "expired": "session_expired",
        "lost": "worker_lost",
        "unknown": "session_not_found",
        "ended": "session_ended",
    } == codes
    assert all('session="new"' in text_of(answer) for answer in answers.values())
    assert ("task_failed", "started") == tuple(payload(during)["error"][name] for name in ("code", "outcome"))
    assert not [session for session in sessions if session["status"] == "active"]


@over(*MEMORY)
async def test_an_ended_session_is_not_offered_again(connect: Connect, upstream: Upstream) -> None:
    """Whether the platform still shows it or not: nor when it would have expired."""
    async with connect() as client:
        task_id, session_id = ((first := await count(client, session="new"))["task_id"], first["session_id"])
        await client.call_tool("session_end", {"session_id": session_id})
        read = await client.call_tool("session_get", {"session_id": session_id})
        ended = await client.call_tool("task_get", {"task_id": task_id})
        upstream.sandbox.faults.add(Status(code=410, error="gone"), method="GET", path="/sessions/*")
        gone = await client.call_tool("task_get", {"task_id": task_id})

    for answer in (read, ended, gone):
        assert "ended" in text_of(answer)
        assert "continue with app_run" not in text_of(answer)
        assert "session_expires_at" not in payload(answer)


@over(*NEAR)
async def test_a_session_of_another_app_is_refused(connect: Connect) -> None:
    async with connect() as client:
        session_id = (await count(client, session="new"))["session_id"]
        result = await run(client, "sandbox/echo", {}, session=session_id)

    assert ("conflict", "not_started") == tuple(payload(result)["error"][name] for name in ("code", "outcome"))
    assert "belongs to one app" in text_of(result)


@pytest.mark.parametrize("timeout", [0, 3601, -5])
@over(*NEAR)
async def test_a_session_timeout_out_of_bounds_is_refused_before_the_start(
    connect: Connect, upstream: Upstream, timeout: int
) -> None:
    """Nought is no time-out at all, so it is the default; beyond the bounds nothing is started."""
    async with connect() as client:
        result = await run(client, "sandbox/count", {"step": 1}, session="new", session_timeout=timeout)

    if timeout == 0:
        assert "completed" == payload(result)["status"]
    else:
        assert "session_timeout is 1 to 3600 seconds" in text_of(result)
        assert () == upstream.sandbox.ledger.starts


@over(*NEAR)
async def test_each_function_of_an_app_has_its_own_schema(connect: Connect) -> None:
    async with connect() as client:
        about = payload(await client.call_tool("app_get", {"app": "sandbox/memory:set_value"}))
        first = payload(
            await run(client, "sandbox/memory", {"key": "a", "value": 7}, function="set_value", session="new")
        )
        wrong = await run(client, "sandbox/memory:set_value", {"key": "a"}, session=first["session_id"])
        value = payload(await run(client, "sandbox/memory:get_value", {"key": "a"}, session=first["session_id"]))

    assert {"key", "value"} == set(about["input_schema"]["properties"])
    assert ["get_all", "get_value", "increment", "set_value"] == [function["name"] for function in about["functions"]]
    assert "'value' is missing" in text_of(wrong)
    assert (True, 7) == (value["output"]["found"], value["output"]["value"])


@over(*NEAR)
async def test_an_unreadable_session_does_not_fail_the_answer(connect: Connect, upstream: Upstream) -> None:
    """The run is over and paid for; when it is not known how long its session lives, that alone is missing."""
    upstream.sandbox.faults.add(Status(code=403, error="forbidden"), method="GET", path="/sessions/*", times=-1)
    async with connect() as client:
        outcome = await count(client, session="new")

    assert ("completed", True) == (outcome["status"], "session_expires_at" not in outcome)
