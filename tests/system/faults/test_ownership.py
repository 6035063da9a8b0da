"""A run is whose it is: whoever shares a key with others neither takes nor ends what they started."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.flows import start as flows_start
from inferencesh_mcp.http import tokens
from inferencesh_mcp.http.app import create_app
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from tests.conftest import Upstream, listening, until
from tests.results import error, payload, run
from tests.support.faults import Drop, HideTasks, Status, Swallow
from tests.system.faults.conftest import HURRY
from tests.system.faults.hosts import NEAR, PIPE, Hosted, judge, over

pytestmark = pytest.mark.anyio
RUN, LIST = "/apps/run", "/tasks/list"
LONG = {"seconds": 30, "steps": 60}
TOKENS = {name: tokens.mint() for name in ("bob", "ada")}
SHARED_KEY = {
    "INFERENCE_HTTP_AUTH": "tokens",
    "INFERENCE_HTTP_TOKENS": ",".join(tokens.line(name, token) for name, token in TOKENS.items()),
}
REPLICAS = {"INFERENCE_STATE_KEYS": "k" * 32}


async def hurry(seconds: float) -> None:
    await anyio.sleep(seconds / HURRY)


@asynccontextmanager
async def serving(environ: dict[str, str]) -> AsyncIterator[str]:
    """One server over HTTP, whose pauses are short."""
    settings = Settings.from_environ(environ)
    network = functools.partial(Transport, sleep=hurry)
    async with listening(create_app(build(settings, network=network), settings)) as url:
        yield url


@asynccontextmanager
async def calling(*where: tuple[str, str]) -> AsyncIterator[list[Client]]:
    """A client for each server and bearer."""
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(45))
        clients: list[Client] = []
        for url, bearer in where:
            http = await stack.enter_async_context(
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {bearer}"}, timeout=60)
            )
            clients.append(
                await stack.enter_async_context(Client(streamable_http_client(f"{url}/mcp", http_client=http)))
            )
        yield clients


@asynccontextmanager
async def sharing(environ: dict[str, str], how: str) -> AsyncIterator[list[Client]]:
    """Bob and Ada, who share an upstream account, one way or the other."""
    without_key = {name: value for name, value in environ.items() if name != "INFERENCE_API_KEY"}
    async with AsyncExitStack() as stack:
        match how:
            case "one server, with its operator's key":
                url = await stack.enter_async_context(serving(environ | SHARED_KEY))
                where = [(url, TOKENS["bob"]), (url, TOKENS["ada"])]
            case "one server, each with a key of their team":
                url = await stack.enter_async_context(serving(without_key))
                where = [(url, "inf_team_CANARY"), (url, "inf_person_team_CANARY")]
            case _:
                urls = [await stack.enter_async_context(serving(environ | SHARED_KEY | REPLICAS)) for _ in "12"]
                where = [(urls[0], TOKENS["bob"]), (urls[1], TOKENS["ada"])]
        yield await stack.enter_async_context(calling(*where))


ONE = ["one server, with its operator's key", "one server, each with a key of their team"]
TWO = "two replicas with one key"


async def in_background(group: Any, client: Client, results: list[Any], input_: dict[str, Any] = LONG) -> None:
    async def called() -> None:
        results.append(await run(client, "sandbox/slow", input_))

    group.start_soon(called)


@pytest.mark.finding("S5")
@pytest.mark.parametrize("how", [*ONE, TWO])
async def test_another_callers_run_on_the_same_account_is_neither_adopted_nor_cancelled(
    how: str, environ: dict[str, str], upstream: Upstream
) -> None:
    """Bob's run is live; Ada asks for the very same, and her start is answered 502 and never made. Then she leaves."""
    ledger, bobs = upstream.sandbox.ledger, []
    async with sharing(environ, how) as (bob, ada), anyio.create_task_group() as group:
        await in_background(group, bob, bobs)
        await until(lambda: ledger.starts)
        upstream.sandbox.faults.add(Status(code=502), path=RUN)
        unknown = await run(ada, "sandbox/slow", LONG)
        upstream.sandbox.faults.add(Status(code=502), path=RUN)
        searches = len(ledger.requests("POST", LIST))
        leaving: list[Any] = []
        async with anyio.create_task_group() as hers:
            await in_background(hers, ada, leaving)
            await until(lambda: len(ledger.requests("POST", LIST)) > searches)
            hers.cancel_scope.cancel()
        await until(lambda: len(ledger.requests("POST", LIST)) > searches + 1)
        assert not (await ada.call_tool("app_list", {})).is_error
        assert () == ledger.cancels
        group.cancel_scope.cancel()
        await until(lambda: ledger.cancels)  # it is Bob who may

    assert ("outcome_unknown", "unknown") == (error(unknown)["code"], error(unknown)["outcome"])
    candidates = error(unknown).get("candidates", [])
    assert candidates == ([] if how in ONE else [ledger.starts[0].task_id]), (
        "another replica's cannot be told from hers"
    )
    assert 1 == len(ledger.starts)


