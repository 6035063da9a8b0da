"""A host that leaves does not leave a run behind that costs: rows X-29 to X-32."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from inferencesh_mcp.flows import cancel as flows_cancel
from tests.conftest import Upstream, until
from tests.support.faults import Delay, Drop, EndAtOnce, HideTasks, Stall, Status, StayQueued, Swallow
from tests.system.faults.hosts import NEAR, STDIO, Host, Hosted, judge, over

pytestmark = pytest.mark.anyio
RUN, LIST, CANCEL = "/apps/run", "/tasks/list", "/tasks/*/cancel"
LONG = {"seconds": 30, "steps": 60}
CANCELLED, COMPLETED = 12, 10
EVERY_WAY = (*NEAR, *STDIO)


async def ended(upstream: Upstream, status: int = CANCELLED) -> None:
    await until(lambda: [change for change in upstream.sandbox.ledger.changes if change.status == status])


async def still_answers(my: Host) -> None:
    """A round trip after which everything that was on its way has come."""
    assert not (await my.call("app_list")).is_error


@pytest.mark.fault("X-29")
@over(*EVERY_WAY)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "poll"])
async def test_a_call_cancelled_during_its_run_cancels_the_task(host: Hosted, upstream: Upstream, stream: bool) -> None:
    """Told of once; not another word about the call."""
    settings = {} if stream else {"INFERENCE_STREAM": "false", "INFERENCE_POLL_INTERVAL_MS": "100"}
    async with host(**settings) as my:
        await my.cancelled_at(lambda: my.until_progress("running"), "slow", LONG)
        await until(lambda: upstream.sandbox.ledger.cancels)
        await ended(upstream)
        count = len(my.messages_about(my.runs[0]))
        await still_answers(my)

        assert count == len(my.messages_about(my.runs[0]))
    assert "because its caller left" in my.read_log()
    judge(my, upstream.sandbox, starts=1, cancels=1)


@pytest.mark.fault("X-29")
async def test_on_cancel_keep_lets_the_run_finish(host: Hosted, upstream: Upstream) -> None:
    """The task goes on to its end; of the call nothing more is heard; the log names the task."""
    async with host(INFERENCE_ON_CANCEL="keep") as my:
        await my.cancelled_at(lambda: my.until_progress("running"), "slow", my.slow(1, 4))
        await still_answers(my)
        count = len(my.messages_about(my.runs[0]))
        await ended(upstream, COMPLETED)
        await still_answers(my)

        assert count == len(my.messages_about(my.runs[0]))
    assert f"{upstream.sandbox.ledger.starts[0].task_id} goes on without its caller" in my.read_log()
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-29")
async def test_leaving_a_task_get_does_not_cancel_the_task(host: Hosted, upstream: Upstream) -> None:
    """Who only attends to a task that runs already does not stop it by leaving."""
    async with host() as my:
        begun = await my.run("slow", my.slow(1, 2), wait=False)
        task = begun.structured_content["task_id"]
        async with anyio.create_task_group() as group:

            async def attend() -> None:
                await my.call("task_get", task_id=task, wait_seconds=20)

            group.start_soon(attend)
            await until(lambda: upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))
            group.cancel_scope.cancel()
        await ended(upstream, COMPLETED)
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-30")
@over(*EVERY_WAY)
async def test_a_cancel_during_the_start_request_waits_for_the_id_and_cancels(host: Hosted, upstream: Upstream) -> None:
    """Cancelled between request and reply: the id is learned, and used."""
    gate = upstream.sandbox.faults.hold("POST", RUN)
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        await still_answers(my)
        gate.release()
        await ended(upstream)
    judge(my, upstream.sandbox, starts=1, cancels=1)


@pytest.mark.fault("X-30")
@over(*NEAR)
async def test_a_run_that_ended_before_the_cancel_is_logged(host: Hosted, upstream: Upstream) -> None:
    """Nothing is left to cancel; it was paid for all the same, and nobody else was told its id (I-2)."""
    gate = upstream.sandbox.faults.hold("POST", RUN)
    upstream.sandbox.faults.add(EndAtOnce(), path=RUN)
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "echo", {"n": 1})
        gate.release()
        await until(lambda: "had ended when its caller left" in my.read_log())
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-30")
async def test_a_start_whose_reply_is_lost_is_found_and_cancelled(host: Hosted, upstream: Upstream) -> None:
    gate = upstream.sandbox.faults.hold("POST", RUN)
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        await still_answers(my)
        gate.release()
        await ended(upstream)
    judge(my, upstream.sandbox, starts=1, cancels=1)


@pytest.mark.fault("X-30")
async def test_a_call_cancelled_during_the_search_for_its_task_searches_once_more(
    host: Hosted, upstream: Upstream
) -> None:
    """The task that is looked for is running, and costs."""
    upstream.sandbox.faults.add(Swallow(), path=RUN)
    gate = upstream.sandbox.faults.hold("POST", LIST)
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        await ended(upstream)
    judge(my, upstream.sandbox, starts=1, cancels=1)


@pytest.mark.fault("X-30")
@over(*NEAR)
async def test_a_cancelled_run_whose_task_cannot_be_found_is_logged(host: Hosted, upstream: Upstream) -> None:
    """Nothing more can be done for a call that was cancelled, whose reply was lost and whose task is in no list."""
    upstream.sandbox.faults.add(Drop(), path=RUN)
    upstream.sandbox.faults.add(HideTasks(), path=LIST, times=-1)
    gate = upstream.sandbox.faults.hold("POST", LIST)
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        await until(lambda: "a run of sandbox/slow may go on without its caller" in my.read_log())
        await still_answers(my)
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-30")
@over(*NEAR)
async def test_a_call_cancelled_between_two_attempts_starts_nothing(host: Hosted, upstream: Upstream) -> None:
    """Turned away with 429, cancelled in the pause: there is no second attempt."""
    pausing = anyio.Event()

    async def pause(_seconds: float) -> None:
        pausing.set()
        await anyio.sleep_forever()

    upstream.sandbox.faults.add(Status(code=429, headers={"Retry-After": "1"}), path=RUN)
    async with host(sleep=pause) as my:
        await my.cancelled_at(pausing.wait, "slow", LONG)
        await still_answers(my)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", RUN))
    judge(my, upstream.sandbox, starts=0)


@pytest.mark.fault("X-30")
@over(*NEAR)
async def test_a_call_cancelled_before_its_start_starts_nothing(host: Hosted, upstream: Upstream) -> None:
    """While the app is read, and while a file is sent."""
    gate = upstream.sandbox.faults.hold("GET", "/apps/**")
    upload = upstream.sandbox.faults.hold("PUT", "/**")
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "slow", LONG)
        await still_answers(my)
        gate.release()
        picture = "data:image/png;base64,iVBORw0KGgo="
        await my.cancelled_at(upload.reached.wait, "picture-info", {"image": picture})
        await still_answers(my)
        upload.release()
        await still_answers(my)
    assert not upstream.sandbox.ledger.requests("POST", RUN)
    judge(my, upstream.sandbox, starts=0)


UNANSWERED = [Status(code=500), Drop(), Stall()]


@pytest.mark.fault("X-31")
@over(*NEAR)
@pytest.mark.parametrize("fault", UNANSWERED, ids=lambda fault: fault.kind)
async def test_a_cancel_that_keeps_failing_is_logged(
    host: Hosted, upstream: Upstream, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three attempts, or the time for them; then the task's id is in the log, and the server goes on."""
    monkeypatch.setattr(flows_cancel, "CANCEL_GRACE", 0.5)
    upstream.sandbox.faults.add(StayQueued(), path=RUN)
    upstream.sandbox.faults.add(fault, path=CANCEL, times=-1)
    async with host() as my:
        await my.cancelled_at(lambda: my.until_progress("queued"), "slow", LONG)
        task = upstream.sandbox.ledger.starts[0].task_id
        await until(lambda: f"task {task} may still run" in my.read_log())
        await still_answers(my)
    assert (1 if isinstance(fault, Stall) else 3) == len(upstream.sandbox.ledger.requests("POST", CANCEL))
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-31")
@over(*NEAR)
async def test_a_cancel_whose_reply_was_lost_is_sent_again(host: Hosted, upstream: Upstream) -> None:
    """The first had its effect, so the second is answered that there is nothing to cancel: that is no failure."""
    upstream.sandbox.faults.add(Swallow(), path=CANCEL)
    async with host() as my:
        await my.cancelled_at(lambda: my.until_progress("running"), "slow", LONG)
        await until(lambda: "because its caller left" in my.read_log())
    assert "may still run" not in my.read_log()
    judge(my, upstream.sandbox, starts=1, cancels=1)


