"""The state of the server, and who is calling in one request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import CapacityLimiter
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp_types import ListRootsRequest, ListRootsResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.bounded import BoundedDict
from inferencesh_mcp.errors import KeyMissing
from inferencesh_mcp.flows import Caller
from inferencesh_mcp.flows.approval_memory import ApprovalMemory
from inferencesh_mcp.paths import from_uri, may_be_path

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from mcp.server.subscriptions import SubscriptionBus

    from inferencesh_mcp.api.transport import Transport
    from inferencesh_mcp.flows.app_cache import AppCache
    from inferencesh_mcp.flows.local_files import Folders
    from inferencesh_mcp.flows.run_limits import ConcurrentRuns
    from inferencesh_mcp.flows.spend_limit import SpendLimit
    from inferencesh_mcp.flows.subscription_watches import Watches
    from inferencesh_mcp.settings import Settings


MAX_PREVIEWS = 64  # cached previews, each of at most 100 kB

VISITOR = "inferencesh_mcp.visitor"
"""The key of the `Visitor` in the ASGI scope of an authenticated request."""

HERE = "here"
"""The principal of the person who started this process."""

ROOTS_TIMEOUT = 5.0  # seconds for the host to list its roots; without an answer only the settings count

# The embedded sandbox accepts this key, which may decide approvals. It must never get a real key.
SANDBOX_KEY = "inf_person_sandbox"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """State that lives as long as the server. Data of a caller in it is kept by principal."""

    settings: Settings
    transport: Transport
    folders: Folders
    app_cache: AppCache
    runs: ConcurrentRuns
    spend_limit: SpendLimit
    bus: SubscriptionBus
    """Events for subscribers of both protocol versions."""
    watches: Watches
    group: TaskGroup
    """For work that outlives its request. It is cancelled with the server."""
    approvals: ApprovalMemory = field(default_factory=ApprovalMemory)
    scaling: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    """Limits threads that scale pictures: each needs the memory of all pixels, and stdin and stdout need threads too."""
    previews: BoundedDict[tuple[str, str], Any] = field(
        default_factory=lambda: BoundedDict[tuple[str, str], Any](MAX_PREVIEWS)
    )
    """Previews by principal and URL, so that reading a task again does not download them again."""


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """The authenticated caller of a request over HTTP."""

    name: str
    """Their identity, the same on every replica: the hash of a key, or the name that the operator gave."""
    key: str | None = field(repr=False)
    """The key for inference.sh: theirs or the operator's, depending on the mode; None if a proxy adds one."""
    address: str = ""
    """Their network address if nobody vouches for their name: such a caller can invent any number of names."""

    @property
    def principal(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


Ctx = Context[Shared, Any]
"""The context of a tool call, with our state; the SDK's type parameter is invariant."""
Request = ServerRequestContext[Shared, Any]
"""The context of any other request."""


@dataclass(kw_only=True)
class TaskRequestContext(Request):
    """The context of a tool call whose client follows a long run as an MCP task: the tool starts it and does not wait."""


def as_mcp_task(request: Request) -> TaskRequestContext:
    """The same request, to be answered with an MCP task where that is possible."""
    return TaskRequestContext(**{item.name: getattr(request, item.name) for item in fields(request)})


def wants_mcp_task(ctx: Ctx) -> bool:
    """Whether this call starts a run without waiting for it, because its client follows it as an MCP task."""
    return isinstance(ctx.request_context, TaskRequestContext)


def shared_state(ctx: Ctx | Request) -> Shared:
    """The state of the server that a request came to."""
    return ctx.request_context.lifespan_context if isinstance(ctx, Context) else ctx.lifespan_context


def caller_of(ctx: Ctx | Request) -> Caller:
    """The caller of a request.

    On stdio and in memory it is the person who started this process, who may use this disk. Over HTTP it is the
    authenticated visitor with their own key; no other key replaces a missing one.
    """
    shared = shared_state(ctx)
    settings = shared.settings
    visitor = _visitor((ctx.request_context if isinstance(ctx, Context) else ctx).request)
    key = visitor.key if visitor else SANDBOX_KEY if settings.sandbox else _own_key(settings)
    principal = visitor.principal if visitor else HERE
    return Caller(
        api=Api(shared.transport, key, lambda: shared.app_cache.forget_private(principal)),
        principal=principal,
        address=visitor.address if visitor else "",
        folders=None if visitor else shared.folders,
        app_cache=shared.app_cache,
        runs=shared.runs,
        approvals=shared.approvals,
        spend_limit=shared.spend_limit,
        stream=settings.stream,
        poll_interval=settings.poll_interval_ms / 1000,
        wait_seconds=settings.wait_seconds,
        on_cancel=settings.on_cancel,
    )


def credentials_of(ctx: ServerRequestContext[Any, Any]) -> list[str]:
    """The credentials of a request over HTTP and its key for inference.sh, without the sandbox's key, which is no secret."""
    if ctx.request is None:
        return []
    visitor = ctx.request.scope.get(VISITOR)
    keys = [visitor.key] if isinstance(visitor, Visitor) and visitor.key else []
    header_values = [
        value.strip()
        for name in ("authorization", "x-inference-api-key")
        for value in ctx.request.headers.getlist(name)
    ]
    keys += [value.partition(" ")[2] or value for value in header_values]
    return [key for key in keys if key != SANDBOX_KEY]


def principal_of(ctx: ServerRequestContext[Any, Any]) -> str | None:
    """The owner of a sealed state: over HTTP the visitor, so that no other caller can use it (T-6)."""
    visitor = _visitor(ctx.request)
    return visitor.principal if visitor else None


def _visitor(request: Any) -> Visitor | None:
    """The visitor of a request; None on stdio and in memory.

    Raises:
        KeyMissing: it came over HTTP without authentication. It must not count as the person who started this process.
    """
    if request is None:
        return None
    visitor = request.scope.get(VISITOR)
    if not isinstance(visitor, Visitor):
        raise KeyMissing(message="The request was not authenticated by the HTTP server.", outcome="not_started")
    return visitor


def _own_key(settings: Settings) -> str | None:
    return settings.api_key.get_secret_value() if settings.api_key else None


async def caller_with_roots(ctx: Ctx, value: Any = "/") -> Caller:
    """The caller, who may also read the folders that the host opened: its roots, in the older protocol.

    The host is asked only if a text in `value` may be a path, because asking takes time.
    """
    caller = caller_of(ctx)
    capabilities = ctx.client_capabilities
    has_roots = ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS and capabilities and capabilities.roots
    if caller.folders is None or not has_roots or not _names_a_path(value):
        return caller
    roots = await _roots(ctx)
    return replace(caller, folders=await caller.folders.in_thread(caller.folders.with_roots, roots))


def _names_a_path(value: Any) -> bool:
    """Whether any text in a value could be a path."""
    if is_object(value):
        return any(_names_a_path(part) for part in value.values())
    if is_array(value):
        return any(_names_a_path(part) for part in value)
    return isinstance(value, str) and may_be_path(value)


async def _roots(ctx: Ctx) -> list[Path]:
    with anyio.move_on_after(ROOTS_TIMEOUT):
        try:
            result = await ctx.session.send_request(ListRootsRequest(), ListRootsResult)
        except (MCPError, ValidationError):
            return []
        return [Path(path) for root in result.roots if (path := from_uri(str(root.uri)))]
    return []