@pytest.mark.finding("S5")
@pytest.mark.parametrize("how", [*ONE, TWO])
async def test_two_identical_lost_starts_do_not_adopt_each_others_task(
    how: str, environ: dict[str, str], upstream: Upstream
) -> None:
    """Bob's was made and Ada's was not; both are told of the one task, and both decide for themselves."""
    results: list[Any] = []
    faults, ledger = upstream.sandbox.faults, upstream.sandbox.ledger
    async with sharing(environ, how) as (bob, ada):
        for client in (bob, ada):
            assert not (await client.call_tool("app_get", {"app": "sandbox/slow"})).is_error
        gate = faults.hold("POST", LIST)
        async with anyio.create_task_group() as group:
            faults.add(Swallow(), path=RUN)
            await in_background(group, bob, results)
            await gate.reached.wait()
            faults.add(Drop(), path=RUN)
            await in_background(group, ada, results)
            await until(lambda: len(ledger.requests("POST", RUN)) == 2)
            gate.release()

    task_id = ledger.starts[0].task_id
    assert [("unknown", [task_id])] * 2 == [
        (error(result)["outcome"], error(result)["candidates"]) for result in results
    ]
    assert (1, ()) == (len(ledger.starts), ledger.cancels)


@pytest.mark.finding("S5")
async def test_a_failed_start_is_remembered_for_a_while(environ: dict[str, str], upstream: Upstream) -> None:
    """Bob's task appears after he was told that nobody knows; then Ada's identical start is lost, and was never made."""
    faults, ledger = upstream.sandbox.faults, upstream.sandbox.ledger
    async with sharing(environ, ONE[0]) as (bob, ada):
        faults.add(Swallow(), path=RUN)
        faults.add(HideTasks(), path=LIST, times=5)
        given_up = await run(bob, "sandbox/slow", LONG)
        faults.add(Drop(), path=RUN)
        unknown = await run(ada, "sandbox/slow", LONG)

    assert "candidates" not in error(given_up)
    assert ("unknown", [ledger.starts[0].task_id]) == (error(unknown)["outcome"], error(unknown)["candidates"])
    assert (1, ()) == (len(ledger.starts), ledger.cancels)


@pytest.mark.finding("S5")
async def test_another_callers_chat_on_the_same_account_is_neither_adopted_nor_stopped(
    environ: dict[str, str], upstream: Upstream
) -> None:
    """On two replicas: the same words to the same agent, and Ada's were never taken."""
    message = {"agent": "sandbox/assistant", "message": "Good morning"}
    async with sharing(environ, TWO) as (bob, ada):
        upstream.sandbox.faults.add(Swallow(), path="/agents/run")
        mine = await bob.call_tool("agent_chat", message)
        upstream.sandbox.faults.add(Drop(), path="/agents/run")
        hers = await ada.call_tool("agent_chat", message)

    (chat,) = [chat for tenant in upstream.sandbox.tenants for chat in tenant.chats]
    assert [("unknown", [chat.id])] * 2 == [
        (error(result)["outcome"], error(result)["candidates"]) for result in (mine, hers)
    ]
    assert 1 == len(upstream.sandbox.ledger.messages)


