"""A run is started at most once, whatever becomes of its request: rows X-1 to X-5 and X-12 to X-16."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product
from typing import Any

import anyio
import pytest

from inferencesh_mcp.api import http_client
from inferencesh_sandbox import serving
from inferencesh_sandbox.clock import Clock
from tests.conftest import Upstream, until
from tests.results import error, payload, text_of
from tests.support.faults import Drop, EndAtOnce, HideTasks, Stall, Status, Swallow, Twice
from tests.support.sandbox import Sandbox
from tests.system.faults.hosts import NEAR, PIPE, STDIO, Host, Hosted, judge, over
from tests.system.faults.proxy import Act, Proxy, proxying

pytestmark = pytest.mark.anyio
RUN, LIST = "/apps/run", "/tasks/list"
PAGE = "<html><body><h1>502 Bad Gateway</h1>nginx</body></html>"


def posts(upstream: Upstream) -> int:
    return len(upstream.sandbox.ledger.requests("POST", RUN))


@pytest.mark.fault("X-1")
@over(*NEAR)
async def test_a_refused_connection_is_retried(
    host: Hosted, upstream: Upstream, proxy: Proxy, behind: dict[str, str]
) -> None:
    """What never left this machine is sent again, and is one start."""
    pauses = []

    async def open_again(seconds: float) -> None:
        pauses.append(seconds)
        await proxy.open()

    async with host(sleep=open_again, **behind) as my:
        await my.call("app_get", app="sandbox/echo")
        proxy.shut()
        result = await my.run("echo", {"n": 1})

    assert ({"n": 1}, 1) == (payload(result)["output"], len(pauses))
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-1")
@over(*STDIO)
async def test_a_start_whose_connection_is_always_refused_can_be_repeated(
    host: Hosted, upstream: Upstream, proxy: Proxy, behind: dict[str, str]
) -> None:
    async with host(**behind) as my:
        await my.call("app_get", app="sandbox/echo")
        proxy.shut()
        refused = await my.run("echo", {"n": 1})
        assert ("unavailable", "not_started", True) == tuple(
            error(refused)[name] for name in ("code", "outcome", "retry_safe")
        )
        assert 0 == posts(upstream)

        await proxy.open()
        result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-2")
@over(*NEAR)
async def test_a_connect_that_hangs_starts_nothing(
    host: Hosted, upstream: Upstream, proxy: Proxy, behind: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake is never answered; given up after the connect limit times the attempts."""
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.2)  # ten seconds, else
    async with host(**behind) as my:
        await my.call("app_get", app="sandbox/echo")
        proxy.fill()
        result = await my.run("echo", {})

    assert ("unavailable", "not_started") == (error(result)["code"], error(result)["outcome"])
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-2")
@over(*NEAR)
async def test_a_tls_handshake_that_hangs_starts_nothing(
    host: Hosted, upstream: Upstream, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.2)
    proxy.script.extend([Act(silent=True)] * 20)
    async with host(INFERENCE_BASE_URL=f"https://127.0.0.1:{proxy.port}") as my:
        result = await my.run("echo", {})

    assert ("unavailable", "not_started") == (error(result)["code"], error(result)["outcome"])
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-2")
async def test_a_tls_handshake_answered_with_garbage_starts_nothing(
    host: Hosted, upstream: Upstream, proxy: Proxy
) -> None:
    proxy.script.extend([Act(instead=b"HTTP/1.0 200 OK\r\n\r\n\0\xff" * 50)] * 20)
    async with host(INFERENCE_BASE_URL=f"https://127.0.0.1:{proxy.port}") as my:
        result = await my.run("echo", {})

    assert ("unavailable", "not_started") == (error(result)["code"], error(result)["outcome"])
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-3")
async def test_a_run_whose_reply_is_lost_is_adopted(host: Hosted, upstream: Upstream) -> None:
    """The connection breaks after the task was made: it is found, followed, and not started again."""
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    async with host() as my:
        result = await my.run("slow", {"seconds": 0.2, "steps": 2})

    assert ("completed", 2) == (payload(result)["status"], payload(result)["output"]["steps"])
    assert 1 == posts(upstream)
    judge(my, upstream.sandbox, starts=1)