@pytest.mark.fault("X-36")
@pytest.mark.parametrize("moment", ["amid its start", "amid its run"])
async def test_a_call_that_is_repeated_leaves_one_run(host: Hosted, upstream: Upstream, moment: str) -> None:
    """The answer was lost with its connection, so the host asks anew: the first run is cancelled, the second is whole.

    There is no key that would join the two: the bridge keeps nothing that it would have to remember for that.
    """
    ledger = upstream.sandbox.ledger
    gate = upstream.sandbox.faults.hold("POST", RUN) if moment == "amid its start" else None
    async with host() as my:
        await my.cancelled_at(gate.reached.wait if gate else lambda: my.until_progress("running"), "slow", LONG)
        async with anyio.create_task_group() as group:
            group.start_soon(my.run, "slow", LONG)
            await until(lambda: len(ledger.starts) == (1 if gate else 2))
            if gate:
                gate.release()
            await ended(upstream)
            await until(lambda: len(ledger.starts) == 2)
            (remaining,) = {start.task_id for start in ledger.starts} - {cancel.task_id for cancel in ledger.cancels}
            await until(
                lambda: remaining in str(my.messages_about(my.runs[1]))
            )  # the second call has a task of its own
            group.cancel_scope.cancel()
        await until(lambda: len(ledger.cancels) == 2)
    judge(my, upstream.sandbox, starts=2, cancels=2)


