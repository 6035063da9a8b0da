"""mcpo, which makes an OpenAPI service of a server for Open WebUI: each tool is described there, and can be called."""

from __future__ import annotations

import json
import re
import sys
from contextlib import AsyncExitStack

import anyio
import httpx
from fastapi import FastAPI
from mcpo.main import lifespan


async def main() -> None:
    app = FastAPI(lifespan=lifespan)
    app.state.server_type, app.state.command, app.state.args, app.state.env = "stdio", sys.argv[1], sys.argv[2:], {}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app=app)
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://mcpo", timeout=30)
        )
        description = (await http.get("/openapi.json")).json()
        silent = sorted(
            f"{name.removesuffix('_form_model')}.{argument}"
            for name, model in description["components"]["schemas"].items()
            if name.endswith("_form_model")
            for argument, schema in model["properties"].items()
            if not schema.get("description")
        )
        assert not silent, f"arguments without a description: {', '.join(silent)}"
        answer = await http.post("/app_run", json={"app": "sandbox/draw", "input": {"prompt": "a kite"}})
        text = json.dumps(answer.json())
        assert re.search(r"sandbox/draw: completed after .* \(task \w{26}\)", text), text
    print(f"describes {len(description['paths'])} tools with every argument, and runs an app")  # noqa: T201


anyio.run(main)
