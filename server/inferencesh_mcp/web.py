"""The HTTP face: MCP on /mcp for callers who each bring their own inference.sh key, stateless, any number of replicas.

A key is not an MCP access token: there is no protected-resource metadata, and it goes on to inference.sh with this
request and nowhere else (reliability D-1, mode http-byok).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse

from inferencesh_mcp.caller import key_of
from inferencesh_mcp.errors import KeyMissing, KeyRefused, SettingsError

if TYPE_CHECKING:
    from mcp.server import MCPServer
    from starlette.types import ASGIApp, Receive, Scope, Send

    from inferencesh_mcp.caller import Shared
    from inferencesh_mcp.settings import Settings

PATH = "/mcp"
LARGEST_BODY = 4 * 1024 * 1024  # bytes of one message
DRAIN = 10  # seconds for calls under way, once a signal came
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LOCAL_PAGES = [f"http://{host}{port}" for host in LOOPBACK for port in ("", ":*")]  # origins: no page from elsewhere


def serve(server: MCPServer[Shared], settings: Settings, *, host: str, port: int) -> None:
    """Serve until a signal comes.

    Raises:
        SettingsError: an address that others can reach, with no name they may reach it by.
    """
    if host not in {"127.0.0.1", "::1", "localhost"} and not settings.allowed_hosts:
        raise SettingsError(
            message=f"INFERENCE_ALLOWED_HOSTS must name the hosts this server is reached by, since {host} is not loopback."
        )
    uvicorn.run(
        face(server, settings),
        host=host, port=port, log_config=None, access_log=False, server_header=False, ws="none",
        timeout_graceful_shutdown=DRAIN,
    )  # fmt: skip


def face(server: MCPServer[Shared], settings: Settings) -> ASGIApp:
    """The ASGI application: the SDK's, behind a gate that asks for a key."""
    hosts = [name for host in (*LOOPBACK, *settings.allowed_hosts) for name in (host, f"{host}:*")]
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,  # no session: any replica answers any request
        max_request_body_size=LARGEST_BODY,
        transport_security=TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=LOCAL_PAGES),
    )
    return _Gate(app, needs_key=not settings.sandbox)


class _Gate:
    """Lets nobody through without something that may be a key; whether it is one, inference.sh says."""

    def __init__(self, app: ASGIApp, *, needs_key: bool) -> None:
        self._app = app
        self._needs_key = needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == "/healthz":
            await PlainTextResponse("ok")(scope, receive, send)
        elif scope["path"] == PATH and (refusal := self._refusal(scope)):
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        try:
            key = key_of(Headers(scope=scope))
        except KeyRefused as exc:
            return _unauthorized(exc)
        if key is None and self._needs_key:
            return _unauthorized(KeyMissing(message="No inference.sh key was sent."))
        return None


def _unauthorized(exc: KeyMissing | KeyRefused) -> JSONResponse:
    told = {
        "error": {"code": exc.code, "message": f"{exc} Send yours as Authorization: Bearer or X-Inference-Api-Key."}
    }
    return JSONResponse(told, status_code=401, headers={"WWW-Authenticate": "Bearer"})
