"""Ten thousand messages that are not quite messages: each is answered or passed over, and the next one is served (A-1, X-43)."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, BinaryIO

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp.shared.message import SessionMessage

from inferencesh_mcp.sdk import serve_streams
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from inferencesh_mcp.stdio_messages import Answers, Requests
from inferencesh_sandbox import serving
from tests.http.asking import ERAS, Face, envelope, facing
from tests.support.sandbox import Sandbox
from tests.system.faults.process import HELLO
from tests.system.faults.rows import many
from tests.system.threats.fuzzing import MALFORMED, mutated, spoilt

pytestmark = pytest.mark.anyio
SEED = 20261125
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("tools/list", {}),
    ("tools/call", {"name": "task_get", "arguments": {"task_id": "abc", "wait_seconds": 0}}),
    ("tools/call", {"name": "app_list", "arguments": {"limit": 1}, "_meta": {"progressToken": 7}}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "inference://tasks/abc"}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "run_app", "arguments": {"goal": "a cat"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "run_app"}, "argument": {"name": "app", "value": "d"}}),
    ("ping", {}),
    ("logging/setLevel", {"level": "debug"}),
    ("tasks/get", {"taskId": "abc"}),
    ("tasks/cancel", {"taskId": "abc"}),
    ("server/discover", {}),
    ("initialize", HELLO),
    ("resources/subscribe", {"uri": "inference://tasks/abc"}),
    ("resources/unsubscribe", {"uri": "inference://tasks/abc"}),
]  # fmt: skip
NEWS = [
    ("notifications/initialized", {}),
    ("notifications/cancelled", {"requestId": 1, "reason": "x"}),
    ("notifications/progress", {"progressToken": 1, "progress": 0.5}),
    ("notifications/roots/list_changed", {}),
]


def message(random: Random, number: int) -> dict[str, Any]:
    """A good one, in either era: a request, or now and then a notification."""
    if random.random() < 0.1:
        method, params = random.choice(NEWS)
        return {"jsonrpc": "2.0", "method": method, "params": params}
    method, params = random.choice(CALLS)
    meta = {"_meta": MODERN_META | params.get("_meta", {})} if random.random() < 0.5 else {}
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, **meta}}


def line(random: Random, number: int) -> bytes:
    """Wrong as a value, or as bytes, or as both."""
    value = message(random, number)
    kind = random.randrange(3)
    raw = json.dumps(mutated(random, value) if kind else value).encode()
    return raw if kind == 1 else spoilt(random, raw)


def judged(raw: bytes | str) -> Any:
    """One strict JSON-RPC message, whose error, if it is one, is the caller's fault and nobody's inside."""
    message = json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "2.0" == message["jsonrpc"]
    if error := message.get("error"):
        assert isinstance(error["code"], int)
        assert error["code"] != -32603, error
        assert "Traceback" not in error["message"]
    return message


class Pipe:
    """stdin and stdout of a server in this process: what a host writes and reads, byte for byte."""

    def __init__(self, stdin: BinaryIO) -> None:
        self._stdin = stdin
        self.said: list[str] = []
        self._heard = anyio.Event()

    async def write(self, raw: bytes) -> None:
        await anyio.to_thread.run_sync(self._stdin.write, raw + b"\n")

    async def send(self, item: SessionMessage) -> None:
        """What the server writes."""
        self.said.append(item.message.model_dump_json(by_alias=True, exclude_unset=True))
        self._heard.set()

    async def aclose(self) -> None: ...

    async def until(self, number: Any) -> Any:
        with anyio.fail_after(20):
            while True:
                self._heard = anyio.Event()
                for raw in self.said:
                    message = judged(raw)
                    if message.get("id") == number:
                        self.said.clear()
                        return message
                await self._heard.wait()


@asynccontextmanager
async def on_a_pipe(environ: dict[str, str]) -> AsyncIterator[Pipe]:
    server = build(Settings.from_environ(environ))
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as its:
        pipe = Pipe(its)
        async with anyio.create_task_group() as group:
            answers = Answers(pipe, group)
            group.start_soon(serve_streams, server, Requests(stdin, answers, at_end=lambda: None), answers)
            yield pipe
            its.close()


@pytest.mark.fault("X-43")
async def test_malformed_messages_on_a_pipe_are_answered_or_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """After each hundred, and in their midst, a request in either era is answered; nothing was thrown, started or printed."""
    random, sandbox = Random(SEED), Sandbox()
    async with (
        serving(sandbox) as url,
        on_a_pipe({"INFERENCE_API_KEY": "inf_a", "INFERENCE_BASE_URL": url}) as pipe,
    ):
        await pipe.write(
            json.dumps({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": HELLO}).encode()
        )
        await pipe.until("hello")
        for hundred in range(many(100, 12)):
            for number in range(100):
                await pipe.write(line(random, 100 * hundred + number))
            good = {"jsonrpc": "2.0", "id": f"good {hundred}", "method": "tools/list", "params": {}}
            await pipe.write(json.dumps(good).encode())
            assert "tools" in (await pipe.until(good["id"]))["result"]

    assert () == sandbox.ledger.starts
    assert [] == [record.getMessage() for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]


@pytest.fixture(scope="module")
async def face() -> AsyncIterator[Face]:
    sandbox = Sandbox()
    async with (
        serving(sandbox) as url,
        facing({"INFERENCE_BASE_URL": url}, sandbox, {"authorization": "Bearer inf_a"}) as its_face,
    ):
        yield its_face


async def answer_of(face: Face, headers: dict[str, str], body: bytes) -> httpx2.Response:
    """What is said to this: never that something inside went wrong."""
    response = await face.http.post(f"{face.url}/mcp", headers=headers | face.headers, content=body)
    assert response.status_code < 500, (body[:300], response.text[:300])
    kind = response.headers.get("content-type", "")
    if kind.startswith("application/json") and response.content:
        judged(response.content)
    for line_ in response.text.splitlines() if kind.startswith("text/event-stream") else ():
        if line_.startswith("data: {"):
            judged(line_[6:])
    return response


@pytest.mark.fault("X-43")
async def test_malformed_messages_over_http_are_answered(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """In both eras, ten at a time; the headers say what the message said before it was spoilt."""
    random = Random(SEED + 1)

    async def send(number: int) -> None:
        era = random.choice(ERAS)
        method, params = random.choice(CALLS)
        headers, body = envelope(method, era, number=number, **params)
        if random.random() < 0.2:
            headers[random.choice(list(headers))] = random.choice(("", "x", "\x7f", "a" * 5000, "tools/list", "*/*"))
        kind = random.randrange(3)
        body = json.dumps(mutated(random, json.loads(body))).encode() if kind else body
        await answer_of(face, headers, body if kind == 1 else spoilt(random, body))

    for hundred in range(many(100, 8)):
        for ten in range(10):
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(send, 100 * hundred + 10 * ten + number)
        good = await face.ask("tools/list", ERAS[hundred % 2])
        assert (
            "tools" in judged(good.content if good.text.startswith("{") else good.text.partition("data: ")[2])["result"]
        )

    assert () == face.sandbox.ledger.starts
    assert [] == [record.getMessage() for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]


@pytest.mark.fault("X-43")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_body_over_http_is_refused(face: Face, era: str, name: str) -> None:
    """With a status of the caller's fault, or an error of the protocol's; nothing is asked of the platform."""
    headers, _ = envelope("tools/list", era)
    before = len(face.asked())
    response = await answer_of(face, headers, MALFORMED[name])

    is_passed_over = response.status_code == 202  # the older era: without an id that counts, nobody waits for an answer
    assert (
        is_passed_over
        or response.status_code >= 400
        or any(word in response.text for word in ('"error"', '"isError":true'))
    )
    assert [] == face.asked()[before:]
    assert 200 == (await face.ask("tools/list", era)).status_code


@pytest.mark.fault("X-43")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "changed",
    [{"content-type": "text/plain"}, {"content-type": "multipart/form-data; boundary=x"},
     {"content-type": "application/x-www-form-urlencoded"}, {"accept": "text/html"},
     {"mcp-protocol-version": "1999-01-01"}, {"mcp-protocol-version": "\x01"}, {"mcp-method": "prompts/list"}, {"mcp-name": "app_run"}],
    ids=str,
)  # fmt: skip
async def test_a_header_that_contradicts_the_body_is_refused(face: Face, era: str, changed: dict[str, str]) -> None:
    """A method or a name in a header counts in the newer era alone, and must be the message's there."""
    headers, body = envelope("tools/call", era, name="app_list", arguments={})
    before = len(face.asked())
    response = await answer_of(face, headers | changed, body)

    counts = era == ERAS[0] or not {"mcp-method", "mcp-name"} & changed.keys()
    assert (response.status_code >= 400) == counts, response.text[:300]
    assert counts == ([] == face.asked()[before:])
