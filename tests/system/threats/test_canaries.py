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


async def answer_of(server: Running, method: str, name: str = "", **params: Any) -> str:
    headers, message = envelope(method, MODERN, _meta=FOLLOWS, **params)
    return (await server.http.post(server.url, headers=headers | {"mcp-name": name}, content=message)).text


async def followed(server: Running, app: str, input_: dict[str, Any]) -> str:
    """A run as an MCP task, and all that is told of it; its id both as it is and as its bytes."""
    headers, message = envelope(
        "tools/call", MODERN, _meta=FOLLOWS, name="app_run", arguments={"app": app, "input": input_}
    )
    begun = await server.http.post(server.url, headers=headers, content=message)
    task = message_of(begun)["result"]["taskId"]
    texts = begun.text + base64.urlsafe_b64decode(task.rpartition(".")[2] + "==").decode("latin-1")
    with anyio.fail_after(30):
        while '"status":"working"' in (now := await answer_of(server, "tasks/get", task, taskId=task)):
            await anyio.sleep(0.05)
    return texts + now


@pytest.fixture(scope="module")
async def outputs_of_all() -> AsyncIterator[dict[str, str]]:
    """What a server says by each of its ways, of runs that handle the key and signed addresses."""
    outputs: dict[str, str] = {}
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
                outputs["subscriptions"] = await answer_of(
                    server, "subscriptions/listen", notifications={"resourceSubscriptions": chosen}
                )

            group.start_soon(listen)
            reason = f"Bearer {KEY} did not open https://s3.example/x?X-Amz-Signature={SIGNED}"
            outputs["MCP tasks"] = await followed(
                server, "sandbox/picture-info", {"image": f"data:image/png;base64,{PICTURE}"}
            )
            outputs["MCP tasks"] += await followed(server, "sandbox/fail", {"message": reason})
            await server.ask(MODERN, "file_upload", filename="a.txt")
            await server.ask(MODERN, "task_get", task_id=run, wait_seconds=20)
            reader = {"authorization": f"Bearer {READER}"}
            outputs["metrics"] = (await server.http.get(server.url.replace("/mcp", "/metrics"), headers=reader)).text
            await server.ended()
        outputs["traces"] = b"".join(there.sent).decode("latin-1")
        outputs["log"] = "".join(server.log)
        yield outputs


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
async def test_no_secret_goes_out(outputs_of_all: dict[str, str], way: str, alive: str) -> None:
    assert alive in outputs_of_all[way]
    assert [] == [secret for secret in (KEY, SIGNED, "signature=", READER) if secret in outputs_of_all[way]]
