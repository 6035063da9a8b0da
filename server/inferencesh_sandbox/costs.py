"""Pretended money: what each ended task was charged, and what that adds up to. A tenant starts with ten dollars."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from inferencesh_sandbox.ids import stamp
from inferencesh_sandbox.tasks import Status
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from datetime import datetime

    from inferencesh_sandbox.tasks import Task
    from inferencesh_sandbox.tenants import Tenant

START_BALANCE = 1_000_000_000
"""Microcents: ten US dollars."""
RANGES = {"1h": 1 / 24, "1d": 1, "7d": 7, "30d": 30, "90d": 90}
"""The ranges of a breakdown, in days."""
CONCURRENCY = 1_000
"""The limit that is shown; the sandbox has none."""
SCOPES = ("agents", "apps", "conversations", "files", "flows", "billing:read", "user:read")
PERSON_SCOPES = (*SCOPES, "approvals:write")


def charge_of(task: Task) -> int | None:
    """What an ended task was charged, in microcents; None while it runs. A range is charged by the time that it ran."""
    if not task.ended:
        return None
    price = task.request.app.price(task.request.inputs)
    if price.confidence == "range":
        return min(price.most, price.least + round(price.per_second * _seconds_running(task)))
    return price.most if task.status is Status.COMPLETED else 0


def _seconds_running(task: Task) -> float:
    if task.running_since is None:
        return 0
    return (task.updated_at - task.running_since).total_seconds()


def cost_dto(task: Task) -> Json:
    """The answer to `GET /tasks/{id}/cost`. It has `charged` once the task is settled."""
    charged = charge_of(task)
    return {"task_id": task.id} | ({} if charged is None else {"charged": charged, "currency": "usd"})


def balance(tenant: Tenant) -> int:
    return START_BALANCE - sum(charge_of(task) or 0 for task in tenant.tasks)


def breakdown(tenant: Tenant, span: str, now: datetime) -> Json:
    """Spending by app and day in a range, as `GET /usage/breakdown` answers."""
    if span not in RANGES:
        raise Problem(400, "validation_error", f"range: must be one of {', '.join(RANGES)}")
    start = now - timedelta(days=RANGES[span])
    tasks = [task for task in tenant.tasks if task.ended and task.updated_at >= start]
    days = defaultdict[str, Counter[str]](Counter)
    calls, costs = Counter[str](), Counter[str]()
    for task in tasks:
        ref, charged = task.request.app.ref, charge_of(task) or 0
        days[task.updated_at.date().isoformat()][ref] += charged
        calls[ref] += 1
        costs[ref] += charged
    return {
        "timeseries": [{"date": day, "per_app": dict(spent)} for day, spent in sorted(days.items())],
        "per_model": [
            {"app_endpoint": ref, "call_count": calls[ref], "cost": cost} for ref, cost in costs.most_common()
        ],
        "models": sorted(costs),
        "total_cost": costs.total(),
        "period_start": stamp(start),
        "period_end": stamp(now),
    }


def entitlements(tenant: Tenant, *, usage: bool) -> list[Json]:
    """The limits of a tenant, and with `usage` how much of each is used."""
    row: Json = {
        "resource": "concurrency",
        "type": "limit",
        "enabled": True,
        "unlimited": False,
        "limit": CONCURRENCY,
        "source": "tier",
        "enforcement": "warn",
    }
    return [row | ({"usage": sum(not task.ended for task in tenant.tasks)} if usage else {})]
