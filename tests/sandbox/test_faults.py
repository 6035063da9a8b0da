"""Every fault, seen from the other end of the wire; and the ledger that knows better."""

from __future__ import annotations

import json

import anyio
import httpx2
import pytest

from tests.support.faults import (  # fmt: skip
    Delay,
    Drip,
    Drop,
    EndAtOnce,
    FinAfter,
    Garble,
    HideTasks,
    Intake,
    RstAfter,
    Stall,
    Status,
    StayQueued,
    Swallow,
    Twice,
)

pytestmark = pytest.mark.anyio

RUN = {"app": "sandbox/echo", "input": {"a": 1}}
STREAM = "/tasks/*/stream"


async def read(me, task_id):
    """Read a stream as far as it goes: the bytes, and how it ended."""
    body = b""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(me.clock.hurry)
            try:
                async with me.http.stream("GET", f"/tasks/{task_id}/stream") as answer:
                    async for part in answer.aiter_raw():
                        body += part
                ending = None
            except httpx2.TransportError as exc:
                ending = exc
            group.cancel_scope.cancel()
    return body, ending


async def slow(me):
    return (await me.begin("sandbox/slow", {"seconds": 3, "steps": 3}))["id"]


async def test_a_status_answers_instead_of_doing(me, sandbox):
    sandbox.faults.add(Status(code=429, error="rate_limited", headers={"Retry-After": "2"}), path="/apps/run")

    refused = await me.post("/apps/run", RUN)
    taken = await me.post("/apps/run", RUN)

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert refused.json()["error"]["code"] == "rate_limited"
    assert taken.status_code == 200
    assert len(sandbox.ledger.starts) == 1


async def test_a_status_may_have_any_body(me, sandbox):
    sandbox.faults.add(Status(code=502, body="<html>"), path="/tasks/*", method="GET")

    answer = await me.get("/tasks/x")

    assert (answer.status_code, answer.text) == (502, "<html>")


async def test_a_dropped_request_did_nothing(me, sandbox):
    sandbox.faults.add(Drop(), path="/apps/run")

    with pytest.raises(httpx2.TransportError):
        await me.post("/apps/run", RUN)

    assert len(sandbox.ledger.requests("POST", "/apps/run")) == 1
    assert sandbox.ledger.starts == ()


async def test_a_swallowed_request_did_everything(me, sandbox):
    sandbox.faults.add(Swallow(), path="/apps/run")

    with pytest.raises(httpx2.TransportError):
        await me.post("/apps/run", RUN)

    (start,) = sandbox.ledger.starts
    assert (await me.lines(start.task_id))[-1]["output"] == {"a": 1}


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_stream_is_reset_after_so_many_lines(me, sandbox, count):
    sandbox.faults.add(RstAfter(lines=count), path=STREAM)

    body, ending = await read(me, await slow(me))

    assert type(ending) is httpx2.ReadError  # a connection that was only closed would be a RemoteProtocolError
    assert body.count(b"\n") <= count


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_stream_ends_cleanly_after_so_many_lines(me, sandbox, count):
    sandbox.faults.add(FinAfter(lines=count), path=STREAM)

    body, ending = await read(me, await slow(me))

    assert (body.count(b"\n"), ending) == (count, None)


async def test_a_stream_ends_within_a_line(me, sandbox):
    sandbox.faults.add(FinAfter(bytes=100), path=STREAM)

    body, ending = await read(me, await slow(me))

    assert (len(body), ending) == (100, None)


async def test_a_stream_is_cut_without_its_ending(me, sandbox):
    sandbox.faults.add(FinAfter(lines=1, cut=True), path=STREAM)

    body, ending = await read(me, await slow(me))

    assert (body.count(b"\n"), type(ending)) == (1, httpx2.RemoteProtocolError)


async def test_a_download_is_cut_short(me, sandbox):
    file = await me.upload(b"x" * 1_000_000)
    sandbox.faults.add(FinAfter(bytes=1000), path="/app/files/**")

    with pytest.raises(httpx2.RemoteProtocolError):
        await me.http.get(file["uri"])


