"""What the server does, in plain async functions that know neither MCP nor HTTP.

A flow takes the `Caller` it works for, calls its `Report` with progress, and returns how it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inferencesh_mcp.api.models import Task

if TYPE_CHECKING:
    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.flows.app_cache import AppCache
    from inferencesh_mcp.flows.approval_memory import ApprovalMemory
    from inferencesh_mcp.flows.local_files import Folders
    from inferencesh_mcp.flows.run_limits import ConcurrentRuns
    from inferencesh_mcp.flows.spend_limit import Confirm, SpendLimit


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sent a request: their key, the files they may reach, and the operator's settings for their runs."""

    api: Api
    principal: str
    """A hash that identifies the caller on every replica; never the credential itself (I-9)."""
    folders: Folders | None
    """None for a remote caller: no file that they name can be opened (I-14)."""
    app_cache: AppCache
    runs: ConcurrentRuns
    approvals: ApprovalMemory
    spend_limit: SpendLimit
    stream: bool
    poll_interval: float
    wait_seconds: float
    on_cancel: Literal["cancel", "keep"]
    confirm: Confirm | None = None
    """Asks the person about what may cost more than the limit; None if nobody can be asked."""
    address: str = ""
    """The network address of a caller with an unverified key: one address can have any number of principals."""


@dataclass(frozen=True)
class Transfer:
    """An upload or download: `done` of `size` bytes; `size` is None if it is not known."""

    verb: str
    name: str
    done: int
    size: int | None


@dataclass(frozen=True)
class BatchProgress:
    """A batch: `done` of `total` runs have ended, `live` have started; `latest` is the newest state of one of them."""

    done: int
    total: int
    latest: Task | Transfer | None
    live: int = 0


@dataclass(frozen=True)
class AgentProgress:
    """An agent at work: its chat, its running tool, and the end of its answer."""

    chat_id: str
    tool: str
    tail: str
    is_waiting: bool = False
    """Whether the tool waits for somebody's answer."""


State = Task | Transfer | BatchProgress | AgentProgress
Report = Callable[[State], None]
"""Called with each new state. It must return at once, and may drop all but the newest."""
