"""What is remembered, for how long, and by whom."""

from __future__ import annotations

import json

import pytest

from inferencesh_mcp.bounded import RecentSet
from inferencesh_mcp.flows import approval_memory
from inferencesh_mcp.flows.ownership import GIVEN_UP_SECONDS, StartRegistry
from tests.conftest import KEY, LOCAL, Connect, Upstream, callers
from tests.results import error, payload, run
from tests.support.faults import Status

pytestmark = pytest.mark.anyio


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.finding("B14")
def test_an_entry_is_forgotten_after_its_time() -> None:
    """Counted from when it was last added."""
    clock = Clock()
    recent = RecentSet[str](2, 10.0, clock)
    recent.add("a")
    clock.now += 5
    recent.add("b")
    clock.now += 4
    recent.add("a")
    clock.now += 6

    assert ["a"] == [item for item in "ab" if item in recent]
    recent.add("c")
    recent.add("d")
    assert ["c", "d"] == [item for item in "abcd" if item in recent]


@pytest.mark.finding("S5")
def test_a_lost_start_is_remembered_for_ten_minutes() -> None:
    clock = Clock()
    starts = StartRegistry(clock=clock)
    starts.begin("the same").give_up()
    later, other = starts.begin("the same"), starts.begin("something else")

    assert (False, True) == (later.may_adopt(["t"], complete=True), other.may_adopt(["t"], complete=True))
    clock.now += GIVEN_UP_SECONDS
    assert later.may_adopt(["t"], complete=True)
    assert not later.may_adopt(["t"], complete=False)
    assert not later.may_adopt(["t", "u"], complete=True)
    assert not later.may_adopt([], complete=True)
    starts.begin("the same")
    assert not later.may_adopt(["t"], complete=True)


@pytest.mark.finding("B14")
async def test_a_deleted_public_app_is_forgotten(environ: dict[str, str], upstream: Upstream) -> None:
    """Whoever hears of it first: it is not served from memory to the next."""
    async with callers(environ, KEY, f"{KEY}_other") as (first, other):
        assert "completed" == payload(await run(first, "sandbox/slow", {"seconds": 0}))["status"]
        upstream.sandbox.faults.add(Status(code=404), method="GET", path="/apps/sandbox/slow", times=-1)
        refused = await run(first, "sandbox/slow", {"seconds": "long"})  # does not fit: the app is read anew
        again = [await run(client, "sandbox/slow", {"seconds": 0}) for client in (first, other)]

    assert ["not_found"] * 3 == [error(result)["code"] for result in (refused, *again)]
    assert 1 == len(upstream.sandbox.ledger.starts)


@pytest.mark.finding("B14")
@pytest.mark.parametrize("way", LOCAL[:1], ids=str)
@pytest.mark.parametrize("seconds", [900.0, 0.0], ids=["for its time", "and not for ever"])
async def test_a_key_that_may_not_decide_is_not_tried_again_at_once(
    connect: Connect, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """What a key may do can be changed; the platform is asked again after a while."""
    monkeypatch.setattr(approval_memory, "SIGN_IN_SECONDS", seconds)
    async with connect(INFERENCE_APPROVALS="host") as client:
        where = []
        for _ in range(2):
            waiting = payload(
                await client.call_tool("agent_chat", {"message": "Draw a cat", "agent": "sandbox/approver"})
            )
            where.append({"chat_id": waiting["chat_id"], "invocation_id": waiting["pending"][0]["id"]})
        for item in where:
            await client.call_tool("chat_respond", item | {"decision": "accept"})

    requests = upstream.sandbox.ledger.requests("POST", "/tools/*/invoke")
    assert (1 if seconds else 2) == len(requests)


@pytest.mark.finding("D11")
@pytest.mark.parametrize("way", LOCAL[:1], ids=str)
async def test_a_variant_is_refused_if_the_app_has_none(connect: Connect, upstream: Upstream) -> None:
    """The newest platform knows no variants, and would run the app without."""
    app = "/apps/sandbox/echo"
    async with connect() as client:
        accepted = await run(client, "sandbox/echo", {"n": 1}, variant="default")
        wrong = await run(client, "sandbox/echo", {"n": 1}, variant="large")
        body = {"id": "a1", "namespace": "sandbox", "name": "echo", "version": {"id": "v1"}}
        upstream.sandbox.faults.add(Status(code=200, body=json.dumps(body)), path=app, times=-1)
        none = await run(client, "sandbox/echo@v1", {"n": 1}, variant="default")

    assert "completed" == payload(accepted)["status"]
    assert "variant must be one of default" in error(wrong)["message"]
    assert "this one has none" in error(none)["message"]
