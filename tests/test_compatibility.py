"""Clients that send what is not quite valid, and clients of older protocol versions: on stdio and over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KEY, Upstream
from tests.http.asking import LEGACY, MODERN, envelope, facing, message_of
from tests.support.faults import Status
from tests.system.faults.process import HELLO, piped

pytestmark = pytest.mark.anyio
PREFIX = "io.modelcontextprotocol/"
ENVELOPE = {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": {}}
INVALID_PARAMS = -32602
OLD = ("2024-11-05", "2025-03-26")

Ask = Callable[..., Any]
"""`await ask("tools/list", cursor=None)`: the message that answers such a request."""
Asking = Callable[[str], AbstractAsyncContextManager[Ask]]


@asynccontextmanager
async def on_stdio(environ: dict[str, str], version: str, log: Path) -> AsyncIterator[Ask]:
    async with piped(environ, log) as pipe:
        asked = iter(range(1000))

        async def ask(method: str, **params: Any) -> Any:
            number = next(asked)
            await pipe.send({"id": number, "method": method, "params": params})
            return await pipe.answered(number)

        if version != MODERN:
            await ask("initialize", **{**HELLO, "protocolVersion": version})
            await pipe.send({"method": "notifications/initialized"})
        yield ask


@asynccontextmanager
async def over_http(upstream: Upstream, version: str) -> AsyncIterator[Ask]:
    settings = {"INFERENCE_BASE_URL": upstream.url}
    async with facing(settings, upstream.sandbox, {"authorization": f"Bearer {KEY}"}) as face:

        async def ask(method: str, **params: Any) -> Any:
            headers, _ = envelope(method, version, **params)
            message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            return message_of(await face.http.post(f"{face.url}/mcp", headers=headers | face.headers, content=message))

        yield ask


@pytest.fixture(params=["stdio", "http"])
def asking(request: pytest.FixtureRequest, environ: dict[str, str], upstream: Upstream, tmp_path: Path) -> Asking:
    """`async with asking(version) as ask:`."""
    if request.param == "http":
        return lambda version: over_http(upstream, version)
    return lambda version: on_stdio(environ, version, tmp_path / "stderr")


@pytest.mark.finding("F11")
@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_nulls_in_meta_are_ignored(asking: Asking, upstream: Upstream, version: str) -> None:
    """A progress token of null asks for no progress; the other fields beside it still count."""
    meta: dict[str, Any] = {"progressToken": None, f"{PREFIX}clientInfo": None, "theirs": None}
    meta |= ENVELOPE if version == MODERN else {}
    async with asking(version) as ask:
        run = {"app": "sandbox/echo", "input": {"n": 1}}
        answer = await ask("tools/call", name="app_run", arguments=run, _meta=meta)

    assert {"n": 1} == answer["result"]["structuredContent"]["output"]
    assert len(upstream.sandbox.ledger.starts) == 1


@pytest.mark.finding("F29")
async def test_a_null_extension_is_ignored(asking: Asking) -> None:
    """Above all not MCP tasks, which would hand a run over to a client that cannot follow it."""
    extensions = {"extensions": {f"{PREFIX}tasks": None}}
    async with asking(LEGACY) as ask:
        shaken = await ask("initialize", **{**HELLO, "capabilities": extensions})
    async with asking(MODERN) as ask:
        meta = {**ENVELOPE, f"{PREFIX}clientCapabilities": extensions}
        run = {"app": "sandbox/echo", "input": {"n": 1}}
        answer = await ask("tools/call", name="app_run", arguments=run, _meta=meta)

    assert shaken["result"]["protocolVersion"] == LEGACY
    assert {"n": 1} == answer["result"]["structuredContent"]["output"]


@pytest.mark.finding("F29")
@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_prompt_ignores_an_unknown_argument(asking: Asking, version: str) -> None:
    meta = {"_meta": ENVELOPE} if version == MODERN else {}
    async with asking(version) as ask:
        plain = await ask("prompts/get", name="run_app", arguments={"goal": "a cat"}, **meta)
        more = await ask("prompts/get", name="run_app", arguments={"goal": "a cat", "mood": "grim"}, **meta)

    assert plain["result"]["messages"] == more["result"]["messages"]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("initialize", {**HELLO, "clientInfo": {"name": "plain"}}, "params.clientInfo.version"),
    ("initialize", {**HELLO, "clientInfo": None}, "params.clientInfo"),
    ("initialize", {**HELLO, "capabilities": None}, "params.capabilities"),
    ("tools/call", {"name": "app_list", "_meta": {"progressToken": 1.5}}, "params._meta.progressToken"),
    ("tools/call", {"arguments": {}}, "params.name"),
    ("prompts/get", {"name": "run_app", "arguments": {"goal": None}}, "params.arguments.goal"),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "run_app"}}, "params.argument"),
    ("resources/read", {}, "params.uri"),
]


@pytest.mark.finding("F29")
@pytest.mark.parametrize("number", range(len(WRONG)), ids=[f"{method} {field}" for method, _, field in WRONG])
async def test_an_invalid_field_is_named(asking: Asking, number: int) -> None:
    method, params, field = WRONG[number]
    async with asking(LEGACY) as ask:
        error = (await ask(method, **params))["error"]

    assert error["code"] == INVALID_PARAMS
    assert f"'{field}" in error["message"]
    assert error["data"]["fields"][0].startswith(field)


@pytest.mark.finding("F29")
async def test_client_info_without_a_version_is_named_in_the_newer_version(asking: Asking) -> None:
    async with asking(MODERN) as ask:
        meta = {**ENVELOPE, f"{PREFIX}clientInfo": {"name": "plain"}}
        error = (await ask("tools/list", _meta=meta))["error"]

    assert (INVALID_PARAMS, True) == (error["code"], "clientInfo.version" in error["message"])


@pytest.mark.finding("F15")
@pytest.mark.parametrize("version", OLD)
async def test_older_versions_get_everything_as_text(asking: Asking, version: str) -> None:
    """Their clients refuse a whole answer for one part that they do not know, and the run in it was paid."""
    async with asking(version) as ask:
        drawing = {"app": "sandbox/draw", "input": {"prompt": "a cat"}}
        drawn = (await ask("tools/call", name="app_run", arguments=drawing))["result"]
        many = {"app": "sandbox/draw", "inputs": [{"prompt": "a cat"}, {"prompt": "a dog"}]}
        batch = (await ask("tools/call", name="app_run_many", arguments=many))["result"]
        uploaded = (await ask("tools/call", name="file_upload", arguments={"source": "data:text/plain,hello"}))[
            "result"
        ]
        failed = (await ask("tools/call", name="app_get", arguments={"app": "no/such"}))["result"]
    async with asking("2025-06-18") as ask:
        newer = (await ask("tools/call", name="app_run", arguments=drawing))["result"]

    for result in (drawn, batch, uploaded, failed):
        assert {"text", "image"} >= {block["type"] for block in result["content"]}
        assert "structuredContent" not in result
    assert failed["isError"]
    for result, files in ((drawn, 1), (batch, 2), (uploaded, 1)):
        text = "\n".join(block["text"] for block in result["content"] if block["type"] == "text")
        assert text.count("http://") >= files
    assert "resource_link" in {block["type"] for block in newer["content"]}
    assert newer["structuredContent"]["files"]


@pytest.mark.finding("F15")
async def test_a_file_of_a_cut_output_is_named_in_text_to_older_versions(asking: Asking, upstream: Upstream) -> None:
    """An output too long for an answer is cut; its file is still named."""
    picture = "https://files.example.com/cat.png"
    output = {f"field {number}": "words " * 50 for number in range(5000)} | {"image": picture}
    task = json.dumps({"id": "t1", "status": 10, "output": output})
    upstream.sandbox.faults.add(Status(code=200, body=task), path="/tasks/t1", times=-1)
    arguments = {"task_id": "t1", "wait_seconds": 0}
    async with asking("2025-06-18") as ask:
        newer = (await ask("tools/call", name="task_get", arguments=arguments))["result"]
    async with asking(OLD[0]) as ask:
        older = (await ask("tools/call", name="task_get", arguments=arguments))["result"]

    assert [picture] == [block["uri"] for block in newer["content"] if block["type"] == "resource_link"]
    assert {"text"} == {block["type"] for block in older["content"]}
    assert picture in "".join(block["text"] for block in older["content"])


@pytest.mark.finding("F15")
@pytest.mark.parametrize("version", OLD)
async def test_older_versions_get_only_the_fields_they_know(asking: Asking, upstream: Upstream, version: str) -> None:
    async with asking(version) as ask:
        shaken = (await ask("initialize", **{**HELLO, "protocolVersion": version}))["result"]
        await ask("tools/call", name="app_run", arguments={"app": "sandbox/echo", "input": {"n": 1}})
        listed = {kind: (await ask(f"{kind}/list"))["result"] for kind in ("tools", "prompts", "resources")}
        templates = (await ask("resources/templates/list"))["result"]["resourceTemplates"]
        prompt = (await ask("prompts/get", name="run_app", arguments={"goal": "a cat"}))["result"]
        address = listed["resources"]["resources"][0]["uri"]
        resource = (await ask("resources/read", uri=address))["result"]

    assert {"name", "version"} == shaken["serverInfo"].keys()
    assert {"tools", "prompts", "resources", "completions", "logging"} >= shaken["capabilities"].keys()
    hints = {"annotations"} if version >= "2025-03-26" else set()
    assert [{"name", "description", "inputSchema"} | hints] * len(listed["tools"]["tools"]) == [
        set(tool) for tool in listed["tools"]["tools"]
    ]
    about = {"name", "description", "mimeType", "annotations"}
    assert all({"name", "description", "arguments"} >= set(prompt) for prompt in listed["prompts"]["prompts"])
    assert all(about | {"uri", "size"} >= set(resource) for resource in listed["resources"]["resources"])
    assert all(about | {"uriTemplate"} >= set(template) for template in templates)
    assert ["text"] == [message["content"]["type"] for message in prompt["messages"]]
    assert all({"uri", "mimeType", "text", "blob"} >= set(part) for part in resource["contents"])