async def run_with_lost_reply(my: Host, upstream: Upstream, sent: float, stored: int) -> Any:
    """What is told of a run whose reply was lost, and whose number the platform's list has as `kept`."""
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    gate = upstream.sandbox.faults.hold("POST", LIST)
    results: list[Any] = []
    async with anyio.create_task_group() as group:

        async def run() -> None:
            results.append(await my.run("echo", {"scale": sent, "on": True}))

        group.start_soon(run)
        await gate.reached.wait()
        (task,) = [task for tenant in upstream.sandbox.tenants for task in tenant.tasks]
        task.request = replace(task.request, input={"scale": stored, "on": True})
        gate.release()
    return results[0]


@pytest.mark.fault("X-3")
@over(PIPE)
async def test_a_lost_run_is_found_when_the_platform_writes_a_number_in_another_form(
    host: Hosted, upstream: Upstream
) -> None:
    """What was sent as 7.0 is 7 to a platform in Go, and still the same run."""
    async with host() as my:
        result = await run_with_lost_reply(my, upstream, 7.0, 7)

    assert "completed" == payload(result)["status"]
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-5")
@over(PIPE)
async def test_a_run_with_the_next_large_seed_is_another_run(host: Hosted, upstream: Upstream) -> None:
    """Beyond 2^53 the two are one and the same to whoever takes them for floating-point numbers."""
    async with host() as my:
        result = await run_with_lost_reply(my, upstream, 2**60, 2**60 + 1)

    assert ("unknown", 1) == (error(result)["outcome"], posts(upstream))


@pytest.mark.fault("X-3")
@over(PIPE)
@pytest.mark.parametrize(
    "act",
    [Act(response_bytes=0), Act(response_bytes=60), Act(response_bytes=200), Act(response_bytes=200, resets=False)],
    ids=["nothing", "headers", "body", "body-ended-cleanly"],
)
async def test_a_run_whose_reply_is_cut_is_adopted(
    host: Hosted, upstream: Upstream, proxy: Proxy, behind: dict[str, str], act: Act
) -> None:
    """Nothing of it, half its headers, half its body: a reply that is not whole is no reply."""
    async with host(**behind) as my:
        await my.call("app_get", app="sandbox/echo")
        proxy.script.append(act)
        result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    assert 1 == posts(upstream)
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-3")
@over(*NEAR)
async def test_a_start_request_cut_half_way_is_searched_for_and_not_sent_again(
    host: Hosted, upstream: Upstream, proxy: Proxy, behind: dict[str, str]
) -> None:
    """Once a byte has left, it may have arrived."""
    async with host(**behind) as my:
        await my.call("app_get", app="sandbox/echo")
        proxy.script.append(Act(request_bytes=40))
        result = await my.run("echo", {})

    assert ("outcome_unknown", "unknown") == (error(result)["code"], error(result)["outcome"])
    assert 0 == posts(upstream)
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-4")
@over(*NEAR)
@pytest.mark.parametrize("started", [True, False])
async def test_a_lost_start_that_is_in_no_list_is_unknown(host: Hosted, upstream: Upstream, started: bool) -> None:
    """Whether it was started or not cannot be told, so nothing is sent again and nothing is promised."""
    upstream.sandbox.faults.add(Swallow() if started else Drop(), path=RUN)
    upstream.sandbox.faults.add(HideTasks(), path=LIST, times=-1)
    async with host() as my:
        result = await my.run("echo", {"n": 1})
        upstream.sandbox.faults.clear()
        listed = await my.call("task_list")

    failure = error(result)
    assert ("outcome_unknown", "unknown", False) == tuple(failure[name] for name in ("code", "outcome", "retry_safe"))
    assert "candidates" not in failure
    assert "task_list" in failure["next"]
    assert started == (len(payload(listed)["tasks"]) == 1), "what the error says to do finds it"
    assert (1, 5 + 1) == (posts(upstream), len(upstream.sandbox.ledger.requests("POST", LIST)))
    judge(my, upstream.sandbox, starts=int(started))


@over(*NEAR)
async def test_a_run_that_may_have_started_counts_towards_the_spend_limit(host: Hosted, upstream: Upstream) -> None:
    """Each may cost $0.03 of $0.04, and the first may go on."""
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    upstream.sandbox.faults.add(HideTasks(), path=LIST, times=-1)
    async with host(INFERENCE_MAX_RUN_COST="0.04") as my:
        lost = await my.run("slow", {"seconds": 3, "steps": 1})
        second = await my.run("slow", {"seconds": 3, "steps": 1})

    assert "outcome_unknown" == error(lost)["code"]
    assert "spend_limit_exceeded" == error(second)["code"]


class Elsewhen(Clock):
    """A clock that is wrong by so much."""

    def __init__(self, wrong: timedelta) -> None:
        self._wrong = wrong

    def now(self) -> datetime:
        return super().now() + self._wrong


