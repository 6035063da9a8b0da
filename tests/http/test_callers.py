"""Many at one server, and none in another's way or sight (T-3, T-4, T-22, T-24, T-27, A-7, A-8, X-39)."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from inferencesh_mcp.http import tokens
from inferencesh_sandbox import catalogue, serving
from inferencesh_sandbox.ids import fingerprint
from tests.conftest import until
from tests.http.asking import ERAS, LEGACY, MODERN, Face, envelope, facing, message_of, result_of
from tests.http.conftest import OPERATOR, THEIRS
from tests.support.faults import Status
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio

MAX_RUNS, MAX_STREAMS = 3, 6
ADA, BOB = ({"authorization": f"Bearer inf_{name}_CANARY_{name}"} for name in ("ada", "bob"))
SLOW = {"app": "sandbox/slow", "input": {"seconds": 30, "steps": 2}}


@pytest.fixture(scope="module")
async def narrow() -> AsyncIterator[Face]:
    """A server that has little room for each."""
    sandbox = Sandbox()
    environ = {"INFERENCE_MAX_CONCURRENT_RUNS": str(MAX_RUNS), "INFERENCE_MAX_STREAMS": str(MAX_STREAMS)}
    async with (
        serving(sandbox) as url,
        facing(environ | {"INFERENCE_BASE_URL": url}, sandbox, {"authorization": f"Bearer {THEIRS}"}) as face,
    ):
        yield face


async def test_two_keys_that_take_turns_never_see_each_other(faces: dict[str, Face]) -> None:
    """T-3: what is kept is kept by whose it is; each request goes on with its own key."""
    face = faces["caller"]
    seen: dict[str, list[Any]] = {"ada": [], "bob": []}

    async def use(name: str, headers: dict[str, str]) -> None:
        for number in range(15):
            run = await face.call("app_run", app="sandbox/echo", input={"secret": f"{name} {number}"}, headers=headers)
            listed = await face.call("task_list", app="sandbox/echo", headers=headers)
            seen[name] += [run, listed]

    async with anyio.create_task_group() as group:
        group.start_soon(use, "ada", ADA)
        group.start_soon(use, "bob", BOB)

    for name, other in (("ada", "bob"), ("bob", "ada")):
        assert 30 == len(seen[name])
        assert f"{other} " not in json.dumps(seen[name])  # an id of the platform may hold the letters
    ids = {name: {one["task_id"] for one in seen[name] if "task_id" in one} for name in seen}
    assert (15, 15, set()) == (len(ids["ada"]), len(ids["bob"]), ids["ada"] & ids["bob"])


async def test_a_private_app_is_read_with_each_key() -> None:
    """I-8: it is kept for whom it was shown to; the next, whom the platform does not show it, is told what the platform says."""
    sandbox = Sandbox()
    named = catalogue.find_app("sandbox/echo")
    shown = catalogue.app_dto(named, version_id=named.version_ids[0]) | {"visibility": "private"}
    sandbox.faults.add(Status(code=200, body=json.dumps(shown)), path="/apps/sandbox/echo")
    async with serving(sandbox) as url, facing({"INFERENCE_BASE_URL": url}, sandbox, ADA) as face:
        mine = await face.call("app_run", app="sandbox/echo", input={})
        sandbox.faults.add(Status(code=404), path="/apps/sandbox/echo")
        theirs = await face.call("app_run", app="sandbox/echo", input={}, headers=BOB)

    assert ("completed", "not_found") == (mine["status"], theirs.get("error", {}).get("code"))


@pytest.mark.parametrize("era", ERAS)
async def test_an_id_gives_no_access_without_its_key(faces: dict[str, Face], era: str) -> None:
    """I-10: who knows another's task is told what anybody is told about a task that is not there."""
    face = faces["caller"]
    task = (await face.call("app_run", app="sandbox/echo", input={"secret": "ada's"}, headers=ADA))["task_id"]

    for tool in ("task_get", "task_logs", "task_cancel"):
        theirs = await face.call(tool, era, task_id=task, headers=BOB)
        nobodys = await face.call(tool, era, task_id=task[::-1], headers=BOB)

        assert "not_found" == theirs["error"]["code"] == nobodys["error"]["code"]
        assert "ada's" not in json.dumps(theirs)


async def test_there_is_no_session_to_hijack(face: Face) -> None:
    """T-4: none is given out, and one that is made up changes nothing about who is asking."""
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "plain", "version": "1"}}
    greeted = await face.ask("initialize", LEGACY, **hello)
    refused = await face.ask("tools/list", LEGACY, headers={}, more={"mcp-session-id": "0" * 32})

    assert (200, False, 401) == (greeted.status_code, "mcp-session-id" in greeted.headers, refused.status_code)