async def test_a_stalled_request_is_never_answered_nor_done(me, sandbox):
    sandbox.faults.add(Stall(), path="/apps/run")

    with pytest.raises(httpx2.ReadTimeout):
        await me.http.post("/apps/run", json=RUN, timeout=0.05)

    assert sandbox.ledger.starts == ()


async def test_a_stream_stalls_after_so_many_lines(me, sandbox):
    task_id = await slow(me)
    sandbox.faults.add(Stall(lines=2), path=STREAM)

    with pytest.raises(httpx2.ReadTimeout):
        await me.http.get(f"/tasks/{task_id}/stream", timeout=0.2)


@pytest.mark.parametrize(("then", "error"), [("reset", httpx2.TransportError), ("stall", httpx2.TimeoutException)])
async def test_an_upload_is_taken_only_in_part(me, sandbox, then, error):
    file = (await me.post("/files", {"files": [{"filename": "a.bin"}]})).json()[0]
    sandbox.faults.add(Intake(bytes=200_000, then=then), method="PUT")

    with pytest.raises(error):
        await me.http.put(file["upload_url"], content=b"x" * 20_000_000, timeout=0.5)

    assert (await me.get(f"/files/{file['id']}")).json()["size"] < 20_000_000
    assert (await me.http.get(file["uri"])).status_code == 404


async def test_a_dripping_answer_comes_by_the_clock(me, sandbox, clock):
    told = await me.run("sandbox/echo", {})
    sandbox.faults.add(Drip(size=100, every=0.5), path="/tasks/*")
    before = clock.now()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(clock.hurry)
            answer = await me.get(f"/tasks/{told['id']}")
            group.cancel_scope.cancel()

    assert answer.json() == told
    assert (clock.now() - before).total_seconds() >= 0.5 * (len(answer.content) // 100)


async def test_a_delayed_request_waits_by_the_clock(me, sandbox, clock):
    sandbox.faults.add(Delay(seconds=30), path="/me")
    answers = []

    async with anyio.create_task_group() as group:

        async def ask():
            answers.append(await me.get("/me"))

        group.start_soon(ask)
        await clock.until_asleep()
        assert answers == []
        clock.advance(30)

    assert answers[0].status_code == 200


@pytest.mark.parametrize(
    ("fault", "sign"),
    [
        (Garble(form="bad", at=1), b"nonsense\n"),
        (Garble(form="crlf"), b"}\r\n"),
        (Garble(form="bom"), b"\xef\xbb\xbf{"),
        (Garble(form="blank"), b"\n  \n{"),
        (Garble(form="giant", at=1, size=1_000_000), b"x" * 1_000_000 + b'"}\n'),
        (Garble(form="text", at=0, text="null"), b"null\n{"),
        (Garble(form="text", at=-1, text="[7]"), b"}\n[7]\n"),
    ],
)
async def test_a_stream_is_garbled_and_goes_on(me, sandbox, fault, sign):
    sandbox.faults.add(fault, path=STREAM)

    body, ending = await read(me, await slow(me))

    assert ending is None
    assert sign in body
    assert b'"status":10' in body


async def test_a_line_is_cut_in_half(me, sandbox):
    sandbox.faults.add(Garble(form="truncated", at=0), path=STREAM)

    lines = (await read(me, await slow(me)))[0].split(b"\n")

    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[0])
    assert json.loads(lines[-2])["status"] == 10


async def test_a_line_is_repeated(me, sandbox):
    sandbox.faults.add(Garble(form="duplicate", at=1), path=STREAM)

    lines = (await read(me, await slow(me)))[0].split(b"\n")

    assert lines[1] == lines[2]


async def test_an_old_line_comes_after_the_end(me, sandbox):
    sandbox.faults.add(Garble(form="stale", at=-1), path=STREAM)

    lines = [json.loads(line) for line in (await read(me, await slow(me)))[0].splitlines()]

    assert (lines[-2]["status"], lines[-1]) == (10, lines[0])


async def test_a_line_never_ends(me, sandbox):
    sandbox.faults.add(Garble(form="endless", at=0), path=STREAM)
    task_id, seen = await slow(me), 0

    with anyio.fail_after(10):
        async with me.http.stream("GET", f"/tasks/{task_id}/stream") as answer:
            async for part in answer.aiter_raw():
                seen += len(part)
                if seen > 1_000_000:
                    break

    assert (await me.get("/me")).status_code == 200


