"""Sessions: what they keep, how long they live, and how they end."""

from __future__ import annotations

import anyio
import pytest

from tests.support.faults import LoseWorker

pytestmark = pytest.mark.anyio


async def opened(me, **more):
    return (await me.run("sandbox/count", {}, session="new", **more))["session_id"]


async def refused(me, **asked):
    answer = await me.post("/apps/run", {"app": "sandbox/count", "input": {}, **asked})
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_session_counts_on_and_a_run_outside_starts_anew(me):
    session = await opened(me)

    inside = await me.run("sandbox/count", {"step": 5}, session=session)
    outside = await me.run("sandbox/count", {"step": 5})

    assert (inside["output"], inside["session_id"]) == ({"value": 6}, session)
    assert (outside["output"], outside["session_id"]) == ({"value": 5}, None)


async def test_memory_has_four_functions(me):
    told = await me.run("sandbox/memory", {"key": "a", "value": [1]}, session="new", function="set_value")
    session = told["session_id"]

    async def call(function, given):
        return (await me.run("sandbox/memory", given, session=session, function=function))["output"]

    assert told["output"] == {"success": True, "key": "a", "value": [1]}
    assert await call("get_value", {"key": "a"}) == {"found": True, "key": "a", "value": [1]}
    assert await call("get_value", {"key": "b"}) == {"found": False, "key": "b"}
    assert await call("increment", {"key": "n"}) == {"key": "n", "previous": 0, "current": 1}
    assert await call("", {}) == {"state": {"a": [1], "n": 1}, "call_count": 5}
    assert (
        "whole number" in (await me.run("sandbox/memory", {"key": "a"}, session=session, function="increment"))["error"]
    )


async def test_a_notebook_remembers_names_from_cell_to_cell(me):
    first = await me.run("sandbox/notebook", {"code": "a = 2 * 3\nb = a / 4"}, session="new")
    again = await me.run("sandbox/notebook", {"code": "-(a ** 2) + b"}, session=first["session_id"])
    outside = await me.run("sandbox/notebook", {"code": "a"})

    assert first["output"] == {"cell": 1, "names": {"a": 6, "b": 1.5}}
    assert again["output"] == {"cell": 2, "value": -34.5, "names": {"a": 6, "b": 1.5}}
    assert "there is no 'a' yet" in outside["error"]


@pytest.mark.parametrize(
    "code",
    ["a = 1\na.b", "__import__('os')", "1 +", "1 / 0", "9 ** 9 ** 9", "2 ** 0.5 ** -9999", "(-8) ** 0.5", "1e999", "True", "x = y = 1",
     "f'{1}'", "[1]", "a = 1; b", "(" * 300 + "1" + ")" * 300, "-" * 3_000 + "1", "1e308 * 10", "0 ** -1"],
)  # fmt: skip
async def test_a_cell_that_does_not_work_out_changes_no_name(me, code):
    """Only arithmetic is run, in bounded time, and a failed cell leaves the notebook as it was."""
    session = (await me.run("sandbox/notebook", {"code": "kept = 7"}, session="new"))["session_id"]

    failed = await me.run("sandbox/notebook", {"code": code}, session=session)
    after = await me.run("sandbox/notebook", {"code": "kept"}, session=session)

    assert failed["error"], failed["output"]
    assert {"cell": 2, "value": 7, "names": {"kept": 7}} == after["output"]


async def test_a_session_idles_out_by_the_clock(me, clock):
    session = await opened(me, session_timeout=30)

    clock.advance(29)
    assert (await me.get(f"/sessions/{session}")).json()["status"] == "active"
    clock.advance(1)

    assert (await me.get(f"/sessions/{session}")).json()["status"] == "expired"
    assert (await me.get("/sessions")).json() == []
    assert await refused(me, session=session) == (410, "SESSION_EXPIRED")


async def test_keepalive_and_calls_begin_the_idle_time_anew(me, clock):
    session = await opened(me)

    clock.advance(59)
    assert (await me.post(f"/sessions/{session}/keepalive")).status_code == 200
    clock.advance(59)
    await me.run("sandbox/count", {}, session=session)
    clock.advance(59)

    known = (await me.get(f"/sessions/{session}")).json()
    assert (known["status"], known["call_count"], known["idle_timeout"]) == ("active", 2, 60)


async def test_a_session_does_not_idle_while_it_works(me, clock):
    task = await me.begin("sandbox/slow", {"seconds": 600, "steps": 1}, session="new", session_timeout=1)
    with anyio.fail_after(10):
        await clock.until_asleep()

    clock.advance(300)

    assert (await me.get(f"/sessions/{task['session_id']}")).json()["status"] == "active"


async def test_the_idle_time_begins_when_the_work_is_done(me, clock):
    task = await me.begin("sandbox/slow", {"seconds": 4, "steps": 1}, session="new", session_timeout=2)
    await me.lines(task["id"])

    clock.advance(1)

    assert (await me.get(f"/sessions/{task['session_id']}")).json()["status"] == "active"


async def test_calls_of_one_session_run_one_after_another(me, clock):
    first = await me.begin("sandbox/slow", {"seconds": 4, "steps": 1}, session="new")
    second = await me.begin("sandbox/slow", {"seconds": 1, "steps": 1}, session=first["session_id"])

    last = (await me.lines(second["id"]))[-1]

    ended = (await me.get(f"/tasks/{first['id']}")).json()
    assert ended["status"] == last["status"] == 10
    assert ended["events"][-1]["event_time"] <= last["events"][2]["event_time"]


async def test_an_ended_session_stays_ended(me):
    session = await opened(me)

    assert (await me.http.delete(f"/sessions/{session}")).status_code == 204
    assert (await me.get(f"/sessions/{session}")).json()["status"] == "ended"
    assert await refused(me, session=session) == (410, "SESSION_ENDED")
    assert (await me.post(f"/sessions/{session}/keepalive")).status_code == 410


async def test_a_session_belongs_to_its_app_and_version(me):
    session = await opened(me)
    older = (await me.post("/apps/x/versions/list")).status_code
    versions = (await me.get("/apps/sandbox/count")).json()["id"]
    known = (await me.post(f"/apps/{versions}/versions/list")).json()["items"]

    assert older == 404
    assert await refused(me, session=session, app="sandbox/memory") == (409, "APP_MISMATCH")
    assert await refused(me, session=session, version_id=known[1]["id"]) == (409, "VERSION_MISMATCH")
    assert await refused(me, session="nowhere") == (404, "SESSION_NOT_FOUND")


@pytest.mark.parametrize("timeout", [0, 3601, -1, "60", 1.5, True])
async def test_a_timeout_outside_its_range_is_refused(me, timeout):
    assert await refused(me, session="new", session_timeout=timeout) == (400, "invalid_request")


async def test_a_timeout_needs_a_new_session(me):
    session = await opened(me)

    assert await refused(me, session=session, session_timeout=60) == (400, "invalid_request")
    assert await refused(me, session_timeout=60) == (400, "invalid_request")


async def test_a_refused_run_opens_no_session(me):
    await me.post("/apps/run", {"app": "sandbox/draw", "input": {}, "session": "new"})

    assert (await me.get("/sessions")).json() == []


async def test_a_lost_worker_fails_the_run_and_every_later_call(me, sandbox):
    session = await opened(me)
    sandbox.faults.add(LoseWorker(), method="POST", path="/apps/run")

    told = await me.run("sandbox/count", {}, session=session)

    assert (told["status"], "worker lost" in told["error"]) == (11, True)
    assert await refused(me, session=session) == (500, "WORKER_LOST")
