"""Runs, their tasks, and the stream that tells them."""

from __future__ import annotations

import json

import anyio
import pytest

pytestmark = pytest.mark.anyio


async def test_the_answer_to_a_run_comes_before_any_work(me):
    told = await me.begin("sandbox/echo", {"a": 1})

    assert told["status"] == 1
    assert told["output"] is None
    assert (await me.get(f"/tasks/{told['id']}")).status_code == 200


@pytest.mark.parametrize("path", ["/apps/run", "/run"])
async def test_both_paths_run(me, path):
    assert (await me.post(path, {"app": "sandbox/echo", "input": {}})).status_code == 200


async def test_a_finished_task_is_one_line(me):
    told = await me.run("sandbox/echo", {"a": 1})

    assert await me.lines(told["id"]) == [told]


async def test_a_stream_begins_and_ends_with_the_whole_task(me):
    task = await me.begin("sandbox/slow", {"seconds": 1, "steps": 1})
    lines = await me.lines(task["id"])

    assert all(line["id"] == task["id"] and "input" in line for line in (lines[0], lines[-1]))
    assert not any(line.get("data", {}).get("status") == 10 for line in lines)
    assert all(set(line["data"]) == {"id", *line["fields"]} for line in lines[1:-1] if "fields" in line)


async def test_silence_is_filled_with_heartbeats_and_the_whole_task_again(me, clock):
    task = await me.begin("sandbox/slow", {"seconds": 3600, "steps": 1})
    told = []
    with anyio.fail_after(10):
        async with me.http.stream("GET", f"/tasks/{task['id']}/stream") as answer:
            lines = answer.aiter_lines()
            while _status(json.loads(await anext(lines))) != 7:
                pass
            for _ in range(2):
                await clock.until_asleep(2)
                clock.advance(10)
                told.append(json.loads(await anext(lines)))
            told.append(json.loads(await anext(lines)))

    assert told[:2] == [{"type": "heartbeat"}] * 2
    assert told[2]["status"] == 7


async def test_the_same_stream_comes_as_server_sent_events(me):
    told = await me.run("sandbox/echo", {"a": 1})

    answer = await me.get(f"/tasks/{told['id']}/stream", Accept="text/event-stream")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert json.loads(answer.text.removeprefix("data: ")) == told


async def test_cancelling_ends_a_live_task_through_cancelling(me, sandbox):
    task = await me.begin("sandbox/slow", {"seconds": 3600})

    answer = await me.post(f"/tasks/{task['id']}/cancel")
    last = (await me.lines(task["id"]))[-1]

    assert answer.json() == {"id": task["id"], "status": 8, "cancelled": True}
    assert [event["status"] for event in last["events"]][-2:] == [8, 12]
    assert [one.task_id for one in sandbox.ledger.cancels] == [task["id"]]


async def test_an_ended_task_cannot_be_cancelled(me):
    told = await me.run("sandbox/echo", {})

    answer = await me.post(f"/tasks/{told['id']}/cancel")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_transition")


async def test_a_delayed_run_waits_for_its_time(me, clock):
    task = await me.begin("sandbox/echo", {}, run_at="2026-01-02T03:05:05Z")
    await clock.until_asleep()
    assert (await me.get(f"/tasks/{task['id']}/status")).json()["status"] == 2

    clock.advance(60)

    assert (await me.lines(task["id"]))[-1]["status"] == 10


@pytest.mark.parametrize(
    ("asked", "status", "named"),
    [
        ({"app": "sandbox/draw", "input": {"prompt": "x", "width": 9999}}, 400, "input.width"),
        ({"app": "sandbox/draw", "input": {}}, 400, "input.prompt"),
        ({"app": "sandbox/draw", "input": "x"}, 400, "input"),
        ({"app": "sandbox/draw"}, 400, "input"),
        ({"app": "sandbox/echo@nope", "input": {}}, 404, "no version 'nope'"),
        ({"app": "sandbox/memory:nope", "input": {}}, 400, "no function 'nope'"),
        ({"app": "sandbox/echo", "input": {}, "infra": "moon"}, 400, "infra"),
        ({"app": "sandbox/echo", "input": {}, "run_at": "soon"}, 400, "run_at"),
        ({"app": 7, "input": {}}, 400, "app"),
        ({"input": {}}, 404, "app"),
    ],
)
async def test_a_run_that_is_wrong_is_refused_by_name_before_it_begins(me, sandbox, asked, status, named):
    answer = await me.post("/apps/run", asked)

    assert answer.status_code == status
    assert named in answer.json()["detail"]
    assert sandbox.ledger.starts == ()