@pytest.mark.fault("X-32")
async def test_a_cancel_after_the_run_ended_is_not_an_error(host: Hosted, upstream: Upstream) -> None:
    """The run completes while the cancel is on its way."""
    gate = upstream.sandbox.faults.hold("POST", CANCEL)
    async with host() as my:
        await my.cancelled_at(lambda: my.until_progress("running"), "slow", my.slow(1, 2))
        await gate.reached.wait()
        await ended(upstream, COMPLETED)
        gate.release()
        await until(lambda: "had ended when its caller left" in my.read_log())
        await still_answers(my)
    assert "may still run" not in my.read_log()
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-32")
async def test_a_call_cancelled_while_its_end_is_confirmed_is_not_answered(host: Hosted, upstream: Upstream) -> None:
    """The run has completed, its record is being read, the host leaves."""
    gate = upstream.sandbox.faults.hold("GET", "/tasks/*")
    async with host() as my:
        await my.cancelled_at(gate.reached.wait, "echo", {"n": 1})
        await until(lambda: "had ended when its caller left" in my.read_log())
        gate.release()
        await still_answers(my)
    judge(my, upstream.sandbox, starts=1)


@pytest.mark.fault("X-32")
@over(*NEAR)
async def test_a_task_cancelled_by_another_call_is_reported_as_cancelled(host: Hosted, upstream: Upstream) -> None:
    """By another call of the same host: one terminal state, told to both."""
    upstream.sandbox.faults.add(Delay(seconds=0.05), path=CANCEL)
    results = []
    async with host() as my, anyio.create_task_group() as group:

        async def follow() -> None:
            results.append(await my.run("slow", LONG))

        group.start_soon(follow)
        await my.until_progress("running")
        await my.call("task_cancel", task_id=upstream.sandbox.ledger.starts[0].task_id)
    outcome = results[0].structured_content
    assert ("cancelled", "started") == (outcome["status"], outcome["error"]["outcome"])
    judge(my, upstream.sandbox, starts=1, cancels=1)