@pytest.mark.fault("X-42")
@pytest.mark.parametrize("minutes", [-60, 10, 60])
@over(*NEAR)
async def test_a_wrong_clock_hides_no_task(host: Hosted, minutes: int) -> None:
    """Theirs or ours: what was lost is looked for by their time, and nobody waits longer."""
    sandbox = Sandbox(Elsewhen(wrong := timedelta(minutes=minutes)))
    async with serving(sandbox) as url, proxying(url) as proxy:
        date = format_datetime(datetime.now(UTC) + wrong, usegmt=True).encode()
        proxy.script.extend([Act(date=date)] * 100)
        async with host(INFERENCE_BASE_URL=f"http://127.0.0.1:{proxy.port}") as my:
            await my.call("app_get", app="sandbox/echo")
            sandbox.faults.add(Swallow(), path=RUN)
            result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    assert sum(my.slept) < 15
    judge(my, sandbox, starts=1)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.finding("S12")
@over(*NEAR)
async def test_an_input_that_no_response_could_hold_is_refused(host: Hosted, upstream: Upstream) -> None:
    """Too deep, too large, or a number that most readers take for infinite: such a task could never be read."""
    async with host() as my:
        deepest = await my.run("echo", {"n": nested(47)})
        refused = {
            why: await my.run("echo", {"n": value})
            for why, value in {
                "nested more than 48 deep": nested(48),
                "more than 308 digits": 10**309,
                "larger than 4 MiB": "é" * 800_000,  # six bytes each, as JSON writes them
            }.items()
        }

    assert {"n": nested(47)} == payload(deepest)["output"]
    for why, result in refused.items():
        assert "invalid_input" == error(result)["code"], why
        assert why in error(result)["message"]
    assert {"not_started"} == {error(result)["outcome"] for result in refused.values()}
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.finding("B2")
@pytest.mark.parametrize(
    "date", [b"Fri, 31 Dec 9999 23:59:59 GMT", b"Mon, 01 Jan 0001 00:00:00 GMT"], ids=["last", "first"]
)
@over(*NEAR)
async def test_an_extreme_date_header_does_not_break_runs(
    host: Hosted, upstream: Upstream, proxy: Proxy, behind: dict[str, str], date: bytes
) -> None:
    proxy.script.extend([Act(date=date)] * 100)
    async with host(**behind) as my:
        results = [await my.run("echo", {"n": n}) for n in range(2)]
        upstream.sandbox.faults.add(Swallow(), path=RUN)
        adopted = await my.run("echo", {"n": 2})

    assert [{"n": 0}, {"n": 1}, {"n": 2}] == [payload(result)["output"] for result in (*results, adopted)]
    judge(my, upstream.sandbox, starts=3)


@pytest.mark.finding("S9")
@pytest.mark.parametrize("code", [429, 503])
@over(PIPE)
async def test_a_retry_waits_even_if_retry_after_is_zero(host: Hosted, upstream: Upstream, code: int) -> None:
    """`Retry-After: 0`, a date that is over, and a date by a clock that is an hour slow."""
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    async with host() as my:
        await my.call("app_get", app="sandbox/echo")
        for header in ("0", past):
            upstream.sandbox.faults.add(Status(code=code, headers={"Retry-After": header}), path=RUN, times=2)
            assert not (await my.run("echo", {"n": 1})).is_error

    assert 4 == len(my.slept)
    assert all(pause >= 0.5 for pause in my.slept)
    judge(my, upstream.sandbox, starts=2)


@pytest.mark.finding("S9")
@pytest.mark.parametrize("header", ["999999999", "9" * 3000, "Fri, 31 Dec 9999 23:59:59 GMT"])
@over(PIPE)
async def test_an_endless_retry_after_is_reported_as_a_day(host: Hosted, upstream: Upstream, header: str) -> None:
    upstream.sandbox.faults.add(Status(code=429, headers={"Retry-After": header}), path=RUN, times=-1)
    async with host() as my:
        result = await my.run("echo", {})

    assert ("rate_limited", 86_400.0) == (error(result)["code"], error(result)["retry_after_seconds"])
    assert ([], 1) == (my.slept, posts(upstream))
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.finding("D12")
@over(PIPE)
async def test_a_start_is_retried_at_the_rate_limit_reset(host: Hosted, upstream: Upstream) -> None:
    """429 with `X-RateLimit-Reset`, in unix seconds, and no `Retry-After`."""
    reset = str(int(time.time()) + 30)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    upstream.sandbox.faults.add(Status(code=429, headers=headers), path=RUN)
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    assert 25 <= my.slept[0] <= 31
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-5")
async def test_two_matching_tasks_are_both_named_and_neither_is_adopted(host: Hosted, upstream: Upstream) -> None:
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    upstream.sandbox.faults.add(Twice(), path=RUN)
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    task_ids = {start.task_id for start in upstream.sandbox.ledger.starts}
    assert ("unknown", task_ids) == (error(result)["outcome"], set(error(result)["candidates"]))
    assert all(task_id in text_of(result) for task_id in task_ids)
    assert 1 == posts(upstream)
    judge(my, upstream.sandbox, starts=2, twice=True)


