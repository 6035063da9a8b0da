"""Sessions that end before their time: rows X-21 and X-22. The clock is the sandbox's own, turned by hand."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import pytest

from tests.conftest import KEY, Upstream
from tests.results import error, payload, text_of
from tests.support.faults import LoseWorker, Stall, Status
from tests.system.faults.hosts import PIPE, Host, Hosted, judge

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream(turned_upstream: Upstream) -> Upstream:
    """An inference.sh whose idle time passes only when a test says so; its work takes none."""
    return turned_upstream


async def begun(my: Host, **more: Any) -> str:
    return payload(await my.run("count", {"step": 1}, session="new", **more))["session_id"]


def refused(code: str, result: Any, upstream: Upstream, starts: int) -> None:
    """A typed refusal with its advice; nothing was started for it, least of all in a session that nobody asked for."""
    failure = error(result)
    assert (code, "not_started", True) == tuple(failure[name] for name in ("code", "outcome", "retry_safe"))
    assert 'session="new"' in text_of(result)
    assert starts == len(upstream.sandbox.ledger.starts)


def sessions(upstream: Upstream) -> int:
    return sum(1 for tenant in upstream.sandbox.tenants for _ in tenant.sessions)


@pytest.mark.fault("X-21")
async def test_an_expired_session_is_an_error_and_not_replaced(host: Hosted, upstream: Upstream) -> None:
    async with host() as my:
        session = await begun(my, session_timeout=10)
        clock: Any = upstream.sandbox.clock
        clock.advance(11)
        result = await my.run("count", {"step": 1}, session=session)
        extended = await my.call("session_keepalive", session_id=session)

    refused("session_expired", result, upstream, starts=1)
    assert "session_expired" == error(extended)["code"]
    assert 1 == sessions(upstream)


@pytest.mark.fault("X-21")
async def test_a_session_does_not_expire_while_it_runs(host: Hosted, upstream: Upstream) -> None:
    """Its time is idle time: a run that takes longer ends well, and only then does the time begin."""
    async with host() as my:
        result = await my.run("slow", {"seconds": 30, "steps": 20}, session="new", session_timeout=5)

    assert "completed" == payload(result)["status"]
    assert payload(result)["session_expires_at"]
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.parametrize("way", [PIPE], indirect=True, ids=str)
async def test_an_answer_does_not_wait_for_the_session_record(
    host: Hosted, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that loses patience meanwhile would have the run cancelled that was paid for."""
    async with host() as my:
        upstream.sandbox.faults.add(Stall(), method="GET", path="/sessions/*", times=-1)
        monkeypatch.setattr("inferencesh_mcp.flows.concurrency.PATIENCE", 0.1)
        result = await my.run("count", {"step": 1}, session="new")

    assert "completed" == payload(result)["status"]
    assert payload(result)["session_id"]


@pytest.mark.fault("X-21")
async def test_a_session_that_the_platform_reports_as_expired_starts_nothing(host: Hosted, upstream: Upstream) -> None:
    """Between the check and the start: its 410 is the answer, sent once."""
    async with host() as my:
        session = await begun(my)
        upstream.sandbox.faults.add(Status(code=410, error="SESSION_EXPIRED"), path="/apps/run")
        result = await my.run("count", {"step": 1}, session=session)

    refused("session_expired", result, upstream, starts=1)
    assert 2 == len(upstream.sandbox.ledger.requests("POST", "/apps/run"))


@pytest.mark.fault("X-21")
async def test_a_session_ended_by_another_client_lets_its_run_finish(host: Hosted, upstream: Upstream) -> None:
    """What runs goes on to its own end; the next run is told that somebody ended the session."""
    results: list[Any] = []
    async with host() as my:
        session = await begun(my)
        gate = upstream.sandbox.faults.hold("GET", "/tasks/*/stream")
        async with anyio.create_task_group() as group:

            async def run() -> None:
                results.append(await my.run("count", {"step": 1}, session=session))

            group.start_soon(run)
            await gate.reached.wait()
            async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as another:
                await another.delete(f"{upstream.url}/sessions/{session}")
            gate.release()
        after = await my.run("count", {"step": 1}, session=session)
        again = await my.call("session_end", session_id=session)

    assert "completed" == payload(results[0])["status"]
    refused("session_ended", after, upstream, starts=2)
    assert not again.is_error or "session_ended" == error(again)["code"]
    assert 1 == sessions(upstream)


@pytest.mark.fault("X-21")
@pytest.mark.parametrize("session", ["nosuchsession", "00000000000000000000000000"])
async def test_an_unknown_session_is_an_error(host: Hosted, upstream: Upstream, session: str) -> None:
    async with host() as my:
        result = await my.run("count", {"step": 1}, session=session)
        looked_up = await my.call("session_get", session_id=session)

    refused("session_not_found", result, upstream, starts=0)
    assert "session_not_found" == error(looked_up)["code"]
    assert 0 == sessions(upstream)


@pytest.mark.fault("X-21")
async def test_another_callers_session_is_not_found(host: Hosted, upstream: Upstream) -> None:
    """Its id alone opens nothing (I-10), and tells nothing apart from one that never was."""
    async with host(INFERENCE_API_KEY="inf_somebody_else") as other:
        session = await begun(other)
    async with host() as my:
        result = await my.run("count", {"step": 1}, session=session)
        ended = await my.call("session_end", session_id=session)

    refused("session_not_found", result, upstream, starts=1)
    assert "session_not_found" == error(ended)["code"]


@pytest.mark.fault("X-22")
async def test_a_worker_lost_during_a_run_is_a_failed_task(host: Hosted, upstream: Upstream) -> None:
    """Started, with its id, and not begun again; what the session held is gone, which the next run is told."""
    async with host() as my:
        session = await begun(my)
        upstream.sandbox.faults.add(LoseWorker(), path="/apps/run")
        during = await my.run("count", {"step": 1}, session=session)
        afterwards = await my.call("task_get", task_id=payload(during)["task_id"])
        after = await my.run("count", {"step": 1}, session=session)

    for result in (during, afterwards):
        assert ("task_failed", "started", False) == tuple(
            error(result)[name] for name in ("code", "outcome", "retry_safe")
        )
    assert "worker lost" in text_of(during)
    assert ("worker_lost", False) == (error(after)["code"], error(after)["retry_safe"])
    assert 'session="new"' in text_of(after)
    assert (2, 3) == (len(upstream.sandbox.ledger.starts), len(upstream.sandbox.ledger.requests("POST", "/apps/run")))
    assert 1 == sessions(upstream)


@pytest.mark.fault("X-22")
async def test_a_worker_lost_without_a_session_is_a_failed_task_too(host: Hosted, upstream: Upstream) -> None:
    upstream.sandbox.faults.add(LoseWorker(), path="/apps/run")
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    assert ("task_failed", "started") == (error(result)["code"], error(result)["outcome"])
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/apps/run"))
    judge(my, upstream.sandbox, starts=1)
