"""`inferencesh-mcp http` as a process of its own."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from tests.conftest import KEY
from tests.web.asking import envelope

DRAIN = 6


@dataclass
class Running:
    process: Process
    url: str
    http: httpx2.AsyncClient
    log: list[str]

    async def ask(self, era: str, tool: str, **arguments: Any) -> httpx2.Response:
        headers, message = envelope("tools/call", era, name=tool, arguments=arguments, _meta={"progressToken": 1})
        return await self.http.post(self.url, headers=headers, content=message)

    async def ended(self) -> tuple[int | None, float]:
        """Tell it to end; its exit code, and how long that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(DRAIN + 5):
            code = await self.process.wait()
        return code, time.monotonic() - began


@asynccontextmanager
async def running(base_url: str, **environ: str) -> AsyncIterator[Running]:
    told = {"INFERENCE_BASE_URL": base_url, "INFERENCE_DRAIN_SECONDS": str(DRAIN), "INFERENCE_WAIT_SECONDS": "50"}
    command = [sys.executable, "-m", "inferencesh_mcp", "http", "--port", "0"]
    log: list[str] = []
    async with (
        await anyio.open_process(command, env={"PATH": "/usr/bin"} | told | environ) as process,
        httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=60, verify=False) as http,
        anyio.create_task_group() as group,
    ):
        heard = anyio.Event()

        async def listen() -> None:
            assert process.stderr
            async for text in TextReceiveStream(process.stderr):
                log.append(text)
                if "/mcp\n" in "".join(log):
                    heard.set()

        group.start_soon(listen)
        with anyio.fail_after(20):
            await heard.wait()
        found = re.search(r"http://\S+/mcp", "".join(log))
        assert found
        try:
            yield Running(process, found[0], http, log)
        finally:
            if process.returncode is None:
                process.kill()
            group.cancel_scope.cancel()
