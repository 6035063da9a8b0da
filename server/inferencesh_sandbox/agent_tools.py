"""Run an agent's tool calls, after the person's approval where a tool needs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from inferencesh_sandbox import mcp_servers
from inferencesh_sandbox.catalogue import Ref, app_named, function_of
from inferencesh_sandbox.invocations import Interrupt
from inferencesh_sandbox.ledger import Invoked
from inferencesh_sandbox.run_requests import order_from
from inferencesh_sandbox.tasks import Status
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferencesh_sandbox.agents.types import Tool
    from inferencesh_sandbox.invocations import Invocation
    from inferencesh_sandbox.tasks import Task
    from inferencesh_sandbox.turns import Turn


async def carry_out(turn: Turn, invocation: Invocation) -> None:
    """Run one tool call until it is completed, failed or cancelled. Raises nothing."""
    if not await _approved(turn, invocation):
        return
    chat, tool = turn.chat, invocation.tool
    if tool.type != "client" and invocation.status != "in_progress":
        invocation.move("in_progress")
    turn.desk.ledger.note(
        Invoked(at=chat.clock.now(), chat_id=chat.id, invocation_id=invocation.id, tool=tool.name, type=tool.type)
    )
    try:
        await _KINDS.get(tool.type, _unknown)(turn, invocation)
    except Problem as problem:
        invocation.end("failed", problem.detail)


async def _approved(turn: Turn, invocation: Invocation) -> bool:
    """Wait for approval, unless the tool needs none or is always allowed in this chat."""
    chat = turn.chat
    if not invocation.tool.require_approval or chat.always_allows(invocation):
        return True
    interrupt = Interrupt(run_id=turn.run.id, invocation=invocation)
    chat.interrupts[interrupt.id] = interrupt
    await invocation.wait_as("awaiting_approval")
    return invocation.allowed


async def _client(_turn: Turn, invocation: Invocation) -> None:
    await invocation.wait_as("awaiting_input")


async def _internal(_turn: Turn, invocation: Invocation) -> None:
    invocation.end("completed", str(invocation.tool.how.get("result", "")))


async def _app(turn: Turn, invocation: Invocation) -> None:
    """Run the app as a task of the same owner."""
    how = invocation.tool.how
    arguments: Json = {**(how.get("input") or {}), **invocation.arguments}
    body: Json = {
        "app": how.get("ref"),
        "function": how.get("function"),
        "setup": how.get("setup"),
        "session": arguments.pop("session", None) if how.get("session_enabled") else None,
        "input": arguments,
    }
    order = order_from(body, tenant=turn.chat.owner, clock=turn.clock, base=turn.base)
    task = await turn.desk.workers.take(order, turn.chat.owner, turn.desk.ledger)
    invocation.execution_id = task.id
    invocation.move("in_progress")
    await turn.desk.workers.begin(task)
    await _wait_for_end(task)
    output = dict(task.output or {}) | ({"session_id": order.session.id} if order.session else {})
    if task.status is Status.COMPLETED:
        invocation.end("completed", json.dumps(output, ensure_ascii=False), output)
    else:
        invocation.end("failed", task.error or f"the task was {task.status.name.lower()}")


async def _wait_for_end(task: Task) -> None:
    """Wait for a task. Cancel the task if the agent is stopped."""
    try:
        while not task.ended:
            await task.changed.wait()
    finally:
        if not task.ended:
            task.move(Status.CANCELLING)
            task.scope.cancel()


async def _agent(turn: Turn, invocation: Invocation) -> None:
    """Delegate to another agent, in a chat of its own."""
    run = turn.desk.delegate(turn, str(invocation.tool.how.get("ref") or ""), _said(invocation.arguments))
    invocation.execution_id = run.chat.id
    invocation.move("in_progress")
    try:
        await turn.desk.carry_out(run)
    finally:
        if run.live:
            turn.desk.stop(run.chat)
    last = next(message for message in reversed(run.chat.messages) if message.role == "assistant")
    if run.state == "completed":
        invocation.end("completed", last.text, {"chat_id": run.chat.id})
    else:
        invocation.end("failed", run.error or f"the agent's run was {run.state}")


def _said(arguments: Json) -> str:
    payload = arguments.get("message") or arguments.get("text") or arguments.get("prompt")
    return str(payload) if payload else json.dumps(arguments, ensure_ascii=False)


async def _report_request(_turn: Turn, invocation: Invocation) -> None:
    """Report the request that a real tool would send. Nothing is sent, and secrets are omitted."""
    how = invocation.tool.how
    payload: Json = {
        "pretended": True,
        "note": "the sandbox has no network: nothing was sent",
        "would_have": {
            name: how[name] for name in ("method", "url", "server", "integration_id", "tool_name") if how.get(name)
        },
        "with": invocation.arguments,
    }
    invocation.end("completed", json.dumps(payload, ensure_ascii=False), payload)


async def _mcp(turn: Turn, invocation: Invocation) -> None:
    """Call a tool of the fake MCP server, which asks for input first. Other servers are only reported."""
    how, name = invocation.tool.how, str(invocation.tool.how.get("tool_name"))
    if how.get("server") != mcp_servers.SERVER or name not in mcp_servers.TOOLS:
        await _report_request(turn, invocation)
        return
    answers: list[Json] = []
    for number, requests in enumerate(mcp_servers.TOOLS[name], start=1):
        invocation.input_requests = requests
        data = mcp_servers.input_data(requests, state=f"{invocation.id}-{number}", number=number)
        invocation.data = json.dumps(data) if turn.chat.owner.facts.mcp_data_as_text else data
        await invocation.wait_as("awaiting_input")
        answers.append(invocation.inputs)
    invocation.end("completed", json.dumps(answers, ensure_ascii=False), {"answers": answers})


async def _unknown(_turn: Turn, invocation: Invocation) -> None:
    invocation.end("failed", f"the sandbox knows no tools of type {invocation.tool.type!r}")


_KINDS: dict[str, Callable[[Turn, Invocation], Awaitable[None]]] = {
    "client": _client, "internal": _internal, "app": _app, "agent": _agent,
    "http": _report_request, "call": _report_request, "hook": _report_request, "mcp": _mcp,
}  # fmt: skip


def parameters(tool: Tool) -> Json:
    """The JSON schema of what a tool takes."""
    how = tool.how
    if tool.type == "app":
        ref = Ref.read(str(how.get("ref") or ""))
        try:
            function = function_of(app_named(ref.name), str(how.get("function") or ref.function))
        except Problem:
            return {"type": "object", "properties": {}}  # it will fail when it is used, and say why
        return function.input_model.model_json_schema()
    if tool.type == "agent":
        return {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    schema: Any = how.get("input_schema")
    return cast("Json", schema) if isinstance(schema, dict) else {"type": "object", "properties": {}}
