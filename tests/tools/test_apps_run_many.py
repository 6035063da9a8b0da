"""Many inputs through one app."""

from __future__ import annotations

import functools
import json
import mimetypes
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from inferencesh_mcp.tools.batch_result import MIN_ADDRESSES
from inferencesh_mcp.tools.results import DATA
from inferencesh_mcp.tools.truncate import tokens
from tests.conftest import WAYS, Connect, Upstream, until
from tests.results import payload, text_of
from tests.support.faults import RstAfter, Status, Swallow, Twice
from tests.system.faults.hosts import MEMORY, NEAR, over

pytestmark = pytest.mark.anyio


async def many(client: Client, app: str, inputs: list[Any], **arguments: Any) -> CallToolResult:
    return await client.call_tool("app_run_many", {"app": app, "inputs": inputs, **arguments})


@over(*NEAR)
async def test_results_are_in_the_order_of_the_inputs(connect: Connect) -> None:
    async with connect() as client:
        result = await many(client, "sandbox/echo", [{"n": n} for n in range(12)])

    assert [{"n": n} for n in range(12)] == [row["output"] for row in payload(result)["results"]]
    assert {"completed": 12} == payload(result)["counts"]
    assert not result.is_error


@over(*NEAR)
async def test_all_inputs_are_validated_before_the_first_start(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        result = await many(client, "sandbox/draw", [{"prompt": "x"}, {"promt": "y"}, {"prompt": 3}])

    assert result.is_error
    assert "Input 2: " in text_of(result)
    assert "did you mean 'prompt'" in text_of(result)
    assert "input 3: " in text_of(result)
    assert () == upstream.sandbox.ledger.starts


@over(*MEMORY)
async def test_an_app_is_reread_once_for_any_number_of_invalid_inputs(connect: Connect, upstream: Upstream) -> None:
    """Its schema may be a newer one; after that it is not."""
    async with connect() as client:
        arguments = {"app": "sandbox/draw", "inputs": [{"promt": "x"}] * 50}
        result = await client.call_tool("app_run_many", arguments)

    assert "and 45 more" in text_of(result)
    assert 2 == len(upstream.sandbox.ledger.requests("GET", "/apps/sandbox/draw"))


@over(*NEAR)
async def test_an_error_for_the_whole_batch_says_that_nothing_was_started(connect: Connect) -> None:
    """An app that is not there, a file that may not be read: told as for one run."""
    async with connect() as client:
        unknown = await many(client, "sandbox/nowhere", [{}, {}])
        unread = await many(client, "sandbox/picture-info", [{"image": "/etc/passwd"}])
        nobodys = await many(client, "sandbox/needs-secret", [{}])

    for result in (unknown, unread):
        assert ("not_started", True) == (payload(result)["error"]["outcome"], payload(result)["error"]["retry_safe"])
        assert "Nothing was started or charged." in text_of(result)
    assert "1. error (not started): requirements_not_met" in text_of(nobodys)


@over(*MEMORY)
async def test_outputs_stand_behind_the_data_line(connect: Connect) -> None:
    """And what is to be done next in front of it, where it is seen first and cannot be forged."""
    async with connect(INFERENCE_WAIT_SECONDS="3") as client:
        inputs = [{"seconds": 0.01, "steps": 1}, {"seconds": 60, "steps": 1}]
        result = await many(client, "sandbox/slow", inputs)

    before, fence, after = text_of(result).partition(DATA)
    assert "Next: Still running: 1." in before
    assert "completed" in after.splitlines()[2]
    assert fence


@pytest.mark.finding("M17")
@over(*NEAR)
async def test_one_failure_does_not_stop_the_other_inputs(connect: Connect) -> None:
    inputs = [{"seconds": 0.05, "steps": 2, **({"fail_at": 1} if n in {1, 4} else {})} for n in range(6)]
    async with connect() as client:
        result = await many(client, "sandbox/slow", inputs)

    rows = payload(result)["results"]
    assert {"completed": 4, "failed": 2} == payload(result)["counts"]
    assert [2, 5] == [row["number"] for row in rows if "error" in row]
    assert all(row["error"]["message"] and row["task_id"] for row in rows if "error" in row)
    assert not result.is_error


@over(*NEAR)
async def test_no_more_runs_at_once_than_max_concurrency(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        await many(client, "sandbox/slow", [{"seconds": 0.2, "steps": 1}] * 6, max_concurrency=2)

    live, most = set(), 0
    for change in upstream.sandbox.ledger.changes:
        (live.discard if change.status >= 10 else live.add)(change.task_id)
        most = max(most, len(live))
    assert 2 == most


@over(*MEMORY)
async def test_a_batch_uses_the_free_places_of_the_run_limit(connect: Connect, upstream: Upstream) -> None:
    """It waits for its own runs instead of failing on them; without a place for even one, nothing is started."""
    async with connect(INFERENCE_MAX_CONCURRENT_RUNS="2") as client, anyio.create_task_group() as group:
        alone = await many(client, "sandbox/slow", [{"seconds": 0.05, "steps": 1}] * 6)
        for _ in range(2):
            arguments = {"app": "sandbox/slow", "input": {"seconds": 30, "steps": 1}}
            group.start_soon(client.call_tool, "app_run", arguments)
        await until(lambda: len(upstream.sandbox.ledger.starts) == 8)
        refused = await many(client, "sandbox/slow", [{"seconds": 0.05, "steps": 1}] * 6)
        group.cancel_scope.cancel()

    assert {"completed": 6} == payload(alone)["counts"]
    assert refused.is_error
    assert ("rate_limited", "not_started") == (payload(refused)["error"]["code"], payload(refused)["error"]["outcome"])
    assert 8 == len(upstream.sandbox.ledger.starts)


@over(*NEAR)
async def test_progress_counts_finished_inputs_of_the_total(connect: Connect) -> None:
    updates: list[tuple[float, float | None]] = []

    async def hear(progress: float, total: float | None, _message: str | None) -> None:
        updates.append((progress, total))

    async with connect() as client:
        arguments = {"app": "sandbox/slow", "inputs": [{"seconds": 0.5, "steps": 1}] * 6, "max_concurrency": 2}
        await client.call_tool("app_run_many", arguments, progress_callback=hear)

    numbers = [progress for progress, _ in updates]
    assert sorted(set(numbers)) == numbers
    assert {6} == {total for _, total in updates}
    assert 0 <= numbers[0] < numbers[-1] <= 6


async def test_every_task_id_is_returned_when_the_wait_ends(connect: Connect, upstream: Upstream) -> None:
    """What runs is named by its task, what was not started by its number, and nothing is started afterwards."""
    async with connect(INFERENCE_WAIT_SECONDS="3") as client:
        inputs = [{"seconds": 0.1 if n == 0 else 30, "steps": 1} for n in range(6)]
        result = await many(client, "sandbox/slow", inputs, max_concurrency=3)

    rows = payload(result)["results"]
    live = [row for row in rows if row["status"] not in {"completed", "not_started"}]
    assert "completed" == rows[0]["status"]
    assert {start.task_id for start in upstream.sandbox.ledger.starts} == {
        row["task_id"] for row in rows if "task_id" in row
    }
    assert [5, 6] == [row["number"] for row in rows if row["status"] == "not_started"]
    assert 3 == len(live)
    assert "task_get" in payload(result)["next"]
    assert "inputs 5 to 6" in payload(result)["next"]
    assert () == upstream.sandbox.ledger.cancels


@pytest.mark.parametrize("way", [way for way in WAYS if str(way) != "http-2025"], indirect=True, ids=str)
async def test_a_cancelled_batch_cancels_its_runs_and_starts_no_more(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        with anyio.move_on_after(20) as call:

            async def hear(_progress: float, _total: float | None, message: str | None) -> None:
                if message and "step" in message:
                    call.cancel()

            arguments = {"app": "sandbox/slow", "inputs": [{"seconds": 30, "steps": 60}] * 5, "max_concurrency": 2}
            await client.call_tool("app_run_many", arguments, progress_callback=hear)
        await until(lambda: len(upstream.sandbox.ledger.cancels) == 2)

    assert 2 == len(upstream.sandbox.ledger.starts) == len(upstream.sandbox.ledger.cancels)


async def cancel_batch(client: Client, upstream: Upstream, tasks: int) -> list[str]:
    """Ask for two runs, one after the other, and leave once so many tasks were made: their ids."""
    async with anyio.create_task_group() as group:
        group.start_soon(functools.partial(many, client, "sandbox/slow", [{"seconds": 30}] * 2, max_concurrency=1))
        await until(lambda: len(upstream.sandbox.ledger.starts) == tasks)
        group.cancel_scope.cancel()
    return [start.task_id for start in upstream.sandbox.ledger.starts]


@over(*MEMORY)
async def test_a_run_that_cannot_be_followed_is_cancelled_with_its_batch(connect: Connect, upstream: Upstream) -> None:
    """It still runs, and the host leaves before it is told of the failure, and of the task."""
    upstream.sandbox.faults.add(RstAfter(lines=1), path="/tasks/*/stream")
    upstream.sandbox.faults.add(Status(code=401, error="unauthorized"), method="GET", path="/tasks/*")
    async with connect() as client:
        task_ids = await cancel_batch(client, upstream, 2)
        await until(lambda: len(upstream.sandbox.ledger.cancels) == 2)

    assert set(task_ids) == {cancel.task_id for cancel in upstream.sandbox.ledger.cancels}


@over(*MEMORY)
async def test_an_ambiguous_run_of_a_cancelled_batch_is_logged(
    connect: Connect, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """The host leaves before it is told of the two, and nobody can tell which to cancel (I-2)."""
    upstream.sandbox.faults.add(Swallow(), path="/apps/run")
    upstream.sandbox.faults.add(Twice(), path="/apps/run")
    async with connect() as client:
        first, second, third = await cancel_batch(client, upstream, 3)
        await until(lambda: "a run of sandbox/slow may go on without its caller" in caplog.text)

    (payload,) = [line for line in caplog.messages if "may go on without its caller" in line]
    assert first in payload
    assert second in payload
    assert [third] == [cancel.task_id for cancel in upstream.sandbox.ledger.cancels]


@pytest.mark.parametrize("way", MEMORY[1:], indirect=True, ids=str)
async def test_two_hundred_results_fit_in_one_answer(connect: Connect) -> None:
    """All ids, the failures in full, and as many outputs as there is room for."""
    inputs = [{"seconds": 0.01, "steps": 1, **({"fail_at": 1} if n % 40 == 0 else {})} for n in range(200)]
    async with connect() as client:
        result = await many(client, "sandbox/slow", inputs, max_concurrency=32)

    rows = payload(result)["results"]
    assert {"completed": 195, "failed": 5} == payload(result)["counts"]
    assert 200 == len({row["task_id"] for row in rows})
    assert all("message" in row["error"] for row in rows if row["status"] == "failed")
    assert all(row["task_id"] in text_of(result) for row in rows)
    assert max(tokens(json.dumps(payload(result))), tokens(text_of(result))) <= 20_000


@pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)
@pytest.mark.finding("M17")
async def test_each_input_of_a_batch_names_its_files(connect: Connect) -> None:
    async with connect() as client:
        result = await many(client, "sandbox/draw", [{"prompt": name, "width": 40, "height": 30} for name in "ab"])

    rows = payload(result)["results"]
    assert [1, 2] == [row["number"] for row in rows]
    for row in rows:
        assert ["image"] == list(row["output"])
        assert ["drawing.png"] == [file["name"] for file in row["files"]]
        assert 1 == text_of(result).count(row["output"]["image"])
    assert 2 == text_of(result).count("Files: drawing.png (image/png, ")


@pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str)
@pytest.mark.finding("M17")
async def test_progress_of_a_batch_counts_each_run_at_its_end(connect: Connect) -> None:
    """Not only when its whole answer is known; and it says how many run."""
    messages: list[str] = []

    async def receive(_progress: float, _total: float | None, message: str | None) -> None:
        messages.append(message or "")

    async with connect() as client:
        inputs = [{"seconds": 0.2, "steps": 1}] * 2 + [{"seconds": 2, "steps": 4}]
        await client.call_tool("app_run_many", {"app": "sandbox/slow", "inputs": inputs}, progress_callback=receive)

    assert any(message.startswith("0 of 3 done, 3 running") for message in messages)
    assert any(message.startswith("2 of 3 done, 1 running") for message in messages)


@over(NEAR[0])
async def test_a_batch_looks_at_a_limited_number_of_files(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer can show a few of them; task_get shows the others."""
    looked_at: list[str] = []
    guess_type = mimetypes.guess_type

    def recorded(path: str) -> tuple[str | None, str | None]:
        looked_at.append(path)
        return guess_type(path)

    monkeypatch.setattr(mimetypes, "guess_type", recorded)
    inputs = [{"images": [f"https://x.example/{number}/{image}.png" for image in range(100)]} for number in range(40)]
    async with connect() as client:
        result = payload(await many(client, "sandbox/echo", inputs))

    assert ["completed"] * 40 == [row["status"] for row in result["results"]]
    assert 40 * MIN_ADDRESSES <= len(looked_at) < 2 * 40 * MIN_ADDRESSES
