"""Running an app, as a host sees it: over every way in, in both eras."""

from __future__ import annotations

import json
import struct
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KEY, LOCAL, WAYS, Connect, Upstream, until
from tests.results import error, left_at, payload, run, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import MEMORY, NEAR, over

pytestmark = pytest.mark.anyio


async def test_a_run_answers_with_its_output(connect: Connect) -> None:
    """Text alone is enough, structured content alone is enough, and every file has a link."""
    async with connect() as client:
        result = await run(client, "sandbox/draw", {"prompt": "a red kite", "width": 64, "height": 48})

    outcome = payload(result)
    assert ("sandbox/draw", "completed") == (outcome["app"], outcome["status"])
    assert [outcome["output"]["image"]] == [link.uri for link in result.content if link.type == "resource_link"]
    assert outcome["output"]["image"] in text_of(result)
    assert outcome["task_id"] in text_of(result)
    assert not result.is_error


async def test_a_run_costs_one_post_one_stream_and_two_gets(connect: Connect, upstream: Upstream) -> None:
    """Once the app is known, nothing is asked of the API that a run does not need."""
    async with connect() as client:
        await run(client, "sandbox/echo", {"n": 1})
        before = len(upstream.sandbox.ledger.requests())

        await run(client, "sandbox/echo", {"n": 2})

    requests = [(entry.method, entry.path.rpartition("/")[2]) for entry in upstream.sandbox.ledger.requests()[before:]]
    assert ["POST", "GET", "GET", "GET"] == [method for method, _ in requests]
    assert ["run", "stream", "cost"] == [last for _, last in (*requests[:2], requests[-1])]


