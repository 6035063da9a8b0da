"""The ASGI application: MCP on /mcp, stateless, for any number of callers and replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse

from inferencesh_mcp.context import SANDBOX_KEY
from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.flows.run_limits import Drain
from inferencesh_mcp.http import tokens
from inferencesh_mcp.http.auth import CallerKeyAuthenticator, GatewayTokenAuthenticator
from inferencesh_mcp.http.metrics import Metrics
from inferencesh_mcp.http.middleware import HostOriginMiddleware, Router, TraceContextMiddleware, UsageLimit

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from starlette.types import ASGIApp

    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.http.auth import Authenticator
    from inferencesh_mcp.http.refusal import Page
    from inferencesh_mcp.settings import Settings

PATH = "/mcp"
MAX_BODY_BYTES = 32 * 1024 * 1024  # held for all open requests; once parsed, a message takes a few times its bytes
MAX_STREAMS = 4_096  # open requests of all callers: more than a process has runs, and few enough for its memory


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
        # HostOriginMiddleware does it: the SDK checks this route alone, and takes any text for a port.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    authenticator = authenticator_for(settings)
    pages: dict[str, Page] = {
        "/healthz": lambda _: PlainTextResponse("ok"),
        "/readyz": lambda _: PlainTextResponse("stopping", 503) if drain.refuses_calls else PlainTextResponse("ok"),
        **authenticator.pages(),
    }
    requests = _requests(settings)
    if settings.metrics_tokens:
        pages["/metrics"] = Metrics(server, tokens.Tokens(settings.metrics_tokens), requests).page
    router = Router(
        mcp=TraceContextMiddleware(mcp) if settings.traces else mcp,
        path=PATH,
        pages=pages,
        authenticator=authenticator,
        drain=drain,
        requests=requests,
        body_bytes=_body_bytes(settings),
        max_body_bytes=settings.max_body_bytes,
    )
    return HostOriginMiddleware(router, hosts=settings.allowed_hosts, origins=settings.allowed_origins)


def _requests(settings: Settings) -> UsageLimit:
    message = f"You have {settings.max_streams} requests open, the most allowed. Wait for one to end."
    return UsageLimit(settings.max_streams, MAX_STREAMS, message)


def _body_bytes(settings: Settings) -> UsageLimit:
    """One source may hold half of all bytes. There is room for two messages of the longest kind."""
    limit = max(MAX_BODY_BYTES // 2, settings.max_body_bytes)
    return UsageLimit(limit, 2 * limit, f"Your open requests hold {limit} bytes, the most allowed. Try again later.")


def authenticator_for(settings: Settings) -> Authenticator:
    """The authenticator that the settings choose.

    Raises:
        SettingsError: they belong to several modes, or are incomplete.
    """
    _refuse_mixed_modes(settings)
    if settings.http_auth == "caller":
        return CallerKeyAuthenticator(settings.http_key_prefixes, default_key=SANDBOX_KEY if settings.sandbox else None)
    key = _operators_key(settings)
    if settings.http_auth == "tokens":
        return GatewayTokenAuthenticator(tokens.read(settings.http_tokens, settings.http_tokens_file), key)
    from inferencesh_mcp.http.oauth import OAuthAuthenticator  # late: the other modes need no cryptography

    return OAuthAuthenticator(settings, key)


def _refuse_mixed_modes(settings: Settings) -> None:
    for mode, names in (
        ("caller", ("http_key_prefixes",)),
        ("tokens", ("http_tokens", "http_tokens_file")),
        ("oauth", ("oauth_issuer", "oauth_resource", "oauth_jwks_url", "oauth_scopes")),
    ):
        misplaced = [name for name in names if getattr(settings, name)] if mode != settings.http_auth else []
        if misplaced:
            raise SettingsError(
                message=f"INFERENCE_{misplaced[0].upper()} needs INFERENCE_HTTP_AUTH={mode}, "
                f"but INFERENCE_HTTP_AUTH is {settings.http_auth}."
            )


def _operators_key(settings: Settings) -> str | None:
    """The key that all callers share; None if the operator's proxy adds it."""
    if settings.sandbox:
        return SANDBOX_KEY
    if settings.api_key is None and settings.proxy_url is None:
        raise SettingsError(
            message=f"INFERENCE_API_KEY must be set: with INFERENCE_HTTP_AUTH={settings.http_auth} all callers use the operator's."
        )
    return settings.api_key.get_secret_value() if settings.api_key else None
