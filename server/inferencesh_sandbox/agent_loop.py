"""Run the turns of agents, and their tool calls after the person's approval where a tool needs it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferencesh_sandbox import agent_dto, mcp_servers
from inferencesh_sandbox.agents import AGENTS
from inferencesh_sandbox.agents.types import AgentFailed
from inferencesh_sandbox.chats import Chat
from inferencesh_sandbox.ledger import Invoked, MessageSent
from inferencesh_sandbox.messages import Interrupt, MessageRequest
from inferencesh_sandbox.run_requests import parse_run_request
from inferencesh_sandbox.tasks import Status
from inferencesh_sandbox.turns import Turn
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from inferencesh_sandbox.chats import Run
    from inferencesh_sandbox.files import Store
    from inferencesh_sandbox.ledger import Ledger
    from inferencesh_sandbox.messages import Invocation
    from inferencesh_sandbox.runs import Workers
    from inferencesh_sandbox.tasks import Task
    from inferencesh_sandbox.tenants import Tenants


@dataclass(frozen=True)
class Conversations:
    """Run the turns of chats for as long as the sandbox is open."""

    store: Store
    ledger: Ledger
    workers: Workers
    tenants: Tenants

    async def take(self, message: MessageRequest, chat: Chat, caller: str) -> Run:
        """Take a message: its turn is queued, and the ledger knows it."""
        run = chat.ask(message)
        self.ledger.note(
            MessageSent(
                chat_id=chat.id,
                message_id=run.user_message.id,
                agent=message.agent.ref,
                text=message.text,
                caller=caller,
            )
        )
        return run

    async def begin(self, run: Run) -> None:
        """Start a turn and return at once. Call it when the answer has been sent. A queued turn stays queued."""
        if run is run.chat.run:
            self.workers.spawn(self.carry_out, run)

    async def carry_out(self, run: Run) -> None:
        """Run a turn to its end, then the turns that were queued meanwhile."""
        await self._run_turn(run)
        if (following := run.chat.next_run()) is not None:
            self.workers.spawn(self.carry_out, following)

    async def _run_turn(self, run: Run) -> None:
        chat = run.chat
        if run.started or not run.live:
            return
        run.started = True
        chat.publish_changes()
        with run.scope:
            try:
                await run.request.agent.script(Turn(chat, run, self))
            except AgentFailed as exc:
                chat.end(run, "failed", error=str(exc))
            except Exception as exc:  # noqa: BLE001 - one broken script must not stop the others; the run shows the error
                chat.end(run, "failed", error=f"the agent broke: {type(exc).__name__}: {exc}")
            else:
                chat.end(run, "completed")
        chat.end(run, "canceled")

    def stop(self, chat: Chat) -> None:
        """Stop the current turn and drop the queue, so that no other turn begins."""
        for waiting in list(chat.queue):
            chat.withdraw(waiting.user_message)
        run = chat.run
        if run and run.live:
            run.scope.cancel()
            # At once, not when the script has noticed: the answer to the stop shows the new status.
            chat.end(run, "canceled")

    async def run_tool(self, turn: Turn, invocation: Invocation) -> None:
        """Run one tool call until it is completed, failed or cancelled. Raises nothing."""
        if not await _is_approved(turn, invocation):
            return
        chat, tool = turn.chat, invocation.tool
        if tool.type != "client" and invocation.status != "in_progress":
            invocation.move("in_progress")
        self.ledger.note(Invoked(chat_id=chat.id, invocation_id=invocation.id, tool=tool.name, type=tool.type))
        try:
            await self._run_by_type(turn, invocation)
        except Problem as problem:
            invocation.end("failed", problem.detail)

    async def _run_by_type(self, turn: Turn, invocation: Invocation) -> None:
        match invocation.tool.type:
            case "client":
                await invocation.wait_as("awaiting_input")
            case "internal":
                invocation.end("completed", str(invocation.tool.config.get("result", "")))
            case "app":
                await self._run_app(turn, invocation)
            case "agent":
                await self._delegate(turn, invocation)
            case "mcp":
                await _call_mcp_server(turn, invocation)
            case "http" | "call" | "hook":
                _report_request(invocation)
            case other:
                invocation.end("failed", f"the sandbox knows no tools of type {other!r}")

    async def _run_app(self, turn: Turn, invocation: Invocation) -> None:
        """Run the app as a task of the same owner."""
        config = invocation.tool.config
        arguments: Json = {**(config.get("input") or {}), **invocation.arguments}
        body: Json = {
            "app": config.get("ref"),
            "function": config.get("function"),
            "setup": config.get("setup"),
            "session": arguments.pop("session", None) if config.get("session_enabled") else None,
            "input": arguments,
        }
        tenant = self.tenants.of_owner(turn.chat.owner)
        request = parse_run_request(body, tenant=tenant, clock=turn.clock, base=turn.base)
        task = await self.workers.take(request, tenant, self.ledger)
        invocation.execution_id = task.id
        invocation.move("in_progress")
        await self.workers.begin(task)
        await _wait_for_end(task)
        output = dict(task.output or {}) | ({"session_id": request.session.id} if request.session else {})
        if task.status is Status.COMPLETED:
            invocation.end("completed", json.dumps(output, ensure_ascii=False), output)
        else:
            invocation.end("failed", task.error or f"the task was {task.status.name.lower()}")

    async def _delegate(self, turn: Turn, invocation: Invocation) -> None:
        """Delegate to another agent, in a chat of its own."""
        agent, version_id = agent_dto.resolve_agent(AGENTS, str(invocation.tool.config.get("ref") or ""))
        owner, clock = turn.chat.owner, turn.chat.clock
        chat = Chat(owner=owner, clock=clock, agent=agent, version_id=version_id, context={}, parent=turn.chat)
        turn.chat.children.append(chat)
        self.tenants.of_owner(owner).chats.put(chat.id, chat)
        text = _message_text(invocation.arguments)
        run = chat.ask(MessageRequest(agent=agent, version_id=version_id, text=text, files=(), base=turn.base))
        invocation.execution_id = chat.id
        invocation.move("in_progress")
        try:
            await self.carry_out(run)
        finally:
            if run.live:
                self.stop(chat)
        last = next(message for message in reversed(chat.messages) if message.role == "assistant")
        if run.state == "completed":
            invocation.end("completed", last.text, {"chat_id": chat.id})
        else:
            invocation.end("failed", run.error or f"the agent's run was {run.state}")


async def _is_approved(turn: Turn, invocation: Invocation) -> bool:
    """Wait for approval, unless the tool needs none or is always allowed in this chat."""
    chat = turn.chat
    if not invocation.tool.require_approval or chat.always_allows(invocation):
        return True
    interrupt = Interrupt(run_id=turn.run.id, invocation=invocation)
    chat.interrupts[interrupt.id] = interrupt
    await invocation.wait_as("awaiting_approval")
    return invocation.allowed


async def _wait_for_end(task: Task) -> None:
    """Wait for a task. Cancel the task if the agent is stopped."""
    try:
        while not task.ended:
            await task.changed.wait()
    finally:
        if not task.ended:
            task.move(Status.CANCELLING)
            task.scope.cancel()


def _message_text(arguments: Json) -> str:
    text = arguments.get("message") or arguments.get("text") or arguments.get("prompt")
    return str(text) if text else json.dumps(arguments, ensure_ascii=False)


def _report_request(invocation: Invocation) -> None:
    """Report the request that a real tool would send. Nothing is sent, and secrets are omitted."""
    config = invocation.tool.config
    names = ("method", "url", "server", "integration_id", "tool_name")
    payload: Json = {
        "pretended": True,
        "note": "the sandbox has no network: nothing was sent",
        "would_have": {name: config[name] for name in names if config.get(name)},
        "with": invocation.arguments,
    }
    invocation.end("completed", json.dumps(payload, ensure_ascii=False), payload)


async def _call_mcp_server(turn: Turn, invocation: Invocation) -> None:
    """Call a tool of the fake MCP server, which asks for input first. Other servers are only reported."""
    config, name = invocation.tool.config, str(invocation.tool.config.get("tool_name"))
    if config.get("server") != mcp_servers.SERVER or name not in mcp_servers.TOOLS:
        _report_request(invocation)
        return
    answers: list[Json] = []
    for number, requests in enumerate(mcp_servers.TOOLS[name], start=1):
        invocation.input_requests = requests
        data = mcp_servers.input_data(requests, state=f"{invocation.id}-{number}", number=number)
        invocation.data = json.dumps(data) if turn.chat.owner.facts.mcp_data_as_text else data
        await invocation.wait_as("awaiting_input")
        answers.append(invocation.inputs)
    invocation.end("completed", json.dumps(answers, ensure_ascii=False), {"answers": answers})
