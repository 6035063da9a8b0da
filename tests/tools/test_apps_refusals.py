"""The platform's own codes for what it refuses: each has a next step of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Connect, Upstream
from tests.results import error, run, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import MEMORY

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.finding("D9"),
    pytest.mark.parametrize("way", MEMORY, indirect=True, ids=str),
]

AT = "https://inference.sh"
PROBLEM = {"content-type": "application/problem+json"}


def refusal(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> Status:
    problem = {
        "type": f"https://api.inference.sh/errors/{code}",
        "title": "T",
        "status": status,
        "detail": "no",
        **more,
    }
    return Status(code=status, headers=PROBLEM | (headers or {}), body=json.dumps(problem))


LIMIT = {"resource": "concurrency", "resource_label": "Concurrent runs", "limit": 3, "current": 3,
         "upgrade_available": True, "addon_plan_name": "More runs"}  # fmt: skip
FREE = f"Use less, or wait; a person can raise the limit at {AT}."
STEPS = [
    (402, "payment_method_required", {"meta": {"billing_page": "x"}}, f"A person has to add a way to pay at {AT}; then call again."),
    (402, "payment_required", {}, f"Add credit at {AT}, then call again."),
    (402, "limit_exceeded", {"meta": LIMIT}, f"{FREE} Limit: Concurrent runs, 3 of 3 used. Offered plan: More runs."),
    (402, "limit_exceeded", {"meta": {"limit": None, "resource": 7}}, FREE),
    (403, "feature_not_available", {"meta": {"resource_label": "Webhooks"}}, f"The plan does not include this: a person can change it at {AT}. Limit: Webhooks."),
    (403, "team_role_required", {"meta": {"required_role": "admin"}}, "Ask a person with that role in the workspace, or ask for the role. Role: admin."),
    (403, "blocked_by_usage_policy", {}, "Ask for something else, or ask the workspace's owner to change its usage policy."),
    (403, "person_required", {}, f"A person has to do this, signed in at {AT}."),
    (403, "account_banned", {}, f"Only inference.sh can lift this: the account's owner writes to its support at {AT}."),
    (401, "account_deactivated", {}, f"Only inference.sh can lift this: the account's owner writes to its support at {AT}."),
    (403, "insufficient_scope", {"meta": {"required_scope": "apps:execute"}},
     f"Use a key with that scope; keys are made in the dashboard at {AT}. Scope: apps:execute."),
    (403, "requires_sign_in", {"required_scope": "approvals:write"}, f"A person has to do this, signed in at {AT}. Scope: approvals:write."),
    (409, "already_exists", {}, "Choose another name, or use the existing one."),
    (409, "name_conflict", {}, "Choose another name, or use the existing one."),
    (410, "app_retired", {}, "The app no longer exists: find another with app_list."),
    (401, "mcp_auth_expired", {}, f"A person has to connect that MCP server again at {AT}."),
    (409, "remote_offline", {}, "Start the remote machine and its program, or run this elsewhere."),
    (403, "agents_disabled", {}, "Agents are switched off in this workspace; ask its owner to allow them."),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "more", "step"), STEPS, ids=[f"{step[0]} {step[1]}" for step in STEPS])
async def test_each_code_has_its_own_next_step(
    connect: Connect, upstream: Upstream, status: int, code: str, more: dict[str, Any], step: str
) -> None:
    upstream.sandbox.faults.add(refusal(status, code, **more), path="/apps/run", times=-1)
    async with connect() as client:
        refused = await run(client, "sandbox/echo", {})

    assert (code, step) == (error(refused)["upstream_code"], error(refused)["next"])
    assert ("not_started", True) == (error(refused)["outcome"], error(refused)["retry_safe"])
    assert f"Next: {step}" in text_of(refused)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/apps/run"))


@pytest.mark.parametrize("headers", [{}, {"retry-after": "1"}], ids=["without Retry-After", "with Retry-After"])
async def test_an_app_under_maintenance_is_not_retried_silently(
    connect: Connect, upstream: Upstream, headers: dict[str, str]
) -> None:
    upstream.sandbox.faults.add(refusal(503, "app_maintenance", headers), path="/apps/run", times=-1)
    upstream.sandbox.faults.add(refusal(503, "app_maintenance", headers), path="/apps/sandbox/draw", times=-1)
    async with connect() as client:
        refused = await run(client, "sandbox/echo", {})
        unread = await client.call_tool("app_get", {"app": "sandbox/draw"})

    failure = error(refused)
    assert ("unavailable", "not_started", True) == (failure["code"], failure["outcome"], failure["retry_safe"])
    assert failure["next"].startswith("The app is in maintenance: call again later, or choose another with app_list.")
    assert ("It asks to wait 1 s." in failure["next"]) == bool(headers)
    assert error(unread)["upstream_code"] == "app_maintenance"
    ledger = upstream.sandbox.ledger
    assert (1, 1) == (len(ledger.requests("POST", "/apps/run")), len(ledger.requests("GET", "/apps/sandbox/draw")))


async def test_a_providers_notes_on_a_requirement_are_one_line_each(connect: Connect, upstream: Upstream) -> None:
    action = {
        "type": "add_secret",
        "secrets": ["A_KEY", "B_KEY"],
        "instructions": "# How\n\nOpen **it**.\u202e\n" + "x" * 5_000,
        "provider_website": "javascript:alert(1)",
        "scope_descriptions": {"read": "Read\nthings", "odd": 7},
    }
    missing = [{"type": "secret", "key": "A_KEY", "message": "two secrets are missing", "action": action}]
    upstream.sandbox.faults.add(refusal(412, "requirements_not_met", errors=missing), path="/apps/run", times=-1)
    async with connect() as client:
        refused = await run(client, "sandbox/echo", {})

    (need,) = error(refused)["requirements"]
    assert f"Add the secrets A_KEY, B_KEY at {AT}." == need["action"]
    scope, instructions = need["details"]
    assert 'Scope read: "Read things"' == scope
    assert instructions.startswith("The provider's instructions: \"# How Open **it**.\ufffd xxx")
    assert len(instructions) < 300
    assert f"  {scope}\n  {instructions}\n" in text_of(refused)
