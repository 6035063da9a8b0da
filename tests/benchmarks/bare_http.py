"""The same over HTTP: one tool that reads a task and its charge with the caller's key. What the HTTP face is held against."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context


@asynccontextmanager
async def life(_server: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=os.environ["BASE_URL"]) as http:
        yield http


server = MCPServer("bare", lifespan=life, log_level="ERROR")


@server.tool()
async def task_get(task_id: str, ctx: Context[httpx2.AsyncClient]) -> dict[str, Any]:
    headers = {"authorization": (ctx.headers or {})["authorization"], "x-api-version": "2"}
    http = ctx.request_context.lifespan_context
    task = (await http.get(f"/tasks/{task_id}", headers=headers)).json()
    return task | {"cost": (await http.get(f"/tasks/{task_id}/cost", headers=headers)).json()}


class Announced(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        sys.stderr.write(f"serving http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}/mcp\n")
        sys.stderr.flush()


if __name__ == "__main__":
    app = server.streamable_http_app(stateless_http=True)
    Announced(uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)).run()
