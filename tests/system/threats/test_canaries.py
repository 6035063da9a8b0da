"""No key and no signature of an address goes out by a side door: what is told of changes, counted, traced or logged (T-2, I-11)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from inferencesh_mcp.http import tokens
from inferencesh_sandbox import serving
from inferencesh_sandbox.apps import png
from tests.conftest import KEY
from tests.http.asking import MODERN, envelope, message_of
from tests.http.process import Running, running
from tests.http.test_middleware_traces import elsewhere
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio

READER = tokens.mint()
SIGNED = "CANARY-of-an-address"
PICTURE = base64.b64encode(png.encode(png.Raster(1, 1, (b"\x00\x80\xff",)))).decode()
FOLLOWS = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}


async def asked(server: Running, method: str, named: str = "", **params: Any) -> str:
    headers, message = envelope(method, MODERN, _meta=FOLLOWS, **params)
    return (await server.http.post(server.url, headers=headers | {"mcp-name": named}, content=message)).text


async def followed(server: Running, app: str, given: dict[str, Any]) -> str:
    """A run as an MCP task, and all that is told of it; its id both as it is and as its bytes."""
    headers, message = envelope(
        "tools/call", MODERN, _meta=FOLLOWS, name="app_run", arguments={"app": app, "input": given}
    )
    begun = await server.http.post(server.url, headers=headers, content=message)
    task = message_of(begun)["result"]["taskId"]
    said = begun.text + base64.urlsafe_b64decode(task.rpartition(".")[2] + "==").decode("latin-1")
    with anyio.fail_after(30):
        while '"status":"working"' in (now := await asked(server, "tasks/get", task, taskId=task)):
            await anyio.sleep(0.05)
    return said + now


@pytest.fixture(scope="module")
async def told() -> AsyncIterator[dict[str, str]]:
    """What a server says by each of its ways, of runs that handle the key and signed addresses."""
    said: dict[str, str] = {}
    async with serving(Sandbox()) as url, elsewhere() as (there, collector):
        variables = {"INFERENCE_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector, "INFERENCE_LOG_LEVEL": "DEBUG",
                     "INFERENCE_METRICS_TOKENS": tokens.line("prometheus", READER)}  # fmt: skip
        async with running(url, **variables) as server, anyio.create_task_group() as group:
            slow = {"app": "sandbox/slow", "input": {"seconds": 2, "steps": 2}, "wait": False}
            run = message_of(await server.ask(MODERN, "app_run", **slow))["result"]["structuredContent"]["task_id"]
            chosen = [
                f"inference://tasks/{run}",
                f"inference://tasks/{KEY}",
                f"https://s3.example/x?X-Amz-Signature={SIGNED}",
            ]

            async def listen() -> None:
                said["subscriptions"] = await asked(
                    server, "subscriptions/listen", notifications={"resourceSubscriptions": chosen}
                )

            group.start_soon(listen)
            told = f"Bearer {KEY} did not open https://s3.example/x?X-Amz-Signature={SIGNED}"
            said["MCP tasks"] = await followed(
                server, "sandbox/picture-info", {"image": f"data:image/png;base64,{PICTURE}"}
            )
            said["MCP tasks"] += await followed(server, "sandbox/fail", {"message": told})
            await server.ask(MODERN, "file_upload", filename="a.txt")
            await server.ask(MODERN, "task_get", task_id=run, wait_seconds=20)
            reader = {"authorization": f"Bearer {READER}"}
            said["metrics"] = (await server.http.get(server.url.replace("/mcp", "/metrics"), headers=reader)).text
            await server.ended()
        said["traces"] = b"".join(there.sent).decode("latin-1")
        said["log"] = "".join(server.log)
        yield said


@pytest.mark.parametrize(
    ("way", "alive"),
    [
        ("subscriptions", "notifications/resources/updated"),
        ("MCP tasks", '"status":"completed"'),
        ("metrics", 'inferencesh_calls_total{outcome="ok",tool="app_run"}'),
        ("traces", "tools/call app_run"),
        ("log", "Initializing server"),
    ],
)
async def test_no_secret_goes_out(told: dict[str, str], way: str, alive: str) -> None:
    assert alive in told[way]
    assert [] == [secret for secret in (KEY, SIGNED, "signature=", READER) if secret in told[way]]
