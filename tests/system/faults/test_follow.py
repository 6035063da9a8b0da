"""A run is followed to its true end, whatever becomes of its stream: rows X-6 to X-11."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import anyio
import pytest
from mcp_types import CallToolResult

from inferencesh_mcp.api import stream
from tests.conftest import Upstream, until
from tests.results import payload
from tests.support.faults import Drop, FinAfter, Garble, RstAfter, Stall, Status, StayQueued
from tests.system.faults.hosts import HTTP, NEAR, PIPE, STDIO, Host, Hosted, judge, over
from tests.system.faults.process_usage import peak_memory

pytestmark = pytest.mark.anyio
STREAM = "/tasks/*/stream"
RUNNING = 7
# With the stream opened when the task runs, its lines are: the task, two for each step, and the end.
BEFORE, BETWEEN, AT_THE_END = 0, 3, 7


@asynccontextmanager
async def stream_while_running(upstream: Upstream) -> AsyncIterator[None]:
    """Let the stream begin once the task runs, so that its lines can be counted."""
    gate = upstream.sandbox.faults.hold("GET", STREAM)
    async with anyio.create_task_group() as group:

        async def release() -> None:
            await gate.reached.wait()
            await until(lambda: [change for change in upstream.sandbox.ledger.changes if change.status == RUNNING])
            gate.release()

        group.start_soon(release)
        yield
        group.cancel_scope.cancel()


async def followed(my: Host, upstream: Upstream, seconds: float = 0.6, steps: int = 3) -> CallToolResult:
    async with stream_while_running(upstream):
        return await my.run("slow", my.slow(seconds, steps))


def streams(upstream: Upstream) -> int:
    return len(upstream.sandbox.ledger.requests("GET", STREAM))


@pytest.mark.fault("X-6")
@pytest.mark.parametrize("lines", [BEFORE, BETWEEN, AT_THE_END])
async def test_a_reset_stream_is_reopened(host: Hosted, upstream: Upstream, lines: int) -> None:
    """The host sees one run, whose progress goes on, and its true end."""
    upstream.sandbox.faults.add(RstAfter(lines=lines), path=STREAM)
    async with host() as my:
        result = await followed(my, upstream)

    assert ("completed", 3) == (payload(result)["status"], payload(result)["output"]["steps"])
    assert 1 <= streams(upstream) <= 2
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-6")
@over(*NEAR)
async def test_a_stream_that_is_always_reset_is_replaced_by_polling(host: Hosted, upstream: Upstream) -> None:
    """After so many connections without news the status is asked for."""
    upstream.sandbox.faults.add(Drop(), path=STREAM, times=-1)
    async with host() as my:
        result = await my.run("slow", my.slow(0.6, 3))

    assert "completed" == payload(result)["status"]
    assert streams(upstream) < 12
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-7")
@pytest.mark.parametrize(
    ("way", "lines", "cut"),
    [
        *product((HTTP,), (BEFORE, BETWEEN, AT_THE_END), (False, True)),
        *product((PIPE, STDIO[0]), (BETWEEN,), (False, True)),
    ],
    ids=str,
)
async def test_the_early_end_of_a_stream_is_not_a_result(
    host: Hosted, upstream: Upstream, lines: int, cut: bool
) -> None:
    """The end of a stream, clean or not, says nothing about the run."""
    upstream.sandbox.faults.add(FinAfter(lines=lines, cut=cut), path=STREAM)
    async with host() as my:
        result = await followed(my, upstream)

    assert ("completed", 3) == (payload(result)["status"], payload(result)["output"]["steps"])
    judge(my, upstream.sandbox, starts=1)


SPOILED = [
    Garble(form="bad", at=1),
    Garble(form="truncated", at=1),
    Garble(form="crlf"),
    Garble(form="bom"),
    Garble(form="blank"),
    Garble(form="duplicate", at=2),
    Garble(form="stale", at=2),
    Garble(form="stale", at=-1),
    Garble(form="text", at=1, text='["no", "object"]'),
    Garble(form="text", at=1, text="NaN"),
    Garble(form="text", at=1, text='{"data": [], "fields": "status"}'),
    Garble(form="text", at=1, text="[" * 5000),
    Garble(form="text", at=1, text='{"data": {"status": 1e999}}'),
]


@pytest.mark.fault("X-8", "X-11")
@pytest.mark.parametrize(
    ("way", "fault"),
    [*product((PIPE,), SPOILED), *product((HTTP, STDIO[0]), SPOILED[:2] + SPOILED[7:8])],
    ids=lambda value: f"{value.form}{value.at}{value.text[:8]}" if isinstance(value, Garble) else str(value),
)
async def test_a_bad_line_is_skipped_and_the_rest_is_used(host: Hosted, upstream: Upstream, fault: Garble) -> None:
    """Bad, cut, blank, repeated and stale lines: none ends the stream, changes the end, or sends progress back."""
    upstream.sandbox.faults.add(fault, path=STREAM)
    async with host() as my:
        result = await followed(my, upstream, seconds=1.2)

    assert ("completed", 3) == (payload(result)["status"], payload(result)["output"]["steps"])
    assert 1 == streams(upstream)
    messages = [params["message"] for params in my.progress_of(my.runs[0])]
    assert [message for message in messages if "step" in message], "the lines after it were used"
    if fault.form in {"bad", "truncated"}:
        assert "1 bad" in my.read_log()
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-8")
async def test_a_line_cut_by_the_end_of_the_stream_is_ignored(host: Hosted, upstream: Upstream) -> None:
    upstream.sandbox.faults.add(Garble(form="truncated", at=2), path=STREAM)
    upstream.sandbox.faults.add(FinAfter(lines=2, cut=True), path=STREAM)
    async with host() as my:
        result = await followed(my, upstream)

    assert ("completed", 3) == (payload(result)["status"], payload(result)["output"]["steps"])
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-9")
@over(*NEAR)
@pytest.mark.parametrize("form", ["giant", "endless"])
async def test_a_line_that_is_too_long_ends_the_stream_and_not_the_run(
    host: Hosted, upstream: Upstream, form: Any
) -> None:
    upstream.sandbox.faults.add(Garble(form=form, at=1), path=STREAM)
    async with host() as my:
        result = await followed(my, upstream)

    assert "completed" == payload(result)["status"]
    assert "a line was too long" in my.read_log()
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-9")
@over(STDIO[0])
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("form", ["giant", "endless"])
async def test_a_line_that_is_too_long_is_not_held_in_memory(host: Hosted, upstream: Upstream, form: Any) -> None:
    """The process grows by less than three times the longest line that is read (4 MiB)."""
    async with host() as my:
        await followed(my, upstream)
        before = peak_memory()
        upstream.sandbox.faults.add(Garble(form=form, at=1), path=STREAM)
        result = await followed(my, upstream)
        grown = peak_memory() - before

    assert "completed" == payload(result)["status"]
    assert grown < 3 * 4 * 1024 * 1024
    judge(my, upstream.sandbox, starts=2)


def news(*fields: str, **data: Any) -> str:
    return json.dumps({"data": data, "fields": list(fields)})


@pytest.mark.fault("X-10")
@pytest.mark.parametrize(
    ("way", "line", "expected"),
    [
        (*((PIPE, line, expected)),)
        for line, expected in [
            (news("status", status="pondering\u202e\u0007 <b>deeply</b>"), "running (pondering___b_deeply__b_) ·"),
            (news("status", status=42), "running (status 42) ·"),
            (news("status"), "running ·"),
            (news("status", status=None), "running ·"),
            (news("status", "mood", status=7, mood={"deep": [1, None]}, other="x" * 999), "running ·"),
        ]
    ]
    + [(way, news("status", status=42), "running (status 42) ·") for way in (HTTP, STDIO[0])],
    ids=str,
)
async def test_an_unknown_status_is_shown_and_the_run_continues(
    host: Hosted, upstream: Upstream, line: str, expected: str
) -> None:
    """Unknown words and numbers count as running; what could hide or break a line is taken out of them."""
    upstream.sandbox.faults.add(Garble(form="text", at=1, text=line), path=STREAM)
    async with host() as my:
        result = await followed(my, upstream, seconds=1.2, steps=2)

    messages = [params["message"] for params in my.progress_of(my.runs[0])]
    assert [message for message in messages if expected in message], messages
    assert "completed" == payload(result)["status"]
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-37")
@over(*NEAR)
async def test_a_silent_stream_is_replaced(host: Hosted, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is read, and the stream opened anew."""
    monkeypatch.setattr(stream, "IDLE_SECONDS", 0.2)  # a minute, else
    upstream.sandbox.faults.add(Stall(lines=BETWEEN), path=STREAM)
    async with host() as my:
        result = await followed(my, upstream)

    assert ("completed", 3) == (payload(result)["status"], payload(result)["output"]["steps"])
    assert "it was idle for too long" in my.read_log()
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-37")
@pytest.mark.parametrize("fault", [Stall(lines=1), StayQueued()], ids=lambda fault: fault.kind)
async def test_a_silent_run_is_handed_over_when_the_wait_ends(host: Hosted, upstream: Upstream, fault: Any) -> None:
    """Silence, or heartbeats for ever: the call ends in time, with the id of a task that goes on."""
    upstream.sandbox.faults.add(fault, path=STREAM if isinstance(fault, Stall) else "/apps/run")
    async with host(INFERENCE_WAIT_SECONDS="1") as my:
        result = await my.run("slow", {"seconds": 60, "steps": 3})

    assert not result.is_error
    assert [payload(result)["task_id"]] == [start.task_id for start in upstream.sandbox.ledger.starts]
    assert payload(result)["status"] in {"queued", "running"}
    assert "task_get" in payload(result)["next"]
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-11")
async def test_an_end_that_only_the_stream_reports_is_not_trusted(host: Hosted, upstream: Upstream) -> None:
    """The record decides: the run goes on, and the output is the true one."""
    line = news("status", "output", status=10, output={"steps": 99})
    upstream.sandbox.faults.add(Garble(form="text", at=1, text=line), path=STREAM)
    async with host() as my:
        result = await followed(my, upstream)

    assert ("completed", 3) == (payload(result)["status"], payload(result)["output"]["steps"])
    assert 2 == streams(upstream)
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-7")
async def test_a_run_survives_a_short_outage_of_the_api(host: Hosted, upstream: Upstream) -> None:
    """The stream breaks and reads fail: once the id is known, that is no error."""
    upstream.sandbox.faults.add(RstAfter(lines=BETWEEN), path=STREAM)
    upstream.sandbox.faults.add(Status(code=503), method="GET", path="/tasks/*", times=7)
    async with host() as my:
        result = await followed(my, upstream)

    assert "completed" == payload(result)["status"]
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-7")
async def test_an_unreadable_record_is_an_error_with_the_task_id(host: Hosted, upstream: Upstream) -> None:
    """The key was withdrawn in mid-run: the run was started, it has an id, and must not be started again."""
    upstream.sandbox.faults.add(RstAfter(lines=BETWEEN), path=STREAM)
    upstream.sandbox.faults.add(Status(code=401, error="unauthorized"), method="GET", path="/tasks/*", times=-1)
    async with host() as my:
        result = await followed(my, upstream)

    failure = payload(result)["error"]
    task = upstream.sandbox.ledger.starts[0].task_id
    assert ("key_refused", "started", task, False) == tuple(
        failure[name] for name in ("code", "outcome", "task_id", "retry_safe")
    )
    assert task in result.content[0].text
    judge(my, upstream.sandbox, starts=1)
