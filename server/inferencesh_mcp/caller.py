"""For one request: whose key, and may it touch this disk."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context

from inferencesh_mcp.api import Api
from inferencesh_mcp.flows import Caller

if TYPE_CHECKING:
    from inferencesh_mcp.api.transport import Transport
    from inferencesh_mcp.flows.catalogue import Catalogue
    from inferencesh_mcp.flows.folders import Folders
    from inferencesh_mcp.flows.starting import Live
    from inferencesh_mcp.settings import Settings


SANDBOX_KEY = "inf_sandbox"  # the embedded sandbox takes any such key, and must never be handed a real one


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What lives as long as the server. It holds no caller's data but public app schemas."""

    settings: Settings
    transport: Transport
    folders: Folders
    catalogue: Catalogue
    live: Live
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


Ctx = Context[Shared, Any]
"""The one spelling of the SDK's context: it is invariant in its parameter."""


def caller(ctx: Ctx) -> Caller:
    """Work out who is calling: on stdio and in memory, the person who started this process."""
    shared = ctx.request_context.lifespan_context
    settings = shared.settings
    key = SANDBOX_KEY if settings.sandbox else settings.api_key.get_secret_value() if settings.api_key else None
    return Caller(
        api=Api(shared.transport, key),
        principal=hmac.digest(shared.secret, (key or "").encode(), hashlib.sha256).hex(),
        folders=shared.folders,
        catalogue=shared.catalogue,
        live=shared.live,
        stream=settings.stream,
        poll_interval=settings.poll_interval_ms / 1000,
        wait_seconds=settings.wait_seconds,
        on_cancel=settings.on_cancel,
    )
