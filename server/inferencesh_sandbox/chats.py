"""A chat: its messages, runs, pending tool calls, and its form in the API."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio

from inferencesh_sandbox import agent_dto
from inferencesh_sandbox.ids import fresh_id, short, stamp
from inferencesh_sandbox.messages import Message
from inferencesh_sandbox.streams import ChatStreams
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from inferencesh_sandbox.agents.types import Agent
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.messages import Interrupt, Invocation, MessageRequest
    from inferencesh_sandbox.owners import Owner

_LIVE = frozenset({"submitted", "working", "input_required"})
FINAL = frozenset({"ready", "failed", "cancelled"})
_MESSAGES = 2_000
_QUEUED = 50


@dataclass(eq=False, kw_only=True)
class Run:
    """One turn of the agent, as an AgentRun."""

    chat: Chat
    request: MessageRequest
    user_message: Message
    first: Message
    """The assistant's first message, which is in the answer to the POST."""
    state: str = "submitted"
    error: str | None = None
    output: Any = None
    end_reason: str = ""
    """The platform's word for why it ended; empty where it has none."""
    started: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """Around the script: cancelled when the chat is stopped."""

    def __post_init__(self) -> None:
        self.created_at = self.updated_at = self.chat.clock.now()
        self.id = fresh_id(self.created_at)

    @property
    def live(self) -> bool:
        return self.state in _LIVE

    def dto(self) -> Json:
        """The run, as an AgentRunDTO."""
        blocking = next((item for item in self.chat.open if item.blocks), None) if self.live else None
        return {
            **self.chat.owner.record_fields(self.id, self.created_at, self.updated_at),
            "agent_id": self.request.agent.id,
            "agent_version_id": self.request.version_id,
            "chat_id": self.chat.id,
            "user_message_id": self.user_message.id,
            "state": self.state,
            "error": self.error,
            "output": self.output,
            "interrupt_reason": _reason(blocking) if blocking else None,
            "interrupt_tool_id": blocking.id if blocking else None,
        }


def _reason(invocation: Invocation) -> str:
    if invocation.status == "awaiting_approval":
        return "tool_approval"
    return "client_tool" if invocation.tool.type == "client" else "widget"