async def test_progress_begins_at_once_and_strictly_increases(connect: Connect) -> None:
    """The host hears of the run's state, with the task's id, while it runs."""
    updates: list[tuple[float, float | None, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        updates.append((progress, total, message or ""))

    async with connect() as client:
        started_at = time.monotonic()
        result = await client.call_tool(
            "app_run", {"app": "sandbox/slow", "input": {"seconds": 1.4, "steps": 4}}, progress_callback=hear
        )
        seconds = time.monotonic() - started_at

    numbers = [progress for progress, _, _ in updates]
    assert sorted(set(numbers)) == numbers
    assert "starting" == updates[0][2]
    assert any(payload(result)["task_id"] in message for _, _, message in updates)
    assert {None} == {total for _, total, _ in updates}
    assert len(updates) <= 2 * (int(seconds) + 1), "at most two a second"


@over(*NEAR)
async def test_progress_says_nothing_twice(connect: Connect, upstream: Upstream) -> None:
    """What an app has made so far changes with each step, and nobody reads that in a line of progress."""
    messages: list[str] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        messages.append(message or "")
        if len(messages) < 9 and "step 1/2" in messages[-1]:
            (task,) = [task for tenant in upstream.sandbox.tenants for task in tenant.tasks]
            task.output = {"steps": len(messages)}
            task.publish("output")

    async with connect() as client:
        arguments = {"app": "sandbox/slow", "input": {"seconds": 3, "steps": 2}}
        await client.call_tool("app_run", arguments, progress_callback=hear)

    assert 1 == len([message for message in messages if "step 1/2" in message])


async def test_a_run_longer_than_the_wait_is_handed_over_and_resumed(connect: Connect, upstream: Upstream) -> None:
    """No host's time-out loses work: the answer names the task and the exact next call, which finds the result."""
    async with connect(INFERENCE_WAIT_SECONDS="1") as client:
        first = await run(client, "sandbox/slow", {"seconds": 2, "steps": 4})
        task_id = payload(first)["task_id"]
        assert f'task_get(task_id="{task_id}", wait_seconds=45)' in payload(first)["next"]
        assert not first.is_error

        second = await client.call_tool("task_get", {"task_id": task_id, "wait_seconds": 20})

    assert ("completed", 4) == (payload(second)["status"], payload(second)["output"]["steps"])
    assert (1, 0) == (len(upstream.sandbox.ledger.starts), len(upstream.sandbox.ledger.cancels))


@over(*NEAR)
async def test_a_call_without_waiting_returns_the_task_id(connect: Connect) -> None:
    async with connect() as client:
        result = await run(client, "sandbox/slow", {"seconds": 5, "steps": 1}, wait=False)
        stopped = await client.call_tool("task_cancel", {"task_id": payload(result)["task_id"]})

    assert (False, False) == (result.is_error, stopped.is_error)
    assert payload(result)["status"] not in {"completed", "failed"}
    assert payload(stopped)["status"] in {"cancelling", "cancelled"}


@over(*MEMORY)
async def test_a_successful_cancel_is_reported_when_the_task_cannot_be_read(
    connect: Connect, upstream: Upstream
) -> None:
    async with connect() as client:
        task_id = payload(await run(client, "sandbox/slow", {"seconds": 30, "steps": 1}, wait=False))["task_id"]
        upstream.sandbox.faults.add(Status(code=503), method="GET", path="/tasks/*", times=-1)
        result = await client.call_tool("task_cancel", {"task_id": task_id})

    assert not result.is_error
    assert ("running", "cancelling", task_id) == (
        payload(result)["status"],
        payload(result)["platform_status"],
        payload(result)["task_id"],
    )
    assert 1 == len(upstream.sandbox.ledger.cancels)


@over(*MEMORY)
async def test_an_output_that_does_not_exist_yet_has_no_parts(connect: Connect) -> None:
    """It is not told as one that is null, and ended; and nobody is told to wait for what will never come."""
    async with connect() as client:
        task_id = payload(await run(client, "sandbox/slow", {"seconds": 5, "steps": 1}, wait=False))["task_id"]
        early = await client.call_tool("task_get", {"task_id": task_id, "part": 1})
        await client.call_tool("task_cancel", {"task_id": task_id})
        never = await client.call_tool("file_save", {"task_ids": [task_id]})

    assert (True, True) == (early.is_error, never.is_error)
    assert "task_get" not in text_of(never)
    assert "has no output" in text_of(early)
    assert f'task_get(task_id="{task_id}", wait_seconds=45)' in text_of(early)


@pytest.mark.parametrize("way", [way for way in WAYS if str(way) != "http-2025"], indirect=True, ids=str)
async def test_cancelling_the_call_cancels_the_task(connect: Connect, upstream: Upstream) -> None:
    """A host that stops waiting does not leave a task running, and costing, behind it.

    The older protocol without sessions has no way to say so over HTTP; there only a closed connection tells.
    """
    async with connect() as client:
        await left_at("step", client, "app_run", app="sandbox/slow", input={"seconds": 30, "steps": 60})
        await until(lambda: upstream.sandbox.ledger.cancels)

    assert 1 == len(upstream.sandbox.ledger.starts) == len(upstream.sandbox.ledger.cancels)


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_a_picture_from_disk_is_uploaded_and_its_thumbnail_is_shown(connect: Connect, folder: Path) -> None:
    """A path at a place that the schema calls a file is uploaded; everything a task made is saved."""
    async with connect() as client:
        drawn = await run(client, "sandbox/draw", {"prompt": "x", "width": 90, "height": 60})
        saved = await client.call_tool("file_save", {"task_ids": [payload(drawn)["task_id"]]})
        picture = Path(payload(saved)["files"][0]["path"])
        result = await run(client, "sandbox/picture-info", {"image": str(picture)})
        thumbnail = await client.call_tool("file_save", {"task_ids": [payload(result)["task_id"]], "to": "small"})

    assert (90, 60) == struct.unpack(">II", picture.read_bytes()[16:24])
    assert (90, 60, picture.stat().st_size) == tuple(
        payload(result)["output"][name] for name in ("width", "height", "bytes")
    )
    assert folder / "small" == Path(payload(thumbnail)["files"][0]["path"]).parent
    assert "thumbnail.png" == Path(payload(thumbnail)["files"][0]["path"]).name


@over(*NEAR)
async def test_a_failed_task_says_why_and_where_its_logs_are(connect: Connect) -> None:
    async with connect() as client:
        result = await run(client, "sandbox/fail", {"message": "no colours left"})
        logs = await client.call_tool("task_logs", {"task_id": payload(result)["task_id"]})

    assert result.is_error
    assert "task_failed" == payload(result)["error"]["code"]
    assert "no colours left" in payload(result)["error"]["message"]
    assert "task_logs" in payload(result)["next"]
    assert not logs.is_error


@over(*NEAR)
async def test_text_grows_in_the_progress_and_is_complete_in_the_answer(connect: Connect) -> None:
    messages: list[str] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        messages.append(message or "")

    words = "one two three four five six seven eight nine ten"
    async with connect() as client:
        arguments = {"app": "sandbox/stream-text", "input": {"text": words, "chunk_ms": 150}}
        result = await client.call_tool("app_run", arguments, progress_callback=hear)

    assert words == payload(result)["output"]["response"]
    assert any("one two" in message and words not in message for message in messages)


@over(*NEAR)
async def test_an_input_as_a_json_string_is_parsed(connect: Connect) -> None:
    """Some hosts send an object as a string of JSON; it means the same."""
    async with connect() as client:
        result = await client.call_tool("app_run", {"app": "sandbox/echo", "input": '{"a": [1, 2]}'})

    assert {"a": [1, 2]} == payload(result)["output"]


@over(*NEAR)
async def test_polling_gives_the_same_answer(connect: Connect, upstream: Upstream) -> None:
    """Where streams cannot be held open, status is asked for instead."""
    async with connect(INFERENCE_STREAM="false", INFERENCE_POLL_INTERVAL_MS="100") as client:
        result = await run(client, "sandbox/slow", {"seconds": 0.5, "steps": 2})

    assert "completed" == payload(result)["status"]
    assert not upstream.sandbox.ledger.requests(path="/tasks/*/stream")


async def test_a_dry_run_starts_nothing_and_names_the_price(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        result = await run(client, "sandbox/draw", {"prompt": "x"}, dry_run=True)

    assert "Estimate for this input: $0.00131072" in text_of(result)
    assert {"prompt": "x"} == json.loads(text_of(result).partition("Would send: ")[2])["input"]
    assert {"prompt": "x"} == payload(result)["output"]["request"]["input"]
    assert () == upstream.sandbox.ledger.starts


@over(*NEAR)
async def test_lists_show_what_there_is(connect: Connect) -> None:
    async with connect() as client:
        apps = await client.call_tool("app_list", {"query": "draw"})
        about = await client.call_tool("app_get", {"app": "sandbox/draw"})
        ran = await run(client, "sandbox/echo", {})
        tasks = await client.call_tool("task_list", {"app": "sandbox/echo", "status": "completed"})

    assert "sandbox/draw" in [app["app"] for app in payload(apps)["apps"]]
    assert "prompt*: text" in text_of(about)
    assert {"prompt", "width", "height", "seed"} == set(payload(about)["input_schema"]["properties"])
    assert payload(ran)["task_id"] in [task["task_id"] for task in payload(tasks)["tasks"]]


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_a_file_is_uploaded_once_and_used_by_its_uri(connect: Connect, folder: Path, upstream: Upstream) -> None:
    (folder / "note.txt").write_bytes(b"hello")
    async with connect() as client:
        file = await client.call_tool("file_upload", {"source": str(folder / "note.txt")})
        saved = await client.call_tool("file_save", {"uris": [payload(file)["uri"]], "to": "back"})

    assert ("note.txt", "text/plain", 5) == tuple(payload(file)[name] for name in ("filename", "content_type", "bytes"))
    assert b"hello" == Path(payload(saved)["files"][0]["path"]).read_bytes()


async def test_the_key_is_in_no_answer(connect: Connect) -> None:
    async with connect() as client:
        results = [await run(client, "sandbox/fail", {"message": "x"}), await client.call_tool("app_list", {})]

    assert not [result for result in results if KEY in result.model_dump_json()]


@over(*MEMORY)
async def test_a_change_of_the_wall_clock_changes_nothing(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-24: each look at the time of day is a day later; nothing that takes a while is given up for that, or takes longer."""
    days = count(time.time(), 86_400.0)
    async with connect() as client:
        monkeypatch.setattr(time, "time", lambda: next(days))
        ran = payload(await run(client, "sandbox/slow", {"seconds": 0.1, "steps": 2}))
        many = payload(await client.call_tool("app_run_many", {"app": "sandbox/echo", "inputs": [{"n": 1}, {"n": 2}]}))
        chat = payload(await client.call_tool("agent_chat", {"agent": "sandbox/assistant", "message": "Hello."}))

    assert ("completed", {"completed": 2}, "answered") == (ran.get("status"), many.get("counts"), chat.get("status"))
    assert ran["elapsed_seconds"] + chat["elapsed_seconds"] < 60


@pytest.mark.finding("B10")
@pytest.mark.parametrize(
    "arguments",
    [
        {"app": "sandbox/slow", "input": {"seconds": "soon"}},
        {"app": "sandbox/nothing", "input": {}},
        {"app": "nonsense", "input": {}},
        {"app": "sandbox/picture-info", "input": {"image": "/nowhere/x.png"}},
        {"app": "sandbox/echo:one", "input": {}, "function": "two"},
    ],
    ids=["a wrong input", "no such app", "no app at all", "no such file", "two functions"],
)
async def test_a_dry_run_is_refused_for_the_same_reasons_as_a_run(
    connect: Connect, upstream: Upstream, arguments: dict[str, Any]
) -> None:
    async with connect() as client:
        real = error(await client.call_tool("app_run", arguments))
        dry = error(await client.call_tool("app_run", {**arguments, "dry_run": True}))

    assert ("not_started", True) == (dry["outcome"], dry["retry_safe"])
    assert real == dry
    assert () == upstream.sandbox.ledger.starts


@pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)
async def test_a_price_that_cannot_be_read_does_not_fail_the_answer_of_a_started_run(
    connect: Connect, upstream: Upstream
) -> None:
    """A private app is read again when its price is refused; that must not reach a run that costs already."""
    private = {"id": "x", "namespace": "sandbox", "name": "slow", "visibility": "private", "version": {"id": "v"}}
    record = Status(code=200, headers={"content-type": "application/json"}, body=json.dumps(private))
    upstream.sandbox.faults.add(record, path="/apps/sandbox/slow", times=1)
    upstream.sandbox.faults.add(Status(code=503), path="/apps/sandbox/slow", times=-1)
    upstream.sandbox.faults.add(Status(code=403), path="/store/apps/*/estimate", times=-1)
    async with connect() as client:
        result = await run(client, "sandbox/slow", {"seconds": 30}, wait=False)

    assert [payload(result)["task_id"]] == [start.task_id for start in upstream.sandbox.ledger.starts]
    assert not result.is_error
