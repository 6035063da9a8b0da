"""The end of a server in mid-work: every caller gets a task's id, nothing is cancelled, and it is over in time."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable
from itertools import cycle, islice
from typing import Any

import anyio
import httpx2
import pytest

from tests.conftest import KEY, Upstream, until
from tests.http.asking import ERAS, LEGACY, MODERN, envelope, facing, message_of, result_of
from tests.http.process import DRAIN, STOPPED, running
from tests.support.faults import Delay
from tests.support.systems import EXIT_CODES, SIGNALS, stop

pytestmark = pytest.mark.anyio

LONG = {"seconds": 60, "steps": 60}


@pytest.mark.fault("X-34")
async def test_a_drain_hands_over_every_call_and_keeps_every_run(upstream: Upstream) -> None:
    """In both eras: what was run, run many times, followed and said; and who listens is told that it is over."""
    answers: dict[str, Any] = {}
    ledger = upstream.sandbox.ledger

    async def note(name: str, asked: Awaitable[httpx2.Response]) -> None:
        answers[name] = result_of(await asked)

    async def listen() -> None:
        asked = {"toolsListChanged": True}
        headers, message = envelope("subscriptions/listen", MODERN, number="ours", notifications=asked)
        answers["listen"] = message_of(await server.http.post(server.url, headers=headers, content=message))

    async with running(upstream.url) as server, anyio.create_task_group() as group:
        first = result_of(await server.ask(MODERN, "app_run", app="sandbox/slow", input=LONG, wait=False))["task_id"]
        for era in ERAS:
            for name, tool, arguments in (
                ("run", "app_run", {"app": "sandbox/slow", "input": LONG}),
                ("many", "app_run_many", {"app": "sandbox/slow", "inputs": [LONG] * 4, "max_concurrency": 2}),
                ("get", "task_get", {"task_id": first, "wait_seconds": 50}),
                ("chat", "agent_chat", {"agent": "sandbox/hanging", "message": "hello"}),
            ):
                group.start_soon(note, f"{name} {era}", server.ask(era, tool, **arguments))
        group.start_soon(listen)
        await until(lambda: len(ledger.starts) == 1 + 2 * 3 and len(ledger.messages) == 2)
        await until(lambda: len(ledger.requests("GET", "/tasks/*/stream")) >= 1 + 2 * 3)

        code, took = await server.ended()

    assert (STOPPED, True) == (code, took < DRAIN)
    for era in ERAS:
        assert answers[f"run {era}"]["task_id"] in {one.task_id for one in ledger.starts}
        assert "task_get" in answers[f"run {era}"]["next"]
        rows = answers[f"many {era}"]["results"]
        assert [True, True, False, False] == ["task_id" in row for row in rows]
        assert ["not_started"] * 2 == [row["status"] for row in rows[2:]]
        assert (first, "running") == (answers[f"get {era}"]["task_id"], answers[f"get {era}"]["status"])
        assert answers[f"chat {era}"]["chat_id"] in {one.chat_id for one in ledger.messages}
    told = answers["listen"]["result"]
    assert ("complete", "ours") == (told["resultType"], told["_meta"]["io.modelcontextprotocol/subscriptionId"])
    assert (7, (), ()) == (len(ledger.starts), ledger.cancels, ledger.stops), "paid work is not killed by a deploy"
    for started in ledger.starts:
        assert started.task_id in str(answers) + first
    log = "".join(server.log)
    assert all(answers[f"run {era}"]["task_id"] in log for era in ERAS), "and the operator can read which go on"
    assert KEY not in log
    assert "Traceback" not in log
    assert "ERROR" not in log


@pytest.mark.fault("X-34")
@pytest.mark.parametrize("runs", [0, 50])
async def test_a_drain_names_every_id_however_many_run(upstream: Upstream, runs: int) -> None:
    """In the caller's answer; and nothing is cancelled."""
    told: list[str] = []

    async def run() -> None:
        told.append(result_of(await server.ask(MODERN, "app_run", app="sandbox/slow", input=LONG))["task_id"])

    async with (
        running(upstream.url, INFERENCE_MAX_CONCURRENT_RUNS="60") as server,
        anyio.create_task_group() as group,
    ):
        for _ in range(runs):
            group.start_soon(run)
        await until(lambda: len(upstream.sandbox.ledger.requests("GET", "/tasks/*/stream")) == runs)
        await server.ask(MODERN, "task_list")
        code, took = await server.ended()

    ledger = upstream.sandbox.ledger
    assert (STOPPED, True, ()) == (code, took < 10, ledger.cancels)
    assert (runs, {one.task_id for one in ledger.starts}) == (len(told), set(told))