async def test_a_reference_may_name_version_and_function(me):
    version = (await me.get("/apps/sandbox/memory")).json()["version"]["short_id"]

    told = await me.run(f"app/sandbox/memory@{version}:set_value", {"key": "a", "value": 1})

    assert (told["function"], told["output"]["success"]) == ("set_value", True)


async def test_tasks_are_listed_newest_first_and_filtered(me):
    good = await me.run("sandbox/echo", {})
    bad = await me.run("sandbox/fail", {})

    async def listed(**asked):
        return [task["id"] for task in (await me.post("/tasks/list", asked)).json()["items"]]

    assert await listed() == [bad["id"], good["id"]]
    assert await listed(filters=[{"field": "status", "operator": "eq", "value": "failed"}]) == [bad["id"]]
    assert await listed(filters=[{"field": "status", "operator": "in", "value": [10]}]) == [good["id"]]
    assert await listed(filters=[{"field": "app_id", "operator": "eq", "value": good["app_id"]}]) == [good["id"]]
    assert await listed(filters=[{"field": "created_at", "operator": "gt", "value": "2030-01-01T00:00:00Z"}]) == []
    assert await listed(sort=[{"field": "status", "dir": "asc"}]) == [good["id"], bad["id"]]
    assert await listed(search={"term": "sandbox/echo"}) == [good["id"]]


@pytest.mark.parametrize(
    "asked",
    [
        {"cursor": "nowhere"},
        {"limit": -1},
        {"sort": [{"field": "nothing"}]},
        {"filters": [{"field": "nothing", "operator": "eq", "value": 1}]},
        {"filters": [{"field": "status", "operator": "gt", "value": {}}]},
        {"filters": [7]},
    ],
)
async def test_a_list_that_cannot_be_made_is_refused(me, asked):
    await me.run("sandbox/echo", {})

    assert (await me.post("/tasks/list", asked)).status_code == 400


async def test_logs_and_timings_are_told(me):
    told = await me.run("sandbox/slow", {"seconds": 2, "steps": 2})

    logs = (await me.get(f"/tasks/{told['id']}/logs")).json()
    timings = (await me.get(f"/tasks/{told['id']}/timings")).json()

    assert logs == {"task_id": told["id"], "status": 10, "events": told["events"], "logs": told["logs"]}
    running = next(group for group in timings["groups"] if group["label"] == "running")
    assert running["duration_ms"] >= 2000
    assert timings["events"][-1]["status"] == "completed"


async def test_deleting_takes_a_finished_task_and_its_files_away(me):
    told = await me.run("sandbox/outputs", {"which": "image"})
    live = await me.begin("sandbox/slow", {"seconds": 3600})

    assert (await me.http.delete(f"/tasks/{live['id']}")).status_code == 409
    assert (await me.http.delete(f"/tasks/{told['id']}?files=true")).status_code == 204
    assert (await me.get(f"/tasks/{told['id']}")).status_code == 404
    assert (await me.http.get(told["output"]["image"])).status_code == 404


async def test_a_task_can_be_shown_to_others_and_featured(me):
    told = await me.run("sandbox/echo", {})

    await me.post(f"/tasks/{told['id']}/featured", {"is_featured": True})
    shown = await me.post(f"/tasks/{told['id']}/visibility", {"visibility": "public"})

    assert shown.json()["visibility"] == "public"
    assert [task["id"] for task in (await me.get("/tasks/featured")).json()["items"]] == [told["id"]]


async def test_one_key_cannot_see_what_belongs_to_another(me, caller):
    told = await me.run("sandbox/count", {}, session="new")
    file = await me.upload(b"GIF89a\x01\x00\x01\x00")

    async with caller("inf_other") as other:
        task = f"/tasks/{told['id']}"
        hidden = [task, f"{task}/status", f"{task}/stream", f"/files/{file['id']}", f"/sessions/{told['session_id']}"]
        assert [(await other.get(path)).status_code for path in hidden] == [404] * len(hidden)
        assert (await other.post("/tasks/list")).json()["items"] == []
        assert (await other.post("/files/list")).json()["items"] == []
        assert (await other.get("/sessions")).json() == []
        assert "no network" in (await other.run("sandbox/picture-info", {"image": file["uri"]}))["error"]


def _status(line):
    return line.get("data", line).get("status")