@pytest.mark.fault("X-5")
@pytest.mark.parametrize(("way", "started"), [*product(NEAR, (True, False)), (STDIO[0], True)], ids=str)
async def test_the_task_of_another_live_call_is_not_adopted(host: Hosted, upstream: Upstream, started: bool) -> None:
    """Two calls of the same: one is followed, the other's reply is lost. Each ends with its own task, or with none."""
    faults, results = upstream.sandbox.faults, []
    async with host() as my, anyio.create_task_group() as group:

        async def run() -> None:
            results.append(await my.run("slow", my.slow(2, 3)))

        group.start_soon(run)
        await my.until_progress("step 1")
        faults.add(Swallow() if started else Drop(), path=RUN)
        group.start_soon(run)

    task_ids = {start.task_id for start in upstream.sandbox.ledger.starts}
    if started:
        assert task_ids == {payload(result)["task_id"] for result in results}
    else:
        assert [None, "unknown"] == sorted((payload(r).get("error", {}).get("outcome") for r in results), key=str)
        assert not [payload(r) for r in results if "candidates" in payload(r).get("error", {})]
    judge(my, upstream.sandbox, starts=1 + started)


@pytest.mark.fault("X-5")
@over(*NEAR)
async def test_a_task_that_may_belong_to_another_call_is_not_adopted(
    host: Hosted, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One start is made and its reply is slow, an identical one is dropped: the dropped one does not take the other's."""
    monkeypatch.setattr(http_client, "READ_SECONDS", 1.0)  # of the slow reply; the dropped call looks for 0.3 s
    faults, results = upstream.sandbox.faults, {}
    async with host() as my, anyio.create_task_group() as group:

        async def run(name: str) -> None:
            results[name] = await my.run("echo", {"n": 1})

        await my.call("app_get", app="sandbox/echo")
        faults.add(Stall(lines=0), path=RUN)
        group.start_soon(run, "slow")
        await until(lambda: upstream.sandbox.ledger.starts)
        faults.add(Drop(), path=RUN)
        group.start_soon(run, "dropped")
        await until(lambda: "dropped" in results)
        assert 5 == len(upstream.sandbox.ledger.requests("POST", LIST)), "it kept looking for one of its own"
        group.cancel_scope.cancel()
        await until(lambda: "may go on without its caller" in my.read_log())

    assert "unknown" == error(results["dropped"])["outcome"]
    # The slow one was left, its reply never came, and its task may be the dropped one's: it is named, and not cancelled.
    assert f"it may be: {upstream.sandbox.ledger.starts[0].task_id}" in my.read_log()
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-12")
async def test_a_task_that_has_ended_in_the_start_reply_is_answered_at_once(host: Hosted, upstream: Upstream) -> None:
    """No stream is opened for what has ended already."""
    upstream.sandbox.faults.add(EndAtOnce(), path=RUN)
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    assert "completed" == payload(result)["status"]
    assert not upstream.sandbox.ledger.requests(path="/tasks/*/stream")
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-13")
@over(*NEAR)
async def test_a_start_waits_as_retry_after_says(host: Hosted, upstream: Upstream) -> None:
    """429 with `Retry-After` in seconds: one start, after that time and not much later."""
    async with host() as my:
        await my.call("app_get", app="sandbox/echo")
        upstream.sandbox.faults.add(Status(code=429, headers={"Retry-After": "2"}), path=RUN)
        result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    assert [2.0] == my.slept
    assert 2 == posts(upstream)
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-13")
@over(*NEAR)
async def test_a_start_waits_until_the_date_in_retry_after(host: Hosted, upstream: Upstream) -> None:
    """`Retry-After` as an HTTP date, whose seconds are whole."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    upstream.sandbox.faults.add(Status(code=429, headers={"Retry-After": date}), path=RUN)
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    assert 25 <= my.slept[0] <= 31
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-14")
async def test_an_endless_rate_limit_is_an_error_after_three_attempts(host: Hosted, upstream: Upstream) -> None:
    """429 for ever: a typed error after as many requests as there are attempts, and nothing started."""
    upstream.sandbox.faults.add(
        Status(code=429, headers={"Retry-After": "1"}, error="rate_limited"), path=RUN, times=-1
    )
    async with host() as my:
        result = await my.run("echo", {})

    failure = error(result)
    assert ("rate_limited", "not_started", True, 1.0) == tuple(
        failure[name] for name in ("code", "outcome", "retry_safe", "retry_after_seconds")
    )
    assert 3 == posts(upstream)
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-15")
async def test_an_html_page_from_a_gateway_is_never_shown(host: Hosted, upstream: Upstream) -> None:
    """502 with HTML: reads are made again; a start is looked for instead."""
    page = Status(code=502, headers={"content-type": "text/html"}, body=PAGE)
    faults = upstream.sandbox.faults
    faults.add(page, method="GET", path="/apps/**", times=2)
    async with host() as my:
        about = await my.call("app_get", app="sandbox/echo")
        faults.add(page, method="GET", path="/apps/**", times=-1)
        unreachable = await my.call("app_get", app="sandbox/draw")
        faults.clear()
        faults.add(page, method="GET", path="/tasks/*", times=2)
        result = await my.run("echo", {"n": 1})

    assert not about.is_error
    assert "unavailable" == error(unreachable)["code"]
    assert len(error(unreachable)["message"]) <= 500
    assert {"n": 1} == payload(result)["output"]
    assert not [frame for frame in my.frames if "<" in str(frame.message) and "html" in str(frame.message)]
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-15", "X-16")
@over(*NEAR)
@pytest.mark.parametrize("body", [PAGE, None], ids=["page", "problem"])
@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_a_start_answered_with_5xx_is_not_sent_again(
    host: Hosted, upstream: Upstream, code: int, body: str | None
) -> None:
    """5xx without a promise: it may have started, so the list is asked, and nothing is sent twice."""
    upstream.sandbox.faults.add(Status(code=code, body=body), path=RUN)
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    assert ("unknown", False) == (error(result)["outcome"], error(result)["retry_safe"])
    assert "html" not in text_of(result)
    assert str(code) in text_of(result)
    assert (1, 5) == (posts(upstream), len(upstream.sandbox.ledger.requests("POST", LIST)))
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-16")
async def test_a_start_that_failed_after_creating_the_task_is_adopted(
    host: Hosted, upstream: Upstream, proxy: Proxy, behind: dict[str, str]
) -> None:
    """500 in place of the reply, the task made all the same: what is found is taken."""
    async with host(**behind) as my:
        await my.call("app_get", app="sandbox/echo")
        proxy.script.append(Act(replaces=b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"))
        result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    assert 1 == posts(upstream)
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-16")
async def test_a_start_refused_with_503_and_retry_after_is_sent_again(host: Hosted, upstream: Upstream) -> None:
    """503 with `Retry-After` in the API's own words: it says that nothing was started."""
    upstream.sandbox.faults.add(Status(code=503, headers={"Retry-After": "1"}), path=RUN)
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    assert {"n": 1} == payload(result)["output"]
    assert 2 == posts(upstream)
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-16")
@over(*NEAR)
async def test_a_gateways_503_with_retry_after_is_not_retried(host: Hosted, upstream: Upstream) -> None:
    """503 with `Retry-After`, but from something in between: the start may be under way behind it."""
    upstream.sandbox.faults.add(Status(code=503, headers={"Retry-After": "1"}, body=PAGE), path=RUN)
    async with host() as my:
        result = await my.run("echo", {"n": 1})

    assert "unknown" == error(result)["outcome"]
    assert 1 == posts(upstream)
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-5")
@over(*NEAR)
@pytest.mark.parametrize("input_", [{"n": 1}, {"n": 2}], ids=["same", "other"])
async def test_the_task_of_a_finished_call_is_not_adopted(
    host: Hosted, upstream: Upstream, input_: dict[str, int]
) -> None:
    """What was answered once is nobody else's, were it asked for in the same words a moment later."""
    async with host() as my:
        other = await my.run("echo", input_)
        upstream.sandbox.faults.add(Drop(), path=RUN)
        unknown = await my.run("echo", {"n": 1})

    assert "completed" == payload(other)["status"]
    assert "unknown" == error(unknown)["outcome"]
    assert "candidates" not in error(unknown)
    judge(my, upstream.sandbox, starts=1)
