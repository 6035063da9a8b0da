"""MCP over HTTP: MCP on /mcp, stateless, for any number of callers and replicas.

`auth` says who may come in, `hosts` by which name, `gate` how many at once; `connections` cuts off who is too slow, and
`serving` starts and ends it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse

from inferencesh_mcp.flows.drain import Stopping
from inferencesh_mcp.http.auth import authenticator_for
from inferencesh_mcp.http.metrics import Metrics
from inferencesh_mcp.http.middleware import (
    LOOPBACK_HOSTS,
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
MOST_BODY_BYTES = (
    32 * 1024 * 1024
)  # of all requests that are read or worked on; once parsed each takes a few times that
MOST_STREAMS = 4_096  # open requests of everybody: more than a process has runs, and few enough for its memory


def create_app(server: MCPServer[Shared], settings: Settings, stopping: Stopping | None = None) -> ASGIApp:
    """The ASGI application: the SDK's, behind the names, the door and the limits that the settings choose.

    Raises:
        SettingsError: they do not go together.
    """
    stopping = stopping or Stopping()
    mcp = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,  # no session: any replica answers any request
        max_request_body_size=settings.max_body_bytes,
        # `HostOriginMiddleware` does this, on every route.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    authenticator = authenticator_for(settings)
    pages: dict[str, Page] = {
        "/healthz": lambda _: PlainTextResponse("ok"),
        "/readyz": lambda _: PlainTextResponse("stopping", 503) if stopping.announced else PlainTextResponse("ok"),
        **authenticator.pages(),
    }
    shares = RequestLimits(settings.max_streams, MOST_STREAMS)
    if settings.metrics_tokens:
        pages["/metrics"] = Metrics(server, Tokens(settings.metrics_tokens), shares).page
    gate = Router(
        TraceContextMiddleware(mcp) if settings.traces else mcp, authenticator, path=PATH, pages=pages, stopping=stopping,
        shares=shares, bodies=_bodies(settings), largest_body=settings.max_body_bytes,
    )  # fmt: skip
    return HostOriginMiddleware(
        gate, hosts=(*LOOPBACK_HOSTS, *settings.allowed_hosts), origins=settings.allowed_origins
    )


def _bodies(settings: Settings) -> BodyBudget:
    """Half of all for one source, and room for two of the longest messages."""
    most = max(MOST_BODY_BYTES // 2, settings.max_body_bytes)
    return BodyBudget(most, 2 * most)
