"""For one request: whose key, and may it touch this disk."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context

from inferencesh_mcp.api import Api
from inferencesh_mcp.errors import KeyRefused
from inferencesh_mcp.flows import Caller
from inferencesh_mcp.flows.remembering import Remembered

# Tokens of other services, and signed ones (JWT): plainly not ours (reliability D-1).
_FOREIGN = re.compile(r"ghp_|github_pat_|gho_|sk-|xox|[\w-]+\.[\w-]+\.[\w-]+$")
_KEY = re.compile(r"[\x21-\x7e]{1,512}")

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskGroup
    from mcp.server.context import ServerRequestContext
    from mcp.server.subscriptions import SubscriptionBus

    from inferencesh_mcp.api.transport import Transport
    from inferencesh_mcp.flows.catalogue import Catalogue
    from inferencesh_mcp.flows.folders import Folders
    from inferencesh_mcp.flows.starting import Live
    from inferencesh_mcp.flows.watching import Watching
    from inferencesh_mcp.settings import Settings


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
    decided_elsewhere: Remembered[str] = field(default_factory=lambda: Remembered[str](4_096))
    """Principals whose key the platform lets decide nothing: they are sent to the page at once."""
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


Ctx = Context[Shared, Any]
"""The one spelling of the SDK's context: it is invariant in its parameter."""


def caller(ctx: Ctx) -> Caller:
    """Work out who is calling.

    On stdio and in memory it is the person who started this process, who may touch this disk. Over HTTP it is whoever
    sent the request, with their own key and nothing else: a missing key never becomes the operator's.

    Raises:
        KeyRefused: what was sent is plainly no key of inference.sh.
    """
    shared = ctx.request_context.lifespan_context
    settings = shared.settings
    remote = ctx.headers is not None
    key = key_of(ctx.headers) if ctx.headers is not None else _own_key(settings)
    if settings.sandbox and (key is None or not remote):
        key = SANDBOX_KEY
    return Caller(
        api=Api(shared.transport, key),
        principal=hmac.digest(shared.secret, (key or "").encode(), hashlib.sha256).hex(),
        folders=None if remote else shared.folders,
        catalogue=shared.catalogue,
        live=shared.live,
        stream=settings.stream,
        poll_interval=settings.poll_interval_ms / 1000,
        wait_seconds=settings.wait_seconds,
        on_cancel=settings.on_cancel,
    )


def principal_of(ctx: ServerRequestContext[Any, Any]) -> str | None:
    """Whom a sealed state belongs to: over HTTP whoever holds the key, so that nobody else can answer with it (T-6)."""
    headers = getattr(ctx.request, "headers", None)
    key = key_of(headers) if headers is not None else None
    return hashlib.sha256(key.encode()).hexdigest() if key else None


def _own_key(settings: Settings) -> str | None:
    return settings.api_key.get_secret_value() if settings.api_key else None


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request carries, as `Authorization: Bearer` or `X-Inference-Api-Key`; None where there is none.

    Raises:
        KeyRefused: two that differ, no bearer, or the token of somebody else's service: it must not leave this process.
    """
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    own = headers.get("x-inference-api-key", "").strip()
    if scheme and scheme.lower() != "bearer":
        raise KeyRefused(message="Authorization must be a Bearer.", outcome="not_started")
    keys = {key for key in (bearer.strip(), own) if key}
    if len(keys) > 1:
        raise KeyRefused(message="The request carries two keys that differ.", outcome="not_started")
    key = keys.pop() if keys else None
    if key and (_FOREIGN.match(key) or not _KEY.fullmatch(key)):
        raise KeyRefused(message="That is not a key of inference.sh.", outcome="not_started")
    return key
