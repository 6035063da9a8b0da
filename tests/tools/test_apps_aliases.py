"""An app by an older name, which may pin a function of the app that it leads to."""

from __future__ import annotations

import json

import pytest

from inferencesh_sandbox import catalogue
from tests.conftest import LOCAL, Connect, Upstream
from tests.results import error, payload, run, text_of
from tests.support.faults import Status

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.finding("D7"),
    pytest.mark.parametrize("way", LOCAL[:1], ids=str),
]


async def test_an_alias_is_checked_against_the_function_it_pins(connect: Connect, upstream: Upstream) -> None:
    """Described, checked and priced as what will run: not as the app's default, which takes no field at all."""
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": "sandbox/increment"})
        wrong = await run(client, "sandbox/increment", {"amount": 2})
        right = await run(client, "sandbox/increment", {"key": "k", "amount": 2}, session="new")
        dry = await run(client, "sandbox/increment", {"key": "k"}, dry_run=True)
        other = await run(client, "sandbox/increment:get_all", {})

    assert "key*: text" in text_of(about)
    assert "'key' is missing" in error(wrong)["message"]
    assert 2 == payload(right)["output"]["current"]
    assert not dry.is_error
    assert not other.is_error, "a function that is named counts more than one that is pinned"
    functions = [task.request.function.name for tenant in upstream.sandbox.tenants for task in tenant.tasks]
    assert ["increment", "get_all"] == functions


async def test_an_alias_without_a_pinned_function_uses_the_default(connect: Connect, upstream: Upstream) -> None:
    """The older shape of the same answer: then the app's default function is what there is to go by."""
    app = catalogue.find_app("sandbox/increment")
    card = catalogue.app_dto(app, version_id=app.version_ids[0])
    assert "resolved_function" not in card
    upstream.sandbox.faults.add(Status(code=200, body=json.dumps(card)), path="/apps/sandbox/increment", times=-1)
    async with connect() as client:
        wrong = await run(client, "sandbox/increment", {"key": "k"})
        named = await run(client, "sandbox/increment:increment", {"key": "k"}, session="new")

    assert "'key' is not a field" in error(wrong)["message"]
    assert 1 == payload(named)["output"]["current"]
