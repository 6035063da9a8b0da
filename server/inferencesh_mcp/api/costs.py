"""Money and limits of the caller's account. Every amount is in microcents: 100,000,000 are one US dollar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AliasChoices, Field

from inferencesh_mcp.api.models import Page
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.wire import Amounts, Flag, Line, Many, Whole, Wire, Words, at_most, parsed

if TYPE_CHECKING:
    from inferencesh_mcp.api.sender import Sender

MAX_APPS = 1_000
"""Apps whose spending is read."""
MAX_DAYS = 100
"""Days whose spending is read; the longest period has 90."""


class TaskCost(Wire):
    """What a task was charged."""

    charged: Whole = None
    """None until the platform has settled it. While a task runs the balance is lower by a reservation, which is no charge."""


class Balance(Wire):
    balance: Whole = None


class AppSpending(Wire):
    """What one app cost in a period."""

    app: Line = Field(default="", validation_alias=AliasChoices("app_endpoint", "app"))
    call_count: Whole = 0
    cost: Whole = 0


class DaySpending(Wire):
    """What each app cost on one day."""

    date: Line = ""
    per_app: Amounts = Field(default_factory=dict)


class Spending(Wire):
    """What was spent in a period, by app and by day."""

    per_model: Annotated[Many[AppSpending], at_most(MAX_APPS)] = ()
    timeseries: Annotated[Many[DaySpending], at_most(MAX_DAYS)] = ()
    total_cost: Whole = None


class Limit(Wire):
    """A limit of the account's plan, and how much of it is used now."""

    resource: Line = ""
    enabled: Flag = True
    unlimited: Flag = False
    limit: Whole = None
    usage: Whole = Field(default=None, validation_alias=AliasChoices("usage", "current"))


class Credential(Wire):
    """Who the key belongs to, and what it may do."""

    scopes: Words = ()


class Billing:
    """Reads of one caller's account. Most need the scope `billing:read`."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def task_cost(self, task_id: str) -> TaskCost:
        return parsed(TaskCost, await self._sender.get(f"/tasks/{segment(task_id, 'task id')}/cost"))

    async def balance(self) -> Balance:
        """The balance as it was last calculated."""
        return parsed(Balance, await self._sender.get("/billing"))

    async def spending(self, days: int) -> Spending:
        """What was spent in the last 1, 7, 30 or 90 days."""
        return parsed(Spending, await self._sender.get(f"/usage/breakdown?range={days}d"))

    async def limits(self) -> tuple[Limit, ...]:
        return parsed(Page[Limit], await self._sender.get("/entitlements/usage")).items

    async def credential(self) -> Credential:
        return parsed(Credential, await self._sender.get("/me"))