@pytest.mark.finding("S2", "F22")
@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("others", [1, 9])
async def test_more_signals_lose_no_answer(upstream: Upstream, kind: signal.Signals, others: int) -> None:
    """They come while thirty calls are handed over: each is told its task id, nothing is cancelled, the code is the first's."""
    told: list[str] = []

    async def run() -> None:
        told.append(result_of(await server.ask(MODERN, "app_run", app="sandbox/slow", input=LONG))["task_id"])

    async with running(upstream.url, INFERENCE_LOG_LEVEL="INFO") as server, anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(run)
        await until(lambda: len(upstream.sandbox.ledger.requests("GET", "/tasks/*/stream")) == 30)
        await stop(server.process, kind)
        await until(lambda: f"{kind.name} received" in "".join(server.log))
        code, took = await server.ended(*list(islice(cycle(SIGNALS), others)))

    ledger = upstream.sandbox.ledger
    assert (EXIT_CODES[kind.name], True) == (code, took < DRAIN)
    assert {one.task_id for one in ledger.starts} == set(told)
    assert (30, ()) == (len(told), ledger.cancels)
    assert "ignored: the shutdown is under way" in "".join(server.log)


@pytest.mark.finding("S14")
async def test_an_unread_log_does_not_stop_the_server(upstream: Upstream) -> None:
    """Its pipe is full after a few lines of DEBUG; calls are answered as before, and it ends in time."""
    async with running(upstream.url, INFERENCE_LOG_LEVEL="DEBUG", reading=False) as server:
        for _ in range(100):
            result_of(await server.ask(MODERN, "task_list", cursor="x" * 2000))
        code, took = await server.ended()
    assert (STOPPED, True) == (code, took < DRAIN)


@pytest.mark.fault("X-35")
async def test_a_run_of_a_killed_server_is_in_the_list(upstream: Upstream) -> None:
    """The same call is a second start, for nobody knows of the first any more; both are there to see."""
    for _ in range(2):
        async with running(upstream.url) as server:
            begun = await server.ask(MODERN, "app_run", app="sandbox/slow", input=LONG, wait=False)
            listed = result_of(await server.ask(MODERN, "task_list"))["tasks"]
            server.process.kill()

    ledger = upstream.sandbox.ledger
    assert ledger.starts[1].task_id == result_of(begun)["task_id"]
    assert {one.task_id for one in ledger.starts} == {one["task_id"] for one in listed}
    assert () == ledger.cancels


@pytest.mark.parametrize("era", ERAS)
async def test_a_draining_server_accepts_no_new_call(upstream: Upstream, era: str) -> None:
    """What comes while the last answers go out is sent away with nothing started, and the balancer is told."""
    async with running(upstream.url) as server, anyio.create_task_group() as group:
        page = server.url.replace("/mcp", "/readyz")
        before = await server.http.get(page)
        # A body that does not end keeps the server's last request open.
        begun, slow = anyio.Event(), anyio.Event()

        async def held() -> None:
            async def body() -> AsyncIterator[bytes]:
                yield b"{"
                begun.set()
                await slow.wait()
                yield b"}"

            await server.http.post(server.url, content=body())

        group.start_soon(held)
        await begun.wait()
        idle = httpx2.AsyncClient(headers=server.http.headers, timeout=20, verify=False)
        async with idle:
            await idle.get(page)
            await stop(server.process)
            await until_stopping(idle, page)
            headers, message = envelope("tools/call", era, name="app_run",
                                        arguments={"app": "sandbox/echo", "input": {}})  # fmt: skip
            refused = await idle.post(server.url, headers=headers, content=message)
        slow.set()
        with anyio.fail_after(DRAIN + 5):
            code = await server.process.wait()

    assert (200, 503, STOPPED) == (before.status_code, refused.status_code, code)
    told = refused.json()["error"]["data"]
    assert ("stopping", "not_started", "1") == (told["code"], told["outcome"], refused.headers["retry-after"])
    assert () == upstream.sandbox.ledger.starts


