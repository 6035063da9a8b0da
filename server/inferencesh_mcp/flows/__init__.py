"""What the bridge does, in plain async functions that know neither MCP nor HTTP.

A flow takes the `Caller` it works for, tells what happens to its `Report`, and returns how it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inferencesh_mcp.api.models import Task

if TYPE_CHECKING:
    from inferencesh_mcp.api import Api
    from inferencesh_mcp.flows.app_cache import AppCache
    from inferencesh_mcp.flows.live_runs import LiveRuns
    from inferencesh_mcp.flows.local_files import Folders


@dataclass(frozen=True, kw_only=True)
class Caller:
    """For one request: whose key, may it touch this disk, and what the operator decided about its runs."""

    api: Api
    principal: str
    """A hash that names the caller in maps and on every replica alike, never the credential itself (I-9)."""
    folders: Folders | None
    """None for whoever calls from elsewhere: then there is no way to open a file they name (I-14)."""
    app_cache: AppCache
    runs: LiveRuns
    stream: bool
    poll_interval: float
    wait_seconds: float
    on_cancel: Literal["cancel", "keep"]
    address: str = ""
    """Where a caller called from whom nobody vouches for: one address can have any number of principals."""


@dataclass(frozen=True)
class Transfer:
    """Bytes on their way: `done` of `size`, which is None where the other side did not say."""

    verb: str
    name: str
    done: int
    size: int | None


@dataclass(frozen=True)
class BatchProgress:
    """A batch on its way: `done` of `total` are over; `latest` is the last that was heard of."""

    done: int
    total: int
    latest: Task | Transfer | None


@dataclass(frozen=True)
class AgentProgress:
    """An agent at work: in which chat, with which tool, and the end of what it says."""

    chat_id: str
    tool: str
    tail: str


State = Task | Transfer | BatchProgress | AgentProgress
Report = Callable[[State], None]
"""Told of each new state; must return at once, and may forget all but the latest."""
