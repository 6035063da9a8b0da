"""One view of what is alive: status words, times, durations and charges of tasks."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Connect, Upstream, Way, until
from tests.results import error, payload, run, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import over

pytestmark = pytest.mark.anyio
NEAR = over(Way("memory", "2025"), Way("memory", "2026"))
SLOW = {"seconds": 30, "steps": 60}


async def begun(upstream: Upstream, client: Any, **app_input: Any) -> str:
    """Start a slow run and wait for its first step: its id."""
    task_id = payload(await run(client, "sandbox/slow", SLOW | app_input, wait=False))["task_id"]
    task = next(task for tenant in upstream.sandbox.tenants for task in tenant.tasks if task.id == task_id)
    await until(lambda: task.logs)
    return str(task_id)


@NEAR
@pytest.mark.finding("M8")
async def test_active_tasks_are_listed_with_one_set_of_words(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        running = await begun(upstream, client)
        await run(client, "sandbox/echo", {"n": 1})
        active = payload(await client.call_tool("task_list", {"status": "active"}))["tasks"]
        everything = payload(await client.call_tool("task_list", {}))["tasks"]
        await client.call_tool("task_cancel", {"task_id": running})

    assert [running] == [entry["task_id"] for entry in active]
    assert ["completed", "running"] == [entry["status"] for entry in everything]


@NEAR
@pytest.mark.finding("M18")
async def test_a_list_of_tasks_tells_function_duration_charge_and_sum(connect: Connect) -> None:
    async with connect() as client:
        await run(client, "sandbox/draw", {"prompt": "x", "width": 100, "height": 100})
        await run(client, "sandbox/fail", {"message": "no colours left"})
        await run(client, "sandbox/draw", {"prompt": "y", "width": 100, "height": 200})
        answer = await client.call_tool("task_list", {"since": "1h"})
        none = await client.call_tool("task_list", {"since": "2400-01-01"})

    listed, text = payload(answer), text_of(answer)
    assert ["$0.0004", "$0.00", "$0.0002"] == [entry["charge"] for entry in listed["tasks"]]
    assert "$0.0006 in all" == listed["charged"]
    assert "Charged: $0.0006 in all" in text
    assert "no colours left" in listed["tasks"][1]["error"]
    for entry in listed["tasks"]:
        assert "run" == entry["function"]
        assert re.fullmatch(r"\d+(\.\d)? s ago \(\d\d:\d\d:\d\d UTC\)", entry["created"])
        assert all(entry[name] in text for name in ("task_id", "status", "app", "created", "duration", "charge"))
    assert [] == payload(none)["tasks"]


@NEAR
async def test_a_time_that_is_neither_span_nor_date_is_refused(connect: Connect) -> None:
    async with connect() as client:
        answer = await client.call_tool("task_list", {"since": "yesterday"})

    assert answer.is_error
    assert "'since' is neither a span nor a date" in text_of(answer)


@NEAR
@pytest.mark.parametrize("since", ["999999d", "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-01:00"])
async def test_a_time_beyond_the_calendar_is_refused(connect: Connect, since: str) -> None:
    async with connect() as client:
        listed = await client.call_tool("task_list", {"since": since})
        started = await run(client, "sandbox/echo", {}, run_at=since.replace("999999d", "9999-12-31T23:59:59-01:00"))

    assert ("invalid_input", "not_started") == (error(listed)["code"], error(listed)["outcome"])
    assert "'since' is too far away" in error(listed)["message"]
    assert ("invalid_input", "not_started") == (error(started)["code"], error(started)["outcome"])


@NEAR
async def test_a_task_created_beyond_the_calendar_is_shown_without_that_time(
    connect: Connect, upstream: Upstream
) -> None:
    task = {"id": "t1", "status": 10, "app": {"namespace": "a", "name": "b"}, "output": {"text": "paid"}}
    task["created_at"] = "9999-12-31T23:59:59-01:00"
    upstream.sandbox.faults.add(answering(task), path="/tasks/t1", times=-1)
    upstream.sandbox.faults.add(answering({"items": [task]}), path="/tasks/list", times=-1)
    async with connect() as client:
        read = await client.call_tool("task_get", {"task_id": "t1"})
        listed = await client.call_tool("task_list", {})

    assert ("completed", {"text": "paid"}) == (payload(read)["status"], payload(read)["output"])
    assert ["t1"] == [entry["task_id"] for entry in payload(listed)["tasks"]]
    assert "created" not in payload(listed)["tasks"][0]


def answering(body: Any) -> Status:
    return Status(code=200, headers={"content-type": "application/json"}, body=json.dumps(body))


@NEAR
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "mac"])
async def test_logs_are_counted_whole_and_shown_from_their_end(
    connect: Connect, upstream: Upstream, line_end: str
) -> None:
    contents = [line_end.join(f"line {number}" for number in lines) for lines in (range(1_500), range(1_500, 2_000))]
    logs = [{"log_type": 1, "content": f"{content}{line_end}"} for content in contents]
    upstream.sandbox.faults.add(answering({"id": "t1", "status": 10, "logs": logs}), path="/tasks/t1/logs", times=-1)
    async with connect() as client:
        answer = payload(await client.call_tool("task_logs", {"task_id": "t1", "tail": 3}))
        more = payload(await client.call_tool("task_logs", {"task_id": "t1", "tail": 502}))

    assert ("line 1997\nline 1998\nline 1999", 2_000) == (answer["logs"], answer["lines"])
    assert more["logs"].startswith("line 1498\nline 1499\nline 1500\n")


@NEAR
async def test_a_task_without_logs_has_no_lines(connect: Connect, upstream: Upstream) -> None:
    logs = [{"log_type": 1, "content": ""}]
    upstream.sandbox.faults.add(answering({"id": "t1", "status": 10, "logs": logs}), path="/tasks/t1/logs", times=-1)
    async with connect() as client:
        answer = payload(await client.call_tool("task_logs", {"task_id": "t1"}))

    assert ("No logs.", 0) == (answer["logs"], answer["lines"])


@NEAR
@pytest.mark.finding("M9")
async def test_what_a_running_task_made_so_far_is_not_its_output(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        task_id = await begun(upstream, client)
        answer = await client.call_tool("task_get", {"task_id": task_id})
        await client.call_tool("task_cancel", {"task_id": task_id})

    assert "output" not in payload(answer)
    assert payload(answer)["output_so_far"]["steps"] >= 1
    assert "Output so far (not final)" in text_of(answer)


@NEAR
@pytest.mark.finding("M9")
async def test_a_cancelled_task_that_is_read_is_no_error(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        task_id = await begun(upstream, client)
        cancelled = await client.call_tool("task_cancel", {"task_id": task_id})
        read = await client.call_tool("task_get", {"task_id": task_id})

    for answer in (cancelled, read):
        assert not answer.is_error
        assert "error" not in payload(answer)
        assert "cancelled" == payload(answer)["status"]


@NEAR
@pytest.mark.finding("M9")
async def test_elapsed_time_counts_from_the_start_of_the_task(connect: Connect, upstream: Upstream) -> None:
    """In the answer and in the progress of a later call."""
    updates: list[tuple[float, str]] = []

    async def hear(progress: float, _total: float | None, message: str | None) -> None:
        updates.append((progress, message or ""))

    async with connect() as client:
        task_id = await begun(upstream, client)
        task = next(task for tenant in upstream.sandbox.tenants for task in tenant.tasks)
        task.created_at -= timedelta(seconds=300)
        answer = await client.call_tool("task_get", {"task_id": task_id, "wait_seconds": 1}, progress_callback=hear)
        await client.call_tool("task_cancel", {"task_id": task_id})

    assert payload(answer)["elapsed_seconds"] >= 300
    assert "running for 5 min" in text_of(answer)
    assert any("· 30" in message for _, message in updates)
    assert updates[-1][0] >= 300


@NEAR
@pytest.mark.finding("M15")
async def test_a_session_says_in_how_many_seconds_it_expires(connect: Connect) -> None:
    async with connect() as client:
        counted = await run(client, "sandbox/count", {"step": 1}, session="new", session_timeout=60)
        read = await client.call_tool("session_get", {"session_id": payload(counted)["session_id"]})

    for answer in (counted, read):
        assert 50 <= payload(answer)["session_expires_in"] <= 61, "the platform's clock is known to a second"
        assert re.search(r"expires in (5\d|6[01]) s \(\d\d:\d\d:\d\d UTC\)", text_of(answer))
    assert "idle time-out 60 s" in text_of(read)


@NEAR
@pytest.mark.finding("M16")
async def test_files_have_the_names_that_the_platform_knows(connect: Connect) -> None:
    """Metering stands apart from the output, and an address is written once."""
    async with connect() as client:
        answer = await run(client, "sandbox/draw", {"prompt": "x", "width": 40, "height": 30})

    (link,) = [part for part in answer.content if part.type == "resource_link"]
    (file,) = payload(answer)["files"]
    assert "drawing.png" == link.name == file["name"]
    assert "drawing.png (image/png, " in text_of(answer)
    assert 1 == text_of(answer).count(file["url"])
    assert ["image"] == list(payload(answer)["output"])
    assert 40 == payload(answer)["metering"]["outputs"][0]["width"]


@NEAR
async def test_a_platform_without_charges_and_files_costs_no_answer(connect: Connect, upstream: Upstream) -> None:
    for path in ("/tasks/*/cost", "/tasks/*/files"):
        upstream.sandbox.faults.add(Status(code=404), path=path, times=-1)
    async with connect() as client:
        answer = await run(client, "sandbox/draw", {"prompt": "x", "width": 40, "height": 30})
        listed = await client.call_tool("task_list", {})

    assert "completed" == payload(answer)["status"]
    assert "not known yet" == payload(answer)["charge"] == payload(listed)["charged"]
    assert "Charge not known yet." in text_of(answer)
    assert payload(answer)["files"][0]["name"].endswith(".png")


@NEAR
@pytest.mark.finding("M15")
async def test_a_scheduled_run_says_when_it_starts_and_how_to_stop_it(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        answer = await run(client, "sandbox/slow", {"seconds": 1}, run_at="2h")
        listed = await client.call_tool("task_list", {"status": "active"})
        await client.call_tool("task_cancel", {"task_id": payload(answer)["task_id"]})

    assert 7_190 <= payload(answer)["starts_in_seconds"] <= 7_201
    assert re.search(r"queued, starts in (2 h|1 h 59 min) \(\d\d:\d\d:\d\d UTC\)", text_of(answer))
    assert "task_cancel" in payload(answer)["next"]
    assert "starts in" in text_of(listed)
    assert "-0" not in text_of(listed)
    assert 1 == len(upstream.sandbox.ledger.starts)