async def until_stopping(http: httpx2.AsyncClient, page: str) -> None:
    with anyio.fail_after(5):
        while (await http.get(page)).status_code != 503:
            await anyio.sleep(0.02)


async def test_a_hanging_call_does_not_delay_the_exit(upstream: Upstream) -> None:
    """A request whose body never ends is not waited for longer than the operator said."""
    async with running(upstream.url, INFERENCE_DRAIN_SECONDS="2") as server, anyio.create_task_group() as group:
        begun = anyio.Event()

        async def held() -> None:
            async def body() -> AsyncIterator[bytes]:
                yield b"{"
                begun.set()
                await anyio.sleep_forever()

            try:
                await server.http.post(server.url, content=body())
            except httpx2.HTTPError:
                return

        group.start_soon(held)
        await begun.wait()
        await server.http.get(server.url.replace("/mcp", "/readyz"))  # by its answer, what came before is known too
        _, took = await server.ended()
        group.cancel_scope.cancel()

    assert took < 4


@pytest.mark.parametrize("era", ERAS)
async def test_a_silent_connection_takes_no_other_callers_answer(upstream: Upstream, era: str) -> None:
    """Not even in the shortest time that an operator can give it to end."""
    answers: list[Any] = []
    async with running(upstream.url, INFERENCE_DRAIN_SECONDS="2") as server, anyio.create_task_group() as group:

        async def run() -> None:
            answers.append(result_of(await server.ask(era, "app_run", app="sandbox/slow", input=LONG)))

        address = httpx2.URL(server.url)
        async with await anyio.connect_tcp(address.host, address.port or 80):
            group.start_soon(run)
            await until(lambda: upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))
            code, _ = await server.ended()

    assert code == STOPPED
    assert [one.task_id for one in upstream.sandbox.ledger.starts] == [answers[0]["task_id"]]


async def test_a_drain_waits_for_the_id_of_a_run_that_is_starting(upstream: Upstream) -> None:
    """The moment in which a run could be lost: sent, begun, and not yet answered."""
    upstream.sandbox.faults.add(Delay(seconds=1.0), method="POST", path="/apps/run")
    answers: list[Any] = []
    async with running(upstream.url) as server, anyio.create_task_group() as group:

        async def run() -> None:
            answers.append(result_of(await server.ask(LEGACY, "app_run", app="sandbox/slow", input=LONG)))

        group.start_soon(run)
        await until(lambda: upstream.sandbox.ledger.requests("POST", "/apps/run"))
        code, _ = await server.ended()

    assert code == STOPPED
    assert [one.task_id for one in upstream.sandbox.ledger.starts] == [answers[0]["task_id"]]
    assert () == upstream.sandbox.ledger.cancels


async def test_an_accepted_call_may_still_start_its_run(upstream: Upstream) -> None:
    """When replicas are replaced in turn, nobody is refused for having called a moment too early."""
    gate = upstream.sandbox.faults.hold("GET", "/apps/**")
    answers: list[Any] = []
    async with running(upstream.url) as server, anyio.create_task_group() as group:

        async def run() -> None:
            answers.append(result_of(await server.ask(LEGACY, "app_run", app="sandbox/slow", input=LONG)))

        group.start_soon(run)
        await gate.reached.wait()
        await stop(server.process)
        await until_stopping(server.http, server.url.replace("/mcp", "/readyz"))
        gate.release()
        with anyio.fail_after(DRAIN + 5):
            code = await server.process.wait()

    assert code == STOPPED
    assert [answers[0]["task_id"]] == [one.task_id for one in upstream.sandbox.ledger.starts]


async def test_a_disconnect_from_a_draining_server_keeps_the_run(upstream: Upstream) -> None:
    """The connection is cut because the server goes, not because nobody wants the result."""
    gate = upstream.sandbox.faults.hold("POST", "/apps/run")
    headers = {"authorization": f"Bearer {KEY}"}
    async with facing({"INFERENCE_BASE_URL": upstream.url}, upstream.sandbox, headers) as face:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: face.call("app_run", app="sandbox/slow", input=LONG))
            await until(lambda: upstream.sandbox.ledger.requests("POST", "/apps/run"))
            face.drain.start()
            group.cancel_scope.cancel()
        gate.release()
        await until(lambda: upstream.sandbox.ledger.starts)
        await until(lambda: not face.open())

    assert () == upstream.sandbox.ledger.cancels
