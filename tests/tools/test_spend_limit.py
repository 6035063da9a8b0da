"""Nothing that may cost more than the operator's limit starts unasked: the ledger knows what started."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import ElicitRequestParams, ElicitResult, InputRequiredResult

from inferencesh_sandbox.apps import APPS
from tests.conftest import Upstream, Way, connected, until
from tests.results import error, payload, run, text_of
from tests.support.faults import Status
from tests.support.pictures import picture
from tests.system.conversations.rounds import over, send_round

pytestmark = pytest.mark.anyio
BOTH = over(Way("memory", "2026"), Way("memory", "2025"))
MODERN = over(Way("memory", "2026"), Way("http", "2026"))
DEAR = {"seconds": 5, "steps": 500}
"""At most $0.05 for a run of `sandbox/slow`."""
LIMIT = {"INFERENCE_MAX_RUN_COST": "0.04"}
CALL = {"app": "sandbox/slow", "input": {"seconds": 5, "steps": 1}, "wait": False}


class Person:
    """Answers every question the same way, and remembers what was asked."""

    def __init__(self, action: Literal["accept", "decline", "cancel"]) -> None:
        self.action: Literal["accept", "decline", "cancel"] = action
        self.asked: list[str] = []

    async def answer(self, _context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        await anyio.sleep(0.35)  # nobody answers faster, so a faster refusal counts as no answer
        return ElicitResult(action=self.action, content={})


def host(
    way: Way, environ: dict[str, str], person: Person | None = None, **settings: str
) -> AbstractAsyncContextManager[Client]:
    callback = {"elicitation_callback": person.answer} if person else {}
    return connected(way, environ | LIMIT | settings, **callback)


@BOTH
async def test_a_run_above_the_limit_is_refused_where_nobody_can_be_asked(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async with host(way, environ) as client:
        answer = await run(client, "sandbox/slow", DEAR)
        rehearsed = await run(client, "sandbox/slow", DEAR, dry_run=True)

    assert ("spend_limit_exceeded", "not_started") == (error(answer)["code"], error(answer)["outcome"])
    assert "may cost $0.05 and the limit is $0.04" in text_of(answer)
    assert "Nothing was started or charged." in text_of(answer)
    assert not rehearsed.is_error
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_a_run_above_the_limit_starts_after_the_person_agreed(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    person = Person("accept")
    async with host(way, environ, person) as client:
        answer = await run(client, "sandbox/slow", DEAR, wait=False)

    assert ["Run sandbox/slow? It may cost up to $0.05."] == [message[:42] for message in person.asked]
    assert [payload(answer)["task_id"]] == [start.task_id for start in upstream.sandbox.ledger.starts]


@BOTH
async def test_a_run_that_the_person_declined_does_not_start(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    person = Person("decline")
    async with host(way, environ, person) as client:
        answer = await run(client, "sandbox/slow", DEAR)

    assert 1 == len(person.asked)
    assert "the person declined it" in text_of(answer)
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_a_run_within_the_limit_asks_nobody(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    person = Person("decline")
    async with host(way, environ, person) as client:
        await run(client, "sandbox/slow", {"seconds": 0.1, "steps": 1})
        await run(client, "sandbox/echo", {"n": 1})

    assert [] == person.asked
    assert 2 == len(upstream.sandbox.ledger.starts)


@BOTH
async def test_a_batch_counts_as_a_whole(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """Each input alone would be within the limit."""
    inputs = [{"seconds": 1, "steps": 1}] * 5
    person = Person("decline")
    async with host(way, environ) as client:
        refused = await client.call_tool("app_run_many", {"app": "sandbox/slow", "inputs": inputs})
    async with host(way, environ, person) as client:
        declined = await client.call_tool("app_run_many", {"app": "sandbox/slow", "inputs": inputs})

    assert "sandbox/slow on 5 inputs may cost $0.05" in text_of(refused)
    assert ["Run sandbox/slow 5 times? It may cost up to $0.05."] == [message[:50] for message in person.asked]
    assert ["spend_limit_exceeded"] * 2 == [error(answer)["code"] for answer in (refused, declined)]
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_a_pinned_app_keeps_the_limit_too(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    async with host(way, environ, INFERENCE_PIN="sandbox/slow") as client:
        answer = await client.call_tool("slow", DEAR)

    assert "spend_limit_exceeded" == error(answer)["code"]
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_fifty_runs_at_once_start_only_what_is_within_the_limit_together(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Each may cost $0.01, and four of them the limit."""
    answers: list[Any] = []
    async with host(way, environ, INFERENCE_MAX_CONCURRENT_RUNS="50") as client, anyio.create_task_group() as group:

        async def start() -> None:
            answers.append(await run(client, "sandbox/slow", {"seconds": 1, "steps": 1}))

        for _ in range(50):
            group.start_soon(start)
        await until(lambda: len(answers) >= 46, within=60)

    refused = [answer for answer in answers if answer.is_error]
    live, most = set[str](), 0
    for change in upstream.sandbox.ledger.changes:
        (live.discard if change.status >= 10 else live.add)(change.task_id)
        most = max(most, len(live))
    assert most <= 4
    assert len(upstream.sandbox.ledger.starts) == 50 - len(refused)
    assert {"spend_limit_exceeded"} == {error(answer)["code"] for answer in refused}


