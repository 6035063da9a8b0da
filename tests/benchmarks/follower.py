"""The least that can follow many runs: one httpx2 stream each, every line passed on. What the bridge's runs are held against.

Follows the first of the tasks that it is given, on a line of JSON, `{"url", "key", "tasks"}`, so that everything is loaded;
says `ready`, waits for an empty line, and follows them all until it is ended.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import httpx2


async def follow(job: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {job['key']}", "accept": "application/x-ndjson"}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=job["url"], headers=headers, limits=limits, timeout=None) as http:
        async with http.stream("GET", f"/tasks/{job['tasks'][0]}/stream") as response:
            await anext(response.aiter_lines())
        _say("ready")
        sys.stdin.readline()
        async with anyio.create_task_group() as group:
            for task in job["tasks"]:
                group.start_soon(_pass_on, http, task)


async def _pass_on(http: httpx2.AsyncClient, task: str) -> None:
    async with http.stream("GET", f"/tasks/{task}/stream") as response:
        async for line in response.aiter_lines():
            json.loads(line)
            _say(line)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(follow, json.loads(sys.stdin.readline()))
