"""For one request: whose key, and may it touch this disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter
from mcp.server.mcpserver import Context

from inferencesh_mcp.api import Api
from inferencesh_mcp.errors import KeyMissing
from inferencesh_mcp.flows import Caller
from inferencesh_mcp.flows.approval_details import DetailsMemory
from inferencesh_mcp.flows.bounded import RecentCache, RecentSet

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from mcp.server.context import ServerRequestContext
    from mcp.server.subscriptions import SubscriptionBus

    from inferencesh_mcp.api.transport import Transport
    from inferencesh_mcp.flows.app_cache import AppCache
    from inferencesh_mcp.flows.live_runs import LiveRuns
    from inferencesh_mcp.flows.local_files import Folders
    from inferencesh_mcp.flows.watch import Watches
    from inferencesh_mcp.settings import Settings


MOST_PREVIEWS = 64  # that are kept, each of at most 100 kB

VISITOR = "inferencesh_mcp.visitor"
"""Where the ASGI scope of a request that was let in holds its `Visitor`."""

HERE = "here"
"""The principal of whoever started this process: there is one."""

DECIDED_ELSEWHERE_SECONDS = 900.0
"""For so long a refused decision counts for the next ones: what a key may do can be changed, and nobody tells us."""

# The embedded sandbox takes any such key and must never be handed a real one; whoever tries it out may decide.
SANDBOX_KEY = "inf_person_sandbox"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What lives as long as the server. It holds no caller's data but public app schemas."""

    settings: Settings
    transport: Transport
    folders: Folders
    app_cache: AppCache
    runs: LiveRuns
    bus: SubscriptionBus
    """What changed, for whoever listens: the one bus of this server, in both eras."""
    watches: Watches
    group: TaskGroup
    """For work that outlives the request that began it; it ends with the server."""
    approval_details: DetailsMemory = field(default_factory=DetailsMemory)
    decided_elsewhere: RecentSet[str] = field(
        default_factory=lambda: RecentSet[str](4_096, seconds=DECIDED_ELSEWHERE_SECONDS)
    )
    """Callers whose key the platform lets answer nothing of a kind: they are sent to the page at once."""
    scaling: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    """Of threads that make pictures smaller: each takes the memory of all its pixels, and stdin and stdout need one too."""
    previews: RecentCache[tuple[str, str], Any] = field(
        default_factory=lambda: RecentCache[tuple[str, str], Any](MOST_PREVIEWS)
    )
    """By principal and address: each would be fetched again at every look at its task."""
    hands_over: bool = False
    """True for one call alone: its client follows what lasts by itself, so the tool starts it and does not wait."""


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Whoever sent a request over HTTP, as the face that let it in found out."""

    name: str
    """Who it is to this server, equal on every replica: of a key its hash, else the name that the operator knows."""
    key: str | None = field(repr=False)
    """What inference.sh is called with: theirs or the operator's, as the mode says; None where a proxy adds one."""
    address: str = ""
    """Where they called from, if nobody vouches for them: such a caller can make up any number of names."""

    @property
    def principal(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


Ctx = Context[Shared, Any]
"""The one spelling of the SDK's context: it is invariant in its parameter."""


def caller(ctx: Ctx) -> Caller:
    """Work out who is calling.

    On stdio and in memory it is the person who started this process, who may touch this disk. Over HTTP it is the
    visitor that was let in, with the key they were let in with: where there is none, nothing stands in for it.
    """
    shared = ctx.request_context.lifespan_context
    settings = shared.settings
    visitor = _visitor(ctx.request_context.request)
    key = visitor.key if visitor else SANDBOX_KEY if settings.sandbox else _own_key(settings)
    principal = visitor.principal if visitor else HERE
    return Caller(
        api=Api(shared.transport, key, lambda: shared.app_cache.forget_private(principal)),
        principal=principal,
        address=visitor.address if visitor else "",
        folders=None if visitor else shared.folders,
        app_cache=shared.app_cache,
        runs=shared.runs,
        stream=settings.stream,
        poll_interval=settings.poll_interval_ms / 1000,
        wait_seconds=settings.wait_seconds,
        on_cancel=settings.on_cancel,
    )


def credentials_of(ctx: ServerRequestContext[Any, Any]) -> list[str]:
    """What a request over HTTP was let in with, and what inference.sh is asked with for it; the sandbox's key is no secret."""
    if ctx.request is None:
        return []
    visitor = ctx.request.scope.get(VISITOR)
    keys = [visitor.key] if isinstance(visitor, Visitor) and visitor.key else []
    given = [
        value.strip()
        for name in ("authorization", "x-inference-api-key")
        for value in ctx.request.headers.getlist(name)
    ]
    keys += [value.partition(" ")[2] or value for value in given]
    return [key for key in keys if key != SANDBOX_KEY]


def principal_of(ctx: ServerRequestContext[Any, Any]) -> str | None:
    """Whom a sealed state belongs to: over HTTP the visitor, so that nobody else can answer with it (T-6)."""
    visitor = _visitor(ctx.request)
    return visitor.principal if visitor else None


def _visitor(request: Any) -> Visitor | None:
    """Who sent a request; None on stdio and in memory, where there is none.

    Raises:
        KeyMissing: it came over HTTP, and past the door. It must not be taken for the person who started this process.
    """
    if request is None:
        return None
    visitor = request.scope.get(VISITOR)
    if not isinstance(visitor, Visitor):
        raise KeyMissing(message="The request was not let in by the HTTP face.", outcome="not_started")
    return visitor


def _own_key(settings: Settings) -> str | None:
    return settings.api_key.get_secret_value() if settings.api_key else None