async def test_a_gate_holds_a_request_until_it_is_released(me, sandbox):
    gate = sandbox.faults.hold("POST", "/apps/run")
    answers = []

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:

            async def ask():
                answers.append(await me.post("/apps/run", RUN))

            group.start_soon(ask)
            await gate.reached.wait()
            assert sandbox.ledger.starts == ()
            gate.release()

    assert answers[0].status_code == 200
    assert len(sandbox.ledger.starts) == 1


async def test_a_task_stays_queued_until_it_is_cancelled(me, sandbox):
    sandbox.faults.add(StayQueued(), path="/apps/run")
    task = await me.begin("sandbox/echo", {})

    await me.post(f"/tasks/{task['id']}/cancel")

    assert [event["status"] for event in (await me.lines(task["id"]))[-1]["events"]] == [1, 2, 8, 12]


async def test_one_request_makes_two_tasks(me, sandbox):
    sandbox.faults.add(Twice(), path="/apps/run")

    task = await me.begin("sandbox/echo", {})

    both = [start.task_id for start in sandbox.ledger.starts]
    assert len(both) == 2
    assert task["id"] == both[0]
    assert [(await me.lines(one))[-1]["status"] for one in both] == [10, 10]


async def test_a_task_is_over_before_its_answer(me, sandbox):
    sandbox.faults.add(EndAtOnce(), path="/apps/run")

    task = await me.begin("sandbox/echo", {"a": 1})

    assert (task["status"], task["output"]) == (10, {"a": 1})


async def test_the_list_hides_its_tasks(me, sandbox):
    await me.run("sandbox/echo", {})
    sandbox.faults.add(HideTasks(), path="/tasks/list")

    assert (await me.post("/tasks/list")).json()["items"] == []
    assert len((await me.post("/tasks/list")).json()["items"]) == 1


async def test_a_request_may_bring_its_own_fault(me):
    answer = await me.get("/me", **{"X-Sandbox-Fault": json.dumps({"kind": "status", "code": 503})})

    assert answer.status_code == 503


@pytest.mark.parametrize("header", ["{", '{"kind":"nothing"}', '{"kind":"status"}', '{"kind":"drop","x":1}', "7"])
async def test_a_fault_that_is_no_fault_is_told(me, header):
    assert (await me.get("/me", **{"X-Sandbox-Fault": header})).status_code == 400


async def test_nothing_in_an_input_is_a_fault(me):
    given = {"X-Sandbox-Fault": {"kind": "status", "code": 503}, "kind": "drop"}

    assert (await me.run("sandbox/echo", given))["output"] == given


async def test_faults_apply_together_and_as_often_as_said(me, sandbox):
    sandbox.faults.add(Garble(form="crlf"), path=STREAM, times=2)
    sandbox.faults.add(FinAfter(lines=1), path=STREAM, times=-1)
    bodies = [(await read(me, await slow(me)))[0] for _ in range(3)]
    sandbox.faults.clear()

    assert [body.count(b"\n") for body in bodies] == [1, 1, 1]
    assert [body.endswith(b"\r\n") for body in bodies] == [True, True, False]
    assert (await read(me, await slow(me)))[0].count(b"\n") > 1


async def test_the_ledger_knows_requests_by_the_fingerprint_of_their_key(me, sandbox):
    await me.post("/apps/run", RUN)
    await me.post("/apps/run", RUN)
    await me.post("/apps/run", {"app": "sandbox/nothing", "input": {}})

    first, second, third = sandbox.ledger.requests("POST", "/apps/run")

    assert (first.status, third.status) == (200, 404)
    assert first.caller == second.caller
    assert "inf_me" not in repr(sandbox.ledger.requests())
    assert sandbox.ledger.requests(path="/tasks/*") == ()


async def test_the_ledger_follows_every_task(me, sandbox):
    told = await me.run("sandbox/echo", {})

    assert [one.status for one in sandbox.ledger.changes] == [event["status"] for event in told["events"]]
    (start,) = sandbox.ledger.starts
    assert (start.task_id, start.app) == (told["id"], "sandbox/echo")
