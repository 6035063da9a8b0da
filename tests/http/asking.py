"""The HTTP face as plain requests see it: what is sent is said byte by byte, and what came of it upstream is looked up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from inferencesh_mcp.flows.run_limits import Drain
from inferencesh_mcp.http.app import create_app
from inferencesh_mcp.http.server import uvicorn_config
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_sandbox.server import EmbeddedServer
from tests.conftest import guest
from tests.support.sandbox import Sandbox

MODERN, LEGACY = "2026-07-28", "2025-11-25"
ERAS = (MODERN, LEGACY)


@dataclass(frozen=True)
class Face:
    """A server that listens, what is behind it, and somebody whom it lets in."""

    url: str
    sandbox: Sandbox
    http: httpx2.AsyncClient
    headers: dict[str, str]
    drain: Drain
    server: EmbeddedServer

    def open(self) -> int:
        """How many requests are being worked on."""
        return len(self.server.server_state.tasks)

    @property
    def port(self) -> int:
        return httpx2.URL(self.url).port or 0

    def asked(self) -> list[str]:
        """The fingerprint of the key of each request that went upstream so far."""
        return [entry.caller for entry in self.sandbox.ledger.requests()]

    async def ask(self, method: str = "tools/list", era: str = MODERN, **told: Any) -> httpx2.Response:
        """Send one MCP request; `headers` stand in for those of whoever is let in."""
        theirs = told.pop("headers", self.headers)
        more = told.pop("more", {})
        headers, message = envelope(method, era, **told)
        sent = [*headers.items(), *(theirs.items() if isinstance(theirs, dict) else theirs), *more.items()]
        return await self.http.post(f"{self.url}/mcp", headers=sent, content=message)

    async def call(self, tool: str, era: str = MODERN, **told: Any) -> Any:
        """What a tool answered with, as a value."""
        headers = told.pop("headers", self.headers)
        response = await self.ask("tools/call", era, name=tool, arguments=told, headers=headers)
        assert 200 == response.status_code, response.text
        return result_of(response)

    def seen_by(self, headers: dict[str, str]) -> Face:
        return replace(self, headers=headers)


def envelope(method: str, era: str, *, number: Any = 1, **params: Any) -> tuple[dict[str, str], bytes]:
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json",
               "mcp-protocol-version": era}  # fmt: skip
    if era == MODERN:
        told = {"protocolVersion": MODERN, "clientCapabilities": {}}
        meta = {f"io.modelcontextprotocol/{name}": value for name, value in told.items()}
        params = {**params, "_meta": meta | params.get("_meta", {})}
        headers["mcp-method"] = method
        if "name" in params:
            headers["mcp-name"] = params["name"]
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return headers, json.dumps(message).encode()


def message_of(response: httpx2.Response) -> Any:
    """The JSON-RPC answer, from a plain body or the last event of a stream."""
    if response.headers["content-type"].startswith("text/event-stream"):
        return json.loads([line for line in response.text.splitlines() if line.startswith("data: ")][-1][6:])
    return response.json()


def result_of(response: httpx2.Response) -> Any:
    return message_of(response)["result"]["structuredContent"]


@asynccontextmanager
async def facing(environ: dict[str, str], sandbox: Sandbox, headers: dict[str, str]) -> AsyncIterator[Face]:
    """The HTTP face with these settings, on a loopback port, as `http` serves it but for the signals."""
    settings = Settings.from_environ(environ)
    drain = Drain()
    server = EmbeddedServer(
        uvicorn_config(create_app(build(settings, remote=True, drain=drain), settings, drain), settings)
    )
    limits = httpx2.Limits(max_connections=None)
    async with guest(server) as url, httpx2.AsyncClient(timeout=30, limits=limits, verify=False) as http:
        yield Face(url, sandbox, http, headers, drain, server)