@dataclass(eq=False, kw_only=True)
class Chat:
    """One chat with an agent. Each change goes to all watchers."""

    owner: Owner
    clock: Clock
    agent: Agent
    version_id: str
    context: dict[str, str]
    parent: Chat | None = None
    name: str = ""
    description: str = ""
    output: Any = None
    messages: list[Message] = field(default_factory=list["Message"])
    runs: list[Run] = field(default_factory=list["Run"])
    queue: deque[Run] = field(default_factory=deque["Run"])
    invocations: dict[str, Invocation] = field(default_factory=dict[str, "Invocation"])
    interrupts: dict[str, Interrupt] = field(default_factory=dict[str, "Interrupt"])
    children: list[Chat] = field(default_factory=list["Chat"])
    plan_steps: list[Json] = field(default_factory=list["Json"])
    memory: dict[str, str] = field(default_factory=dict[str, str])
    rules: list[Json] = field(default_factory=list["Json"])
    """What the person always allows in this chat, as PolicyRuleDTOs."""

    def __post_init__(self) -> None:
        self.created_at = self.updated_at = self.clock.now()
        self.id = fresh_id(self.created_at)
        self.streams = ChatStreams(self.present)
        self._published_state: tuple[str, ...] = ()
        self._current_invocations: list[Invocation] = []
        self._orders = count(1)

    @property
    def run(self) -> Run | None:
        """The current run, or the last one."""
        return self.runs[-1] if self.runs else None

    @property
    def busy(self) -> bool:
        return self.run is not None and self.run.live

    @property
    def status(self) -> str:
        if not self.busy:
            return "idle"
        return "awaiting_input" if any(item.blocks for item in self.open) else "busy"

    @property
    def open(self) -> list[Invocation]:
        """The tool calls of this run that have not ended."""
        return [item for item in self._current_invocations if not item.over]

    def message(self, name: str) -> Message | None:
        return next((item for item in self.messages if name in {item.id, short(item.id)}), None)

    # What happens

    def ask(self, request: MessageRequest) -> Run:
        """Add a message. Its run begins at once, or waits until the chat is free."""
        if len(self.messages) >= _MESSAGES or len(self.queue) >= _QUEUED:
            raise Problem(402, "limit_exceeded", "this chat of the sandbox is full; start a new one")
        waits = self.busy
        user = self.add("user", "queued" if waits else "ready")
        user.text, user.parts = request.text, [file.dto() for file in request.files]
        first = self.add("assistant", "queued" if waits else "pending")
        run = Run(chat=self, request=request, user_message=user, first=first)
        user.run_id = first.run_id = run.id
        self.name = self.name or request.text[:60]
        if waits:
            self.queue.append(run)
        else:
            self._open(run)
        self.publish_message(user)
        self.publish_message(first)
        return run

    def add(self, role: str, status: str, run: Run | None = None) -> Message:
        message = Message(chat=self, role=role, status=status, order=next(self._orders))
        message.run_id = run.id if run else None
        self.messages.append(message)
        return message

    def next_run(self) -> Run | None:
        """Open the run of the message that has waited longest, without being idle in between.

        Its messages move to the end: what the turn before said while they waited comes first.
        """
        if self.busy or not self.queue:
            return None
        run = self.queue.popleft()
        for message, status in ((run.user_message, "ready"), (run.first, "pending")):
            self.messages.remove(message)
            self.messages.append(message)
            message.status, message.order = status, next(self._orders)
        self._open(run)
        self.publish_message(run.user_message)
        self.publish_message(run.first)
        return run

    def _open(self, run: Run) -> None:
        self.agent, self.version_id = run.request.agent, run.request.version_id
        self.runs.append(run)
        self._current_invocations.clear()
        self.publish_changes()

    def use(self, invocation: Invocation) -> None:
        """Start a tool call. Watchers get it with the complete text before it."""
        message = invocation.message
        message.deltas.clear()
        message.invocations.append(invocation)
        self.invocations[invocation.id] = invocation
        self._current_invocations.append(invocation)

    def withdraw(self, message: Message) -> None:
        """Withdraw a queued message."""
        run = next((item for item in self.queue if message in {item.user_message, item.first}), None)
        if run is None:
            raise Problem(409, "invalid_transition", f"message {message.id} is not queued: it is {message.status}")
        self.queue.remove(run)
        run.state = "canceled"
        for item in (run.user_message, run.first):
            self.settle(item, "cancelled")

    def settle(self, message: Message, status: str) -> None:
        """Set a message's final status and text."""
        if message.status in FINAL:
            return
        message.status = status
        message.deltas.clear()
        message.updated_at = self.clock.now()
        self.publish_message(message)

    def end(self, run: Run, state: str, *, error: str | None = None) -> None:
        """End a run, and everything in it that is still open."""
        if not run.live:
            return
        for invocation in self.open:
            invocation.end("cancelled", "the turn ended")
        for interrupt in self.pending_interrupts:
            interrupt.status = "cancelled"
        last = {"completed": "ready", "failed": "failed"}.get(state, "cancelled")
        for message in self.messages:
            if message.run_id == run.id and message.status not in FINAL:
                message.error = (error or "") if self.owner.facts.errors_in_messages else ""
                self.settle(message, last)
        run.state, run.error, run.output = state, error, self.output if state == "completed" else None
        if self.owner.facts.run_end_events:
            self._publish_end(run)
        # While a message is queued, the chat is not shown as idle: the SDK that waits for its answer would leave.
        if self.queue:
            self.publish_run(run)
        else:
            self.publish_changes()

    def _publish_end(self, run: Run) -> None:
        """Add a message that states how a run ended, and why."""
        failed = run.state == "failed"
        ended = {"run_id": run.id, "state": run.state, "duration_ms": 1}
        event = {"type": "run_failed" if failed else "run_ended", "run": ended}
        if run.end_reason and not failed:
            ended["reason"] = run.end_reason
        message = self.add("event", "ready", run)
        message.parts = [{"type": "event", "text": run.error or "", "event": event}]
        self.publish_message(message)

    def always_allows(self, invocation: Invocation) -> bool:
        """Whether a rule of this chat allows a call."""
        own = (invocation.tool.name, invocation.exactly)
        return any(rule["selector"] == own[0] and rule["specifier"] in {"", own[1]} for rule in self.rules)

    @property
    def pending_interrupts(self) -> list[Interrupt]:
        return [item for item in self.interrupts.values() if item.status == "pending"]

    # Its form in the API

    def publish_changes(self) -> None:
        """Send the run and the chat if their state has changed."""
        run = self.run
        if run and run.live and run.started:
            run.state = "input_required" if any(item.blocks for item in self.open) else "working"
        waiting = [item.id for item in self.pending_interrupts]
        state = (self.status, *((run.id, run.state) if run else ()), *waiting)
        if state == self._published_state:
            return
        self._published_state = state
        self.updated_at = self.clock.now()
        if run:
            run.updated_at = self.updated_at
            self.publish_run(run)
        self.publish_chat()

    def publish_chat(self) -> None:
        self.streams.put({"event": "chats", "data": self.dto()})

    def publish_run(self, run: Run) -> None:
        self.streams.put({"event": "agent_runs", "data": run.dto()})

    def publish_message(self, message: Message) -> None:
        self.streams.put({"event": "chat_messages", "data": message.dto(streamed=True)})

    def grow(self, message: Message, delta: Json) -> None:
        """Stream an addition to a message's text."""
        if message.status in FINAL:
            return
        message.text += delta.get("response", "")
        message.reasoning += delta.get("reasoning", "")
        message.seq += 1
        event = {"event": "delta", "data": {"resource_id": message.id, "seq": message.seq, "delta": delta}}
        message.deltas.append(event)
        self.streams.put(event)

    def present(self) -> list[Json]:
        """The current state, as the first lines of a stream.

        The messages come before the chat, because an SDK leaves when it sees an idle chat. A growing text is sent as all of
        its deltas and not in its message: the JS and Python SDKs add up deltas from nothing on each connection.
        """
        lines: list[Json] = []
        for message in self.messages:
            lines += [{"event": "chat_messages", "data": message.dto(streamed=True)}, *message.deltas]
        if self.run:
            lines.append({"event": "agent_runs", "data": self.run.dto()})
        return [*lines, {"event": "chats", "data": self.dto()}]

    def dto(self, *, with_messages: bool = False) -> Json:
        """The chat, as a ChatDTO. It has its messages only where the platform preloads them (see `Facts`)."""
        chat: Json = {
            **self.owner.record_fields(self.id, self.created_at, self.updated_at),
            "parent_id": self.parent.id if self.parent else None,
            "children": [{"id": child.id, "status": child.status, "name": child.name} for child in self.children],
            "status": self.status,
            "output": self.output,
            "context": self.context,
            "agent_id": self.agent.id,
            "agent_version_id": self.version_id,
            "agent": agent_dto.agent_dto(self.agent),
            "name": self.name,
            "description": self.description,
            "agent_data": {
                "plan_steps": list(self.plan_steps),
                "memory": dict(self.memory),
                **self._allowed(),
            },
            "active_run": self.run.dto() if self.run and (self.busy or self.owner.facts.ended_run_kept) else None,
            "pending_interrupts": [item.dto() for item in self.pending_interrupts],
        }
        messages = {"chat_messages": [item.dto() for item in self.messages]}
        return chat | (messages if with_messages and self.owner.facts.messages_preloaded else {})

    def _allowed(self) -> Json:
        """What is allowed without asking, in the chat's data."""
        if self.owner.facts.always_allow_options:
            return {"allow_all_tools": False, "disable_hooks": False}
        return {"always_allowed_tools": [rule["selector"] for rule in self.rules]}

    def status_dto(self) -> Json:
        """The chat's status alone, which is what pollers compare.

        Here a client tool that waits does say so, while the chat itself says that it is busy: the JS SDK's poller reads the
        chat, and finds the tool, only after this has changed, and then goes by what the chat says.
        """
        input_requested = self.busy and any(item.status == "awaiting_input" for item in self.open)
        status = "awaiting_input" if input_requested else self.status
        return {"id": self.id, "status": status, "updated_at": stamp(self.updated_at)}

    def trace_dto(self) -> Json:
        """What every run did, in order."""
        return {"chat_id": self.id, "runs": [self._traced(run) for run in self.runs]}

    def _traced(self, run: Run) -> Json:
        own = [message for message in self.messages if message.run_id == run.id]
        used = [invocation.dto() for message in own for invocation in message.invocations]
        return run.dto() | {"message_ids": [message.id for message in own], "tool_invocations": used}
