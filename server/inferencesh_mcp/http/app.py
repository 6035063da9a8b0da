"""The ASGI application: MCP on /mcp, stateless, for any number of callers and replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse

from inferencesh_mcp.flows.run_limits import Drain
from inferencesh_mcp.http.auth import authenticator_for
from inferencesh_mcp.http.metrics import Metrics
from inferencesh_mcp.http.middleware import (
    BodyBudget,
    HostOriginMiddleware,
    RequestLimits,
    Router,
    TraceContextMiddleware,
)
from inferencesh_mcp.http.tokens import Tokens

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from starlette.types import ASGIApp

    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.http.middleware import Page
    from inferencesh_mcp.settings import Settings

PATH = "/mcp"
MOST_BODY_BYTES = 32 * 1024 * 1024  # held for all open requests; once parsed, a message takes a few times its bytes
MOST_STREAMS = 4_096  # open requests of all callers: more than a process has runs, and few enough for its memory


def create_app(server: MCPServer[Shared], settings: Settings, drain: Drain | None = None) -> ASGIApp:
    """The ASGI application: the SDK's, behind the host check, authentication and limits that the settings choose.

    Raises:
        SettingsError: the settings contradict each other.
    """
    drain = drain or Drain()
    mcp = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,  # no session: any replica answers any request
        max_request_body_size=settings.max_body_bytes,
        # HostOriginMiddleware checks this on every route
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    authenticator = authenticator_for(settings)
    pages: dict[str, Page] = {
        "/healthz": lambda _: PlainTextResponse("ok"),
        "/readyz": lambda _: PlainTextResponse("stopping", 503) if drain.refuses_calls else PlainTextResponse("ok"),
        **authenticator.pages(),
    }
    limits = RequestLimits(settings.max_streams, MOST_STREAMS)
    if settings.metrics_tokens:
        pages["/metrics"] = Metrics(server, Tokens(settings.metrics_tokens), limits).page
    router = Router(
        TraceContextMiddleware(mcp) if settings.traces else mcp, authenticator, path=PATH, pages=pages, drain=drain,
        limits=limits, body_budget=_body_budget(settings), largest_body=settings.max_body_bytes,
    )  # fmt: skip
    return HostOriginMiddleware(router, hosts=settings.allowed_hosts, origins=settings.allowed_origins)


def _body_budget(settings: Settings) -> BodyBudget:
    """One source may hold half of all bytes. There is room for two messages of the longest kind."""
    per_source = max(MOST_BODY_BYTES // 2, settings.max_body_bytes)
    return BodyBudget(per_source, 2 * per_source)
