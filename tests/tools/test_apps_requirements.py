"""What an app needs before it runs: told by `app_get` and by a dry run, before anything is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from inferencesh_mcp.flows import concurrency
from inferencesh_sandbox import Facts, serving
from tests.conftest import Connect, Upstream
from tests.results import payload, run, text_of
from tests.support.faults import Fault, Stall, Status
from tests.support.sandbox import Sandbox
from tests.system.faults.hosts import MEMORY

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.finding("D4"),
    pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str),
]

FORMS = {"newest": Facts(), "older": Facts(named_integrations=True, versioned_answers=True)}
APP = "sandbox/needs-secret"
SECRET = '- "secret SANDBOX_API_KEY is missing" → Add the secret SANDBOX_API_KEY at https://inference.sh.'


@pytest.fixture(params=FORMS.values(), ids=FORMS)
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    sandbox = Sandbox(facts=request.param)
    async with serving(sandbox) as url:
        yield Upstream(sandbox, url)


async def test_app_get_lists_requirements_and_which_are_missing(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": APP})

    assert ["SANDBOX_API_KEY", "google"] == [item["key"] for item in payload(about)["missing"]]
    assert 'secret SANDBOX_API_KEY: "What needs-secret signs in with"' in payload(about)["needs"]
    text = text_of(about).split("\n")
    assert {"Missing in this account:", SECRET} <= set(text)
    assert not [line for line in text if line.startswith("Needs")], "what is missing is said once (M20)"
    assert '- "connect google" → Connect Google at https://inference.sh.' in text
    assert '  The provider\'s instructions: "Open **Settings**, then 1. make a key, 2. copy it."' in text
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/credentials/check"))


async def test_a_dry_run_lists_missing_requirements_and_starts_nothing(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        rehearsed = await run(client, APP, {"prompt": "x"}, dry_run=True)

    assert not rehearsed.is_error
    assert ["SANDBOX_API_KEY", "google"] == [item["key"] for item in payload(rehearsed)["output"]["missing"]]
    assert "A run would be refused, because this account lacks:" in text_of(rehearsed)
    assert SECRET in text_of(rehearsed)
    assert not upstream.sandbox.ledger.requests("POST", "/apps/run")


async def test_an_account_with_all_requirements_is_confirmed(connect: Connect, upstream: Upstream) -> None:
    json_ = {"content-type": "application/json"}
    satisfied = Status(code=200, headers=json_, body=json.dumps({"satisfied": True}))
    upstream.sandbox.faults.add(satisfied, path="/credentials/check", times=-1)
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": APP})
        rehearsed = await run(client, APP, {}, dry_run=True)

    assert "Needs (this account has all of it):" in text_of(about)
    assert "missing" not in payload(about)
    assert "lacks" not in text_of(rehearsed)


@pytest.mark.parametrize("fault", [Stall(), Status(code=403, error="insufficient_scope"), Status(code=200, body="?")])
async def test_a_failing_requirements_check_does_not_delay_the_answer(
    connect: Connect, upstream: Upstream, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "PATIENCE", 0.2)
    upstream.sandbox.faults.add(fault, path="/credentials/check", times=-1)
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": APP})
        rehearsed = await run(client, APP, {}, dry_run=True)

    assert "input_schema" in payload(about)
    assert "Needs (could not be checked):" in text_of(about)
    assert "The input is valid." in text_of(rehearsed)


async def test_an_app_without_requirements_is_not_checked(connect: Connect, upstream: Upstream) -> None:
    async with connect() as client:
        await client.call_tool("app_get", {"app": "sandbox/echo"})
        await run(client, "sandbox/echo", {"a": 1}, dry_run=True)

    assert not upstream.sandbox.ledger.requests("POST", "/credentials/check")