async def test_answers_reach_their_caller_if_all_use_the_same_request_id(faces: dict[str, Face]) -> None:
    """A-7: two hundred hosts of either era that all count from one."""
    face = faces["caller"]
    answers: dict[int, Any] = {}
    room = anyio.Semaphore(25)

    async def ask(number: int) -> None:
        theirs = {"authorization": f"Bearer inf_tenant{number}"}
        async with room:
            answers[number] = await face.call(
                "app_run", ERAS[number % 2], app="sandbox/echo", input={"canary": f"canary {number}."}, headers=theirs
            )

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(ask, number)

    assert [f"canary {number}." for number in range(200)] == [
        answers[number]["output"]["canary"] for number in range(200)
    ]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "message",
    [
        '{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"app_list","arguments":{}}}',
        '{"jsonrpc":"2.0","ID":1,"method":"tools/call","Params":{"name":"app_list","arguments":{}}}',
        '{"JSONRPC":"2.0","id":1,"METHOD":"tools/call","params":{"Name":"app_list"}}',
        '[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"app_list","arguments":{}}}]',
        '{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/Call","params":{"name":"app_list"}}',
        '{"jsonrpc":"2.0","id":1,"method":"TOOLS/CALL","params":{"name":"app_list","arguments":{}}}',
    ],
)
async def test_a_message_that_only_looks_like_a_call_starts_nothing(
    faces: dict[str, Face], era: str, message: str
) -> None:
    """A-8: names are names, letter by letter, and what is not understood is not acted on."""
    face = faces["caller"]
    headers, _ = envelope("tools/call", era, name="app_list")
    before = len(face.asked())

    response = await face.http.post(f"{face.url}/mcp", headers=headers | face.headers, content=message)

    assert [] == face.asked()[before:]
    assert response.status_code in {202, 400, 404} or "error" in message_of(response)


@pytest.mark.fault("X-39")
async def test_a_caller_at_the_limit_is_refused_and_delays_nobody(narrow: Face) -> None:
    """A has all the runs it may have, and hundreds of requests more; B notices nothing."""
    refused: list[Any] = []

    async def greedy(tool: str, **told: Any) -> None:
        response = await narrow.ask("tools/call", name=tool, arguments=told, headers=ADA)
        refused.append(response)

    async def timed(number: int) -> float:
        began = time.monotonic()
        answer = await narrow.call("app_run", app="sandbox/echo", input={"n": number}, headers=BOB)
        assert "completed" == answer["status"]
        return time.monotonic() - began

    idle = [await timed(number) for number in range(8)]
    async with anyio.create_task_group() as group:
        for _ in range(MAX_RUNS):
            group.start_soon(lambda: greedy("app_run", **SLOW))
        with anyio.fail_after(10):
            while len([one for one in narrow.sandbox.ledger.starts if one.app == "sandbox/slow"]) < MAX_RUNS:
                await anyio.sleep(0.02)
        over = await narrow.call("app_run", headers=ADA, **SLOW)
        for _ in range(200):
            group.start_soon(lambda: greedy("app_run", **SLOW))
        busy = [await timed(number) for number in range(12)]
        with anyio.fail_after(10):
            while len(refused) < 200:
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()

    error = over["error"]
    assert ("rate_limited", "not_started", True) == (error["code"], error["outcome"], error["retry_after_seconds"] > 0)
    assert MAX_RUNS == len([one for one in narrow.sandbox.ledger.starts if one.app == "sandbox/slow"])
    turned_away = [one for one in refused if one.status_code == 429]
    assert turned_away
    told = turned_away[0].json()["error"]["data"]
    assert ("rate_limited", "not_started", "1") == (
        told["code"],
        told["outcome"],
        turned_away[0].headers["retry-after"],
    )
    others = [result_of(one)["error"]["code"] for one in refused if one.status_code == 200]
    assert {"rate_limited"} >= set(others)
    assert statistics.median(busy) < max(0.25, 10 * statistics.median(idle))


@pytest.mark.fault("X-39", "X-40")
async def test_calls_that_hang_upstream_delay_no_other_caller(faces: dict[str, Face]) -> None:
    """Two callers with all their requests open and unanswered, and a third one who notices nothing."""
    face = faces["caller"]
    task = (await face.call("app_run", app="sandbox/echo", input={}, headers=BOB))["task_id"]
    gate = face.sandbox.faults.hold("GET", "/tasks/hang*", times=1000)
    codes: list[int] = []

    async def hang(headers: dict[str, str]) -> None:
        response = await face.ask(
            "tools/call", name="task_get", arguments={"task_id": "hang" + "0" * 22}, headers=headers
        )
        codes.append(response.status_code)

    async with anyio.create_task_group() as group:
        for number in range(140):
            group.start_soon(hang, ADA if number % 2 else {"authorization": "Bearer inf_carol"})
        with anyio.fail_after(15):
            while len(face.sandbox.ledger.requests("GET", "/tasks/hang*")) < 128:
                await anyio.sleep(0.02)
        found = await face.call("task_get", task_id=task, headers=BOB)
        gate.release()

    assert "completed" == found["status"]  # while those calls still hang
    assert (12, 128) == (codes.count(429), codes.count(200))