@over(PIPE)
async def test_a_lost_run_is_found_on_a_later_page(
    host: Hosted, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy account has more than a page of tasks that are newer."""
    monkeypatch.setattr(flows_start, "MAX_PAGE_SIZE", 2)
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    gate = upstream.sandbox.faults.hold("POST", LIST)
    results: list[Any] = []
    async with host() as my, anyio.create_task_group() as group:

        async def lose() -> None:
            results.append(await my.run("echo", {"n": "lost"}))

        group.start_soon(lose)
        await gate.reached.wait()
        for number in range(5):
            await my.run("echo", {"n": number})
        gate.release()

    assert {"n": "lost"} == payload(results[0])["output"]
    judge(my, upstream.sandbox, starts=6)


@pytest.mark.finding("S5")
@over(PIPE)
async def test_no_task_is_adopted_when_the_list_was_not_read_to_its_end(
    host: Hosted, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that fits may be somebody else's, and the own one further down."""
    monkeypatch.setattr(flows_start, "MAX_PAGE_SIZE", 1)
    monkeypatch.setattr(flows_start, "PAGES", 1)
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    async with host() as my:
        await my.run("echo", {"n": "other"})
        result = await my.run("echo", {"n": 1})
        assert "completed" == payload(result)["status"], "the fault was for the first"
        upstream.sandbox.faults.add(Swallow(), path=RUN)
        result = await my.run("echo", {"n": 2})

    assert ("unknown", [upstream.sandbox.ledger.starts[-1].task_id]) == (
        error(result)["outcome"],
        error(result)["candidates"],
    )


@pytest.mark.finding("S12")
@pytest.mark.parametrize("on_cancel", ["cancel", "keep"])
@over(*NEAR)
async def test_a_run_whose_caller_left_is_found_once_the_list_shows_it(
    host: Hosted, upstream: Upstream, on_cancel: str
) -> None:
    """The reply was lost, the host left, and the list of tasks lags behind: it is looked for again, with nobody waiting."""
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    upstream.sandbox.faults.add(HideTasks(), path=LIST, times=4)
    gate = upstream.sandbox.faults.hold("POST", LIST)
    async with host(INFERENCE_ON_CANCEL=on_cancel) as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        (task_id,) = [start.task_id for start in upstream.sandbox.ledger.starts]
        if on_cancel == "cancel":
            await until(lambda: upstream.sandbox.ledger.cancels)
        else:
            await until(lambda: f"task {task_id} goes on without its caller" in my.read_log())
        assert not (await my.call("app_list")).is_error
    assert 4 < len(upstream.sandbox.ledger.requests("POST", LIST)) < 8
    judge(my, upstream.sandbox, starts=1, cancels=int(on_cancel == "cancel"))


@pytest.mark.finding("S12")
@over(*NEAR)
async def test_a_run_that_is_found_nowhere_is_logged(host: Hosted, upstream: Upstream) -> None:
    """Patience has an end, and the log says what could not be found."""
    upstream.sandbox.faults.add(Drop(), path=RUN)
    gate = upstream.sandbox.faults.hold("POST", LIST)
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        await until(lambda: "its task could not be found" in my.read_log())
        searches = len(upstream.sandbox.ledger.requests("POST", LIST))
        assert not (await my.call("app_list")).is_error
    assert searches == len(upstream.sandbox.ledger.requests("POST", LIST)) == 9
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.finding("S12")
@over(*NEAR)
async def test_a_server_that_ends_during_the_search_logs_the_run(host: Hosted, upstream: Upstream) -> None:
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    upstream.sandbox.faults.add(HideTasks(), path=LIST, times=-1)
    gate = upstream.sandbox.faults.hold("POST", LIST)

    async def patient(seconds: float) -> None:
        await anyio.sleep(seconds if seconds == 1.0 else seconds / HURRY)

    async with host(sleep=patient) as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        assert not (await my.call("app_list")).is_error
    assert "a run of sandbox/slow may go on without its caller" in my.read_log()
