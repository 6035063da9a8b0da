"""One caller of a server over HTTP who has many runs live: each a request whose answer is still coming. It reads all that comes.

Is told which on a line of JSON, `{"url", "headers", "message", "runs"}`; says a line for each that runs, and ends when it is
ended.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import httpx2

AT_ONCE = 50  # that have not begun to run


async def hold(job: dict[str, Any]) -> None:
    limits, places = httpx2.Limits(max_connections=None), anyio.Semaphore(AT_ONCE)
    async with (
        httpx2.AsyncClient(headers=job["headers"], limits=limits, timeout=None) as http,
        anyio.create_task_group() as group,
    ):
        for _ in range(job["runs"]):
            await places.acquire()
            group.start_soon(_run, http, job["url"], job["message"], places)


async def _run(http: httpx2.AsyncClient, url: str, message: str, places: anyio.Semaphore) -> None:
    runs, last = False, ""
    async with http.stream("POST", url, content=message) as response:
        async for line in response.aiter_lines():
            last = line or last
            if not runs and "running" in line:
                runs = True
                sys.stdout.write("runs\n")
                sys.stdout.flush()
                places.release()
    raise RuntimeError(f"a run is over: {response.status_code} {last}")


if __name__ == "__main__":
    anyio.run(hold, json.loads(sys.stdin.readline()))