async def test_a_full_server_starts_no_more_runs() -> None:
    """4.6: so many in one process, however many callers share them."""
    sandbox = Sandbox()
    async with (
        serving(sandbox) as url,
        facing({"INFERENCE_BASE_URL": url, "INFERENCE_MAX_RUNS_IN_ALL": "2"}, sandbox, ADA) as face,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: face.call("app_run", headers=ADA, **SLOW))
        group.start_soon(lambda: face.call("app_run", headers=BOB, **SLOW))
        with anyio.fail_after(10):
            while len(sandbox.ledger.starts) < 2:
                await anyio.sleep(0.02)
        error = (
            await face.call("app_run", app="sandbox/echo", input={}, headers={"authorization": "Bearer inf_carol"})
        )["error"]
        group.cancel_scope.cancel()

    assert ("unavailable", "not_started", True, 5) == (error["code"], error["outcome"], error["retry_safe"], error["retry_after_seconds"])  # fmt: skip


async def test_slots_are_released(narrow: Face) -> None:
    """I-22: whoever was at the cap can go on when what they had is over, or was given up."""

    async def runs() -> None:
        while "error" in await narrow.call("app_run", headers=ADA, **SLOW):
            await anyio.sleep(0.05)  # what was given up before still has its place

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(MAX_RUNS):
                group.start_soon(runs)
            while "error" not in await narrow.call("app_run", app="sandbox/echo", input={}, headers=ADA):
                await anyio.sleep(0.05)
            group.cancel_scope.cancel()
        while "error" in await narrow.call("app_run", app="sandbox/echo", input={}, headers=ADA):
            await anyio.sleep(0.05)
        for _ in range(3 * MAX_STREAMS):
            told = await narrow.call("app_run", app="sandbox/echo", input={}, headers=ADA)
            assert "completed" == told.get("status"), told


@pytest.mark.parametrize(
    "header",
    ["x-forwarded-host", "x-forwarded-for", "x-forwarded-proto", "forwarded", "x-original-url", "x-rewrite-url", "x-real-ip",
     "x-inference-base-url", "x-inference-proxy-url", "x-inf-target-url", "inference-base-url", "x-base-url", "x-api-key",
     "x-http-method-override", "proxy-authorization", "mcp-param-base-url", "x-forwarded-authorization", "x-user"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["https://evil.example", "127.0.0.1:9", f"Bearer {OPERATOR}"])
async def test_no_header_moves_the_base_url_or_changes_who_asks(face: Face, mode: str, header: str, value: str) -> None:
    """T-24, T-27: what is asked of inference.sh, where and for whom, is the settings' and the credential's business alone."""
    before = len(face.asked())

    response = await face.ask("tools/call", name="task_list", arguments={}, more={header: value})
    refused = await face.ask("tools/call", name="task_list", arguments={}, headers={header: value})

    assert (200, 401) == (response.status_code, refused.status_code)
    assert [fingerprint(THEIRS if mode == "caller" else OPERATOR)] == face.asked()[before:]


async def test_callers_with_one_upstream_key_are_separated_by_token_name(caplog: pytest.LogCaptureFixture) -> None:
    """I-9: one at the cap leaves another's share alone, also where both are the operator upstream."""
    sandbox, ada, bob = Sandbox(), tokens.mint(), tokens.mint()
    environ = {"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_API_KEY": OPERATOR, "INFERENCE_MAX_CONCURRENT_RUNS": "1",
               "INFERENCE_HTTP_TOKENS": f"{tokens.line('ada', ada)},{tokens.line('bob', bob)}"}  # fmt: skip
    async with serving(sandbox) as url, facing(environ | {"INFERENCE_BASE_URL": url}, sandbox, {}) as face:  # noqa: SIM117
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: face.call("app_run", headers={"authorization": f"Bearer {ada}"}, **SLOW))
            await until(lambda: sandbox.ledger.starts)
            run = {"app": "sandbox/echo", "input": {}}
            hers = await face.call("app_run", headers={"authorization": f"Bearer {ada}"}, **run)
            his = await face.call("app_run", headers={"authorization": f"Bearer {bob}"}, **run)
            group.cancel_scope.cancel()

    assert ("rate_limited", "completed") == (hers["error"]["code"], his["status"])
    assert not any(secret in caplog.text for secret in (ada, bob, OPERATOR))


@pytest.mark.parametrize(("trusted", "seen"), [("", "127.0.0.1"), ("127.0.0.1", "203.0.113.9")])
async def test_only_a_trusted_proxy_may_forward_an_address(
    caplog: pytest.LogCaptureFixture, trusted: str, seen: str
) -> None:
    caplog.set_level("INFO", "inferencesh_mcp.http")
    sandbox = Sandbox()
    async with (
        serving(sandbox) as url,
        facing({"INFERENCE_BASE_URL": url, "INFERENCE_TRUSTED_PROXIES": trusted}, sandbox, {}) as face,
    ):
        await face.ask("tools/list", MODERN, more={"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"})

    assert f"refused POST from {seen}: key_missing" in caplog.text