@BOTH
async def test_fifty_dear_runs_at_once_start_nothing_unasked(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    answers: list[Any] = []
    async with host(way, environ, INFERENCE_MAX_CONCURRENT_RUNS="50") as client, anyio.create_task_group() as group:

        async def start() -> None:
            answers.append(await run(client, "sandbox/slow", DEAR))

        for _ in range(50):
            group.start_soon(start)

    assert {"spend_limit_exceeded"} == {error(answer)["code"] for answer in answers}
    assert () == upstream.sandbox.ledger.starts


@MODERN
async def test_one_agreement_starts_one_run_however_often_it_is_sent(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    results: list[Any] = []
    async with host(way, environ, Person("cancel")) as client:
        question = await send_round(client, "app_run", CALL)
        assert isinstance(question, InputRequiredResult)
        await anyio.sleep(0.35)  # nobody agrees faster

        async def agree() -> None:
            results.append(await send_round(client, "app_run", CALL, question))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(agree)
        again = await send_round(client, "app_run", CALL, question)

    assert 1 == len(upstream.sandbox.ledger.starts)
    assert 4 == sum(isinstance(result, InputRequiredResult) for result in results), "the others are asked anew"
    assert isinstance(again, InputRequiredResult)


@MODERN
async def test_an_agreement_is_not_accepted_for_another_input(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    dearer = CALL | {"input": {"seconds": 3600, "steps": 1}}
    async with host(way, environ, Person("cancel")) as client:
        question = await send_round(client, "app_run", CALL)
        assert isinstance(question, InputRequiredResult)
        with pytest.raises(MCPError):
            await send_round(client, "app_run", dearer, question)

    assert () == upstream.sandbox.ledger.starts


@over(Way("memory", "2026"))
async def test_an_agreement_is_not_accepted_for_another_price(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """The app became dearer while the person thought."""
    async with host(way, environ, Person("cancel")) as client:
        question = await send_round(client, "app_run", CALL)
        assert isinstance(question, InputRequiredResult)
        app = next(app for app in APPS if app.name == "slow")
        cheap = app.price
        object.__setattr__(app, "price", lambda inputs: cheap(inputs.model_copy(update={"seconds": 3600})))
        try:
            again = await send_round(client, "app_run", CALL, question)
        finally:
            object.__setattr__(app, "price", cheap)

    assert isinstance(again, InputRequiredResult)
    assert () == upstream.sandbox.ledger.starts


@BOTH
@pytest.mark.parametrize("strict", [False, True])
async def test_a_cost_that_is_not_known_counts_as_within_the_limit_unless_strict(
    way: Way, environ: dict[str, str], upstream: Upstream, strict: bool
) -> None:
    upstream.sandbox.faults.add(Status(code=400), path="/store/apps/*/estimate", times=-1)
    async with host(way, environ, INFERENCE_MAX_RUN_COST_STRICT=str(strict).lower()) as client:
        answer = await run(client, "sandbox/slow", DEAR, wait=False)

    assert strict == answer.is_error
    assert (0 if strict else 1) == len(upstream.sandbox.ledger.starts)
    assert not strict or "has a cost that is not known" in text_of(answer)


@BOTH
async def test_a_price_that_cannot_be_read_starts_nothing(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    upstream.sandbox.faults.add(Status(code=503), path="/store/apps/*/estimate", times=-1)
    async with host(way, environ) as client:
        answer = await run(client, "sandbox/slow", {"seconds": 0.1, "steps": 1})

    assert ("unavailable", "not_started") == (error(answer)["code"], error(answer)["outcome"])
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_without_a_limit_nobody_is_asked(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    person = Person("decline")
    async with connected(way, environ, elicitation_callback=person.answer) as client:
        await run(client, "sandbox/slow", DEAR, wait=False)

    assert [] == person.asked
    assert 1 == len(upstream.sandbox.ledger.starts)


@BOTH
async def test_a_host_that_accepts_at_once_asked_nobody(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    async def accept(_context: Any, _params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={})

    async with connected(way, environ | LIMIT, elicitation_callback=accept) as client:
        answer = await run(client, "sandbox/slow", DEAR, wait=False)

    assert "the person was not asked" in text_of(answer)
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_runs_that_nobody_follows_count_until_they_have_ended(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Each may cost $0.60, and four of them the limit. None ends meanwhile."""
    cheap = {"seconds": 60, "steps": 1}
    async with host(way, environ, INFERENCE_MAX_RUN_COST="2.4") as client:
        answers = [await run(client, "sandbox/slow", cheap, wait=False) for _ in range(8)]
        for answer in answers[:4]:
            await client.call_tool("task_cancel", {"task_id": payload(answer)["task_id"]})
        later = await run(client, "sandbox/slow", cheap, wait=False)

    assert [False] * 4 + [True] * 4 == [bool(answer.is_error) for answer in answers]
    assert not later.is_error
    assert 5 == len(upstream.sandbox.ledger.starts)


@BOTH
async def test_a_batch_that_is_handed_over_goes_on_counting(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    inputs = [{"seconds": 30, "steps": 1}] * 2
    async with host(way, environ, INFERENCE_WAIT_SECONDS="1", INFERENCE_MAX_RUN_COST="0.6") as client:
        batch = await client.call_tool("app_run_many", {"app": "sandbox/slow", "inputs": inputs})
        refused = await run(client, "sandbox/slow", {"seconds": 1, "steps": 1}, wait=False)

    assert not batch.is_error
    assert "spend_limit_exceeded" == error(refused)["code"]
    assert 2 == len(upstream.sandbox.ledger.starts)


@BOTH
async def test_a_run_that_costs_nothing_is_never_refused(way: Way, environ: dict[str, str], upstream: Upstream) -> None:
    """Also where what runs already uses up the limit."""
    async with host(way, environ) as client:
        for _ in range(4):
            await run(client, "sandbox/slow", {"seconds": 1, "steps": 1}, wait=False)
        free = await run(client, "sandbox/echo", {"message": "free"})

    assert not free.is_error
    assert 5 == len(upstream.sandbox.ledger.starts)


@MODERN
async def test_a_run_for_later_starts_after_the_person_agreed(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    """Its time is a span, which is another time in each round."""
    call = {"app": "sandbox/slow", "input": DEAR, "run_at": "2h"}
    async with host(way, environ, Person("cancel")) as client:
        question = await send_round(client, "app_run", call)
        assert isinstance(question, InputRequiredResult)
        await anyio.sleep(0.35)
        answer = await send_round(client, "app_run", call, question)

    assert not isinstance(answer, InputRequiredResult)
    assert "queued" == payload(answer)["status"]
    assert 1 == len(upstream.sandbox.ledger.starts)


@BOTH
async def test_a_least_cost_above_the_limit_is_not_taken_for_an_unknown_one(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    estimate = Status(
        code=200, headers={"content-type": "application/json"}, body='{"confidence": "range", "min": 500000000}'
    )
    upstream.sandbox.faults.add(estimate, path="/store/apps/*/estimate", times=-1)
    async with host(way, environ) as client:
        answer = await run(client, "sandbox/slow", {"seconds": 1, "steps": 1})

    assert "may cost $5 or more and the limit is $0.04" in text_of(answer)
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_a_declined_run_is_not_said_to_be_safe_to_repeat(
    way: Way, environ: dict[str, str], upstream: Upstream
) -> None:
    async with host(way, environ, Person("decline")) as client:
        answer = await run(client, "sandbox/slow", DEAR)

    assert error(answer)["retry_safe"] is False
    assert () == upstream.sandbox.ledger.starts


@BOTH
async def test_a_file_that_cannot_be_sent_fails_its_own_input_alone(
    way: Way, environ: dict[str, str], upstream: Upstream, folder: Path
) -> None:
    """With a limit, all files are uploaded before the first run starts."""
    (folder / "good.png").write_bytes(picture(8, 8))
    (folder / "bad.png").write_bytes(picture(9, 9))
    upstream.sandbox.faults.add(Status(code=400), path="/files", times=1)
    inputs = [{"image": str(folder / name)} for name in ("bad.png", "good.png")]
    async with host(way, environ) as client:
        batch = payload(
            await client.call_tool(
                "app_run_many", {"app": "sandbox/picture-info", "inputs": inputs, "max_concurrency": 1}
            )
        )

    assert [("error", None), ("completed", 8)] == [
        (row["status"], row.get("output", {}).get("width")) for row in batch["results"]
    ]
    assert 1 == len(upstream.sandbox.ledger.starts)
