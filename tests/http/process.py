"""`inferencesh-mcp http` as a process of its own."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from signal import Signals
from typing import Any

import anyio
import httpx2
from anyio.abc import Process

from tests.conftest import KEY
from tests.http.asking import envelope
from tests.support.systems import EXIT_CODES, OWN_CONSOLE, SIGNALS, small_pipe, stop

DRAIN = 6
STOPPED = EXIT_CODES[SIGNALS[0].name]
"""The exit code, however many calls were under way."""


@dataclass
class Running:
    process: Process
    url: str
    http: httpx2.AsyncClient
    log: list[str]

    async def ask(self, era: str, tool: str, **arguments: Any) -> httpx2.Response:
        headers, message = envelope("tools/call", era, name=tool, arguments=arguments, _meta={"progressToken": 1})
        return await self.http.post(self.url, headers=headers, content=message)

    async def ended(self, *kinds: Signals) -> tuple[int | None, float]:
        """Tell it to end, by these signals if not by the usual one; its exit code, and how long that took."""
        began = time.monotonic()
        await stop(self.process, *kinds)
        with anyio.fail_after(DRAIN + 5):
            code = await self.process.wait()
        return code, time.monotonic() - began


@asynccontextmanager
async def running(base_url: str, *, reading: bool = True, **environ: str) -> AsyncIterator[Running]:
    """Without `reading`, nobody reads what it writes to stderr once it serves, and the pipe is small."""
    told = {"INFERENCE_BASE_URL": base_url, "INFERENCE_DRAIN_SECONDS": str(DRAIN), "INFERENCE_WAIT_SECONDS": "50"}
    command = [sys.executable, "-m", "inferencesh_mcp", "http", "--port", "0"]
    log: list[str] = []
    mine, its = os.pipe() if reading else small_pipe()
    inherited = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    process = await anyio.open_process(command, env=inherited | told | environ, stderr=its, creationflags=OWN_CONSOLE)
    os.close(its)
    async with (
        process,
        httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=60, verify=False) as http,
        anyio.create_task_group() as group,
    ):
        heard = anyio.Event()

        async def listen() -> None:
            async with anyio.wrap_file(os.fdopen(mine, encoding="utf-8")) as stderr:
                async for line in stderr:
                    log.append(line)
                    if line.endswith("/mcp\n"):
                        heard.set()
                        if not reading:
                            await anyio.sleep_forever()

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
