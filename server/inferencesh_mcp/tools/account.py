"""The caller's account: what is left, what was spent, what makes runs wait, and what the key may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from inferencesh_mcp.context import Ctx, caller_of, shared_state
from inferencesh_mcp.errors import KeyMissing, KeyRefused
from inferencesh_mcp.flows.concurrency import both, optional_call
from inferencesh_mcp.sanitize import clean, label
from inferencesh_mcp.tools.define import tool
from inferencesh_mcp.tools.results import build_result
from inferencesh_mcp.tools.units import usd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeVar

    from inferencesh_mcp.api.costs import Balance, Credential, Limit, Spending

    T = TypeVar("T")

RANGES = (1, 7, 30, 90)
"""The periods, in days, over which the platform adds up."""
MAX_APPS = 20
MAX_DAYS = 14
MAX_SCOPES = 50
UNREADABLE = "could not be read: inference.sh did not answer, or the key lacks the scope billing:read"
APPROVALS = "approvals:write"


@tool("account", "Read the account", reads=True)
async def account(
    ctx: Ctx,
    days: Annotated[int, Field(ge=1, le=90, description="days of spending, 1 to 90; rounded up to 1, 7, 30 or 90")] = 7,
) -> CallToolResult:
    """Read the balance, spending by app and day, limits that make runs wait, and what the key may do."""
    billing = caller_of(ctx).api.billing
    period = next(length for length in RANGES if days <= length)
    (balance, spending), (limits, credential) = await both(
        lambda: both(_optional(billing.balance, "balance"), _optional(lambda: billing.spending(period), "spending")),
        lambda: both(_optional(billing.limits, "limits"), _optional(billing.credential, "credential")),
    )
    settings = shared_state(ctx).settings
    parts = [_balance(balance), _spending(spending, period), _limits(limits or ()), _credential(credential)]
    if settings.max_run_cost is not None:
        amount = f"${settings.max_run_cost}"
        parts.append(([f"A run may cost {amount} without asking the person."], {"max_run_cost": amount}))
    lines = [line for part, _ in parts for line in part]
    fields = {name: value for _, part in parts for name, value in part.items()}
    return build_result("\n".join(lines), fields)


def _optional(call: Callable[[], Awaitable[T]], purpose: str) -> Callable[[], Awaitable[T | None]]:
    return lambda: optional_call(call(), purpose, reraise=(KeyMissing, KeyRefused))


Part = tuple[list[str], dict[str, Any]]
"""The same as lines of text and as structured content."""


def _balance(balance: Balance | None) -> Part:
    if balance is None or balance.balance is None:
        return [f"Balance: {UNREADABLE}."], {"balance": UNREADABLE}
    balance_text = usd(balance.balance)
    return [f"Balance: {balance_text}"], {"balance": balance_text}


def _spending(spending: Spending | None, period: int) -> Part:
    name = f"the last {period} days" if period > 1 else "the last day"
    if spending is None:
        return [f"Spent in {name}: {UNREADABLE}."], {"days": period, "spent": UNREADABLE}
    apps = sorted(spending.per_model, key=lambda app: -(app.cost or 0))
    days = spending.timeseries[-MAX_DAYS:]
    spent = usd(spending.total_cost if spending.total_cost is not None else sum(app.cost or 0 for app in apps))
    by_app = [
        {"app": clean(app.app, 120), "cost": usd(app.cost or 0), "runs": app.call_count} for app in apps[:MAX_APPS]
    ]
    by_day = [{"date": clean(day.date, 20), "cost": usd(sum(filter(None, day.per_app.values())))} for day in days]
    lines = [
        f"Spent in {name}: {spent}",
        *(
            f"- {label(str(app['app']), 120)}: {app['cost']} for {app['runs']} run{'' if app['runs'] == 1 else 's'}"
            for app in by_app
        ),
        *(["By day: " + ", ".join(f"{label(day['date'], 20)} {day['cost']}" for day in by_day)] if by_day else []),
    ]
    return lines, {"days": period, "spent": spent, "by_app": by_app, "by_day": by_day}


def _limits(limits: Sequence[Limit]) -> Part:
    numbered = [limit for limit in limits if limit.enabled and not limit.unlimited and limit.limit is not None]
    fields = [{"resource": item.resource, "used": item.usage or 0, "limit": item.limit} for item in numbered]
    lines = [f"Limit {label(item.resource)}: {item.usage or 0:,} of {item.limit:,} in use" for item in numbered]
    full = [item for item in numbered if item.resource == "concurrency" and (item.usage or 0) >= (item.limit or 0)]
    if full:
        lines.append("As many runs as the plan allows are live: new ones wait in the queue.")
    return lines, {"limits": fields}


def _credential(credential: Credential | None) -> Part:
    if credential is None or not credential.scopes:
        return ["What this key may do could not be read."], {}
    decides = not {"*", APPROVALS}.isdisjoint(credential.scopes)
    scopes = [clean(scope, 60) for scope in credential.scopes[:MAX_SCOPES]]
    left_out = len(credential.scopes) - len(scopes)
    named = [*(label(scope, 60) for scope in scopes), *([f"{left_out} more"] if left_out else [])]
    note = "" if decides else " It cannot decide approvals of agents: a person does that on the platform's page."
    approvals_by = "the person decides, asked by this host" if decides else "the person decides, on the platform's page"
    fields = {"scopes": scopes, **({"more_scopes": left_out} if left_out else {}), "approvals": approvals_by}
    return [f"This key may: {', '.join(named)}.{note}"], fields


TOOLS = (account,)
