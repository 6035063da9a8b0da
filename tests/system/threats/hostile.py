"""An inference.sh every text of which is chosen by a test, and every way by which a host can be shown one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client, MCPError
from mcp_types import (
    CallToolResult,
    PromptReference,
    ReadResourceResult,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.conftest import listening

Say = Callable[[], str]
"""Makes a text; each is asked for anew."""


def records(say: Say) -> dict[str, Any]:
    """What is answered, by the beginning of its path: whatever may be a text, is one of theirs."""
    app: dict[str, Any] = {
        "id": "a1", "short_id": say(), "namespace": say(), "name": say(), "title": say(), "description": say(), "agent_description": say(),
        "category": say(), "tags": [say()], "status": say(), "status_message": say(), "visibility": say(),
        "version": {
            "id": "v1", "metadata": {say(): say()}, "default_function": "run",
            "functions": {"run": {"name": say(), "description": say(), "input_schema": schema(say), "output_schema": schema(say)},
                          say(): {"name": say(), "description": say()}},
            "setup_schema": schema(say), "variants": {say(): {"name": say()}},
            "required_secrets": [{"key": say(), "description": say()}], "required_integrations": [{"key": say(), "description": say()}],
        },
    }  # fmt: skip
    output = {
        "text": say(),
        say(): say(),
        "list": [say(), {"uri": f"https://files.example/{say()}", "content_type": say()}],
        "id": say(),
    }
    task = {"id": "t1", "status": 10, "app": app, "app_id": say(), "function": say(), "output": output, "session_id": say(),
            "logs": [{"log_type": say(), "content": say()}], "usage_events": [{"type": say(), "model": say(), "tier": say(), "unit": say()}],
            "created_at": "2026-01-01T00:00:00Z", "error": ""}  # fmt: skip
    file = {"id": "f1", "uri": f"https://files.example/{say()}", "upload_url": f"https://files.example/up/{say()}",
            "filename": say(), "content_type": say(), "size": 5}  # fmt: skip
    session = {"id": "s1", "status": say(), "app_id": say(), "worker_id": say(), "task_id": say(), "call_count": 1}
    agent = {
        "id": "g1",
        "namespace": say(),
        "name": say(),
        "title": say(),
        "version": {
            "id": "v1",
            "description": say(),
            "tools": [
                {"name": say(), "type": "client"},
                {"name": say(), "type": "app", "require_approval": True},
            ],
            "context": [{"name": say(), "required": True}],
        },
    }
    calls = [
        {
            "id": "i1",
            "type": say(),
            "function": {"name": say(), "arguments": {say(): say()}},
            "status": say(),
            "result": say(),
        }
    ]
    messages = [
        {"id": "m1", "order": 1, "role": "user", "status": "ready", "content": [{"type": "text", "text": "hello"}]},
        {"id": "m2", "order": 2, "role": "assistant", "status": "ready", "tool_invocations": calls,
         "content": [{"type": "text", "text": say()}, {"type": "image", "image": say()}, {"type": "error", "error": say()}]},
    ]  # fmt: skip
    chat = {"id": "c1", "status": "idle", "name": say(), "agent": agent, "chat_messages": messages, "output": {say(): say()},
            "agent_data": {"plan_steps": [{"title": say(), "status": say()}]}}  # fmt: skip

    def page(record: dict[str, Any], **changed: Any) -> dict[str, Any]:
        return {"items": [{**record, **changed}], "has_next": True, "next_cursor": say()}

    return {
        "/apps/list": page(app, id=say()), "/apps/run": task, "/apps/": app, "/store/": {"confidence": "exact", "microcents": 5, "depends_on": [say()], "pricing_description": say()},
        "/tasks/list": page(task, id=say(), status=say(), error=say()), "/tasks/t1/logs": {"id": "t1", "status": say(), "logs": [{"log_type": 1, "content": say()}]},
        "/tasks/t2": {**task, "id": "t2", "status": 11, "error": say()}, "/tasks/t3": {**task, "id": "t3", "status": say()}, "/tasks/": task,
        "/files/list": page(file, id=say()), "/files": [file], "/sessions/": session, "/sessions": [{**session, "id": say()}],
        "/agents/list": page(agent, id=say()), "/agents/run": {"user_message": messages[0], "assistant_message": messages[1], "chat_id": "c1"},
        "/agents/": agent, "/chats/list": page(chat, id=say()), "/chats/": chat,
    }  # fmt: skip


def schema(say: Say) -> dict[str, Any]:
    """A schema with a field for each of its words."""
    words: list[dict[str, Any]] = [
        {"type": say()}, {"type": "integer", "minimum": say(), "maximum": say()}, {"type": "string", "minLength": say(), "maxLength": say()},
        {"type": "array", "minItems": say(), "items": {"type": say()}}, {"enum": [say(), say()]}, {"const": say()},
        {"type": "string", "default": say(), "description": say(), "title": say()}, {"anyOf": [{"type": say()}, {"const": say()}]}, {"type": [say()]},
    ]  # fmt: skip
    return {"type": "object", "properties": {say(): words[6], **{f"field{n}": word for n, word in enumerate(words)}}}


@asynccontextmanager
async def answering(say: Say, *, status: int = 200) -> AsyncIterator[str]:
    """Such an upstream; with another status, every answer is a refusal in its words."""
    bodies = records(say)

    async def answer(request: Request) -> Response:
        if status != 200:
            errors = [{"type": say(), "key": say(), "message": say(), "action": {"type": say(), "provider": say()}}]
            error = {"code": say(), "message": say(), "errors": errors, "suggestions": [say()]}
            return JSONResponse({"success": False, "status": status, "error": error, "detail": say()}, status)
        body = next((body for path, body in bodies.items() if request.url.path.startswith(path)), {})
        return JSONResponse({"success": True, "data": body, "messages": [{"level": "warning", "message": say()}]})

    async with listening(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST", "DELETE"])])) as url:
        yield url


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("app_list", {}), ("app_get", {"app": "a/b"}), ("app_run", {"app": "a/b", "input": {}}), ("app_run", {"app": "a/b", "input": {}, "dry_run": True}),
    ("app_run_many", {"app": "a/b", "inputs": [{}]}), ("task_get", {"task_id": "t1"}), ("task_get", {"task_id": "t2"}), ("task_get", {"task_id": "t3"}),
    ("task_get", {"task_id": "t1", "part": 1}), ("task_list", {}), ("task_logs", {"task_id": "t1"}), ("file_list", {}), ("file_upload", {"filename": "a.txt"}),
    ("session_list", {}), ("session_get", {"session_id": "s1"}), ("session_keepalive", {"session_id": "s1"}), ("agent_list", {}), ("chat_list", {}),
    ("agent_chat", {"message": "hello", "agent": "a/b"}), ("chat_get", {"chat_id": "c1"}), ("chat_respond", {"chat_id": "c1", "invocation_id": "i1", "result": "x"}),
    ("hero", {}),
    ("app_run", {"app": "a/b", "input": {"field4": 5, "field1": "x", "fiel": 1}}), ("app_run", {"app": "a/b", "input": {}, "function": "none"}),
    ("app_run", {"app": "a/b", "input": {}, "variant": "none"}),
]  # fmt: skip
ADDRESSES = ["apps/a/b", "tasks/t1", "tasks/t2", "tasks/t1/logs", "files/f1", "sessions/s1", "chats/c1"]
COMPLETIONS: list[tuple[Any, str]] = [
    (ResourceTemplateReference(uri="inference://tasks/{id}"), "id"), (ResourceTemplateReference(uri="inference://files/{id}"), "id"),
    (ResourceTemplateReference(uri="inference://apps/{namespace}/{name}"), "namespace"), (PromptReference(name="run_app"), "app"),
    (PromptReference(name="hand_to_agent"), "agent"),
]  # fmt: skip


async def everything_shown(client: Client) -> dict[str, tuple[list[str], Any]]:
    """Whatever a host is shown, by how it asked: the texts, and all of it as a value."""
    shown: dict[str, tuple[list[str], Any]] = {}

    def add(name: str, value: Any, texts: list[str]) -> None:
        shown[name] = (texts, value if isinstance(value, dict) else value.model_dump(mode="json"))

    for tool, arguments in CALLS:
        progress: list[str] = []

        async def hear(_done: float, _total: float | None, message: str | None, progress: list[str] = progress) -> None:
            progress.append(message or "")

        try:
            result = await client.call_tool(tool, arguments, progress_callback=hear)
        except MCPError as exc:
            add(f"{tool} {arguments}", {"message": exc.error.message, "data": exc.error.data}, [exc.error.message])
            continue
        assert isinstance(result, CallToolResult)
        texts = [part.text for part in result.content if isinstance(part, TextContent)]
        add(f"{tool} {arguments}", {**result.model_dump(mode="json"), "progress": progress}, [*texts, *progress])
    for address in ADDRESSES:
        try:
            resource = await client.read_resource(f"inference://{address}")
        except MCPError as exc:
            add(address, {"message": exc.error.message, "data": exc.error.data}, [exc.error.message])
            continue
        assert isinstance(resource, ReadResourceResult)
        texts = [
            part.text
            for part in resource.contents
            if isinstance(part, TextResourceContents) and part.mime_type == "text/plain"
        ]
        add(address, resource, texts)
    add("resources/list", await client.list_resources(), [])
    add("tools/list", await client.list_tools(), [])
    add("prompts/get", await client.get_prompt("run_app", {"goal": "a picture"}), [])
    for reference, argument in COMPLETIONS:
        add(f"{reference} {argument}", await client.complete(reference, {"name": argument, "value": ""}), [])
    return shown


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
