"""For one request: whose key, and may it touch this disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import anyio
from anyio import CapacityLimiter
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp_types import ListRootsRequest, ListRootsResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.api import Api
from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.errors import KeyMissing
from inferencesh_mcp.flows import Caller
from inferencesh_mcp.flows.approval_details import DetailsMemory
from inferencesh_mcp.flows.bounded_set import Recent, Remembered

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from mcp.server.subscriptions import SubscriptionBus

    from inferencesh_mcp.api.transport import Transport
    from inferencesh_mcp.flows.app_cache import Catalogue
    from inferencesh_mcp.flows.local_files import Folders
    from inferencesh_mcp.flows.start import Live
    from inferencesh_mcp.flows.watch import Watching
    from inferencesh_mcp.settings import Settings


MOST_PREVIEWS = 64  # that are kept, each of at most 100 kB

VISITOR = "inferencesh_mcp.visitor"
"""Where the ASGI scope of a request that was let in holds its `Visitor`."""

HERE = "here"
"""The principal of whoever started this process: there is one."""

DECIDED_ELSEWHERE_SECONDS = 900.0
"""For so long a refused decision counts for the next ones: what a key may do can be changed, and nobody tells us."""

ROOTS_TIMEOUT = 5.0  # seconds for the host to list its roots; without an answer only the settings count

# The embedded sandbox takes any such key and must never be handed a real one; whoever tries it out may decide.
SANDBOX_KEY = "inf_person_sandbox"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What lives as long as the server. It holds no caller's data but public app schemas."""

    settings: Settings
    transport: Transport
    folders: Folders
    catalogue: Catalogue
    live: Live
    bus: SubscriptionBus
    """What changed, for whoever listens: the one bus of this server, in both eras."""
    watching: Watching
    group: TaskGroup
    """For work that outlives the request that began it; it ends with the server."""
    approval_details: DetailsMemory = field(default_factory=DetailsMemory)
    decided_elsewhere: Remembered[str] = field(
        default_factory=lambda: Remembered[str](4_096, seconds=DECIDED_ELSEWHERE_SECONDS)
    )
    """Callers whose key the platform lets answer nothing of a kind: they are sent to the page at once."""
    scaling: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    """Of threads that make pictures smaller: each takes the memory of all its pixels, and stdin and stdout need one too."""
    previews: Recent[tuple[str, str], Any] = field(default_factory=lambda: Recent[tuple[str, str], Any](MOST_PREVIEWS))
    """By principal and address: each would be fetched again at every look at its task."""


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


@dataclass(kw_only=True)
class TaskRequestContext(ServerRequestContext[Shared, Any]):
    """The context of a tool call whose client follows a long run as an MCP task: the tool starts it and does not wait."""


def as_mcp_task(request: ServerRequestContext[Shared, Any]) -> TaskRequestContext:
    """The same request, to be answered with an MCP task where that is possible."""
    return TaskRequestContext(**{item.name: getattr(request, item.name) for item in fields(request)})


def wants_mcp_task(ctx: Ctx) -> bool:
    """Whether this call starts a run without waiting for it, because its client follows it as an MCP task."""
    return isinstance(ctx.request_context, TaskRequestContext)


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
        api=Api(shared.transport, key, lambda: shared.catalogue.forget_private(principal)),
        principal=principal,
        address=visitor.address if visitor else "",
        folders=None if visitor else shared.folders,
        catalogue=shared.catalogue,
        live=shared.live,
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


async def caller_with_roots(ctx: Ctx, value: Any = "/") -> Caller:
    """The caller, who may also read the folders that the host opened: its roots, in the older protocol.

    The host is asked only if a text in `value` may be a path, because asking takes time.
    """
    who = caller(ctx)
    capabilities = ctx.client_capabilities
    has_roots = ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS and capabilities and capabilities.roots
    if who.folders is None or not has_roots or not _names_a_path(value):
        return who
    return replace(who, folders=who.folders.with_roots(await _roots(ctx)))


def _names_a_path(value: Any) -> bool:
    """Whether any text in a value could be a path."""
    from inferencesh_mcp.flows.file_sources import may_be_path  # late: most calls name no file

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
        return [Path(unquote(urlsplit(str(root.uri)).path)) for root in result.roots]
    return []
