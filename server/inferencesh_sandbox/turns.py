"""One turn of an agent, as the agent's script uses it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from inferencesh_sandbox.agents.types import AgentFailed, Tool
from inferencesh_sandbox.chats import FINAL
from inferencesh_sandbox.messages import Invocation
from inferencesh_sandbox.wire import Json, Problem, is_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh_sandbox.agents.types import Config
    from inferencesh_sandbox.chats import Chat, Run
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.files import Store
    from inferencesh_sandbox.messages import Attached, Message

_PACE = 0.02
"""Seconds between two words."""
_MAX_SECONDS = 2.0
"""Seconds that a text takes at most, unless its script says otherwise."""
_PIECES = 400


@dataclass(frozen=True)
class Use:
    """A tool and its arguments."""

    tool: Tool
    arguments: Json
    secret_send: Json | None = None


class AgentLoop(Protocol):
    """What a turn uses of the loop that runs it (see `agent_loop.Conversations`)."""

    @property
    def store(self) -> Store: ...

    async def run_tool(self, turn: Turn, invocation: Invocation) -> None: ...


@dataclass(eq=False)
class Turn:
    """One turn, from the person's message to the agent's last word."""

    chat: Chat
    run: Run
    agent_loop: AgentLoop
    _message: Message = field(init=False)

    def __post_init__(self) -> None:
        self._message = self.run.first

    @property
    def clock(self) -> Clock:
        return self.chat.clock

    @property
    def config(self) -> Config:
        return self.run.request.agent.config

    @property
    def text(self) -> str:
        return self.run.request.text

    @property
    def files(self) -> tuple[Attached, ...]:
        return self.run.request.files

    @property
    def base(self) -> str:
        return self.run.request.base

    @property
    def earlier(self) -> list[str]:
        """What the person said in this chat before, the newest last."""
        return [item.user_message.text for item in self.chat.runs if item is not self.run]

    async def say(self, text: str, *, pace: float | None = None, thought: bool = False) -> None:
        """Send a text word by word, as text or as reasoning."""
        message = self._writing()
        pieces = split(f"\n{text}" if message.text and not thought else text)
        pause = min(_PACE, _MAX_SECONDS / max(1, len(pieces))) if pace is None else pace
        for piece in pieces:
            await self.clock.sleep(pause)
            self.chat.grow(message, {"reasoning" if thought else "response": piece})

    def show(self, uri: str) -> None:
        """Add a picture to the current message."""
        self._writing().parts.append({"type": "image", "image": uri})

    async def use(self, tool: Tool, **arguments: Any) -> Invocation:
        """Call one tool and wait for its end."""
        return (await self.use_all([Use(tool, arguments)]))[0]

    async def use_all(self, uses: Sequence[Use]) -> list[Invocation]:
        """Use several tools at once; the message that asked for them is complete when all have ended."""
        message = self._writing()
        invocations = [
            Invocation(message=message, tool=use.tool, arguments=use.arguments, secret_send=use.secret_send)
            for use in uses
        ]
        for invocation in invocations:
            self.chat.use(invocation)
        async with anyio.create_task_group() as group:
            for invocation in invocations:
                group.start_soon(self.agent_loop.run_tool, self, invocation)
        self.chat.settle(message, "ready")
        return invocations

    async def internal(self, name: str, arguments: Json, result: str) -> None:
        """Call an internal tool. It completes at once."""
        await self.use_all([Use(_internal(name, result), arguments)])
        self.chat.publish_chat()

    async def ask(self, widget: Json, name: str = "widget_ui") -> Json:
        """Show a widget and wait for the answer: `{action, form_data?}`."""
        message = self._writing()
        invocation = Invocation(message=message, tool=_internal(name), arguments={}, widget=widget)
        self.chat.use(invocation)
        await invocation.wait_as("awaiting_input")
        self.chat.settle(message, "ready")
        answer: Json = json.loads(invocation.result or "{}")
        return answer

    async def finish(self, output: Json) -> None:
        """End with a structured output, as the internal tool `finish` does."""
        self.chat.output = output
        await self.internal("finish", output, json.dumps(output, ensure_ascii=False))

    def _writing(self) -> Message:
        """The message that still can grow. After a message has used its tools, a new one begins."""
        if not self.run.live:
            raise AgentFailed("the turn is over")
        if self._message.status in FINAL:
            self._message = self.chat.add("assistant", "pending", self.run)
        return self._message


def split(text: str) -> list[str]:
    """Cut a text into words with the spaces before them; of a long one, into pieces of several words."""
    words = text.replace("\n", " \n").split(" ")
    size = -(-len(words) // _PIECES)
    pieces = [" ".join(words[start : start + size]) for start in range(0, len(words), size)]
    joined = [pieces[0], *(" " + piece for piece in pieces[1:])]
    return [piece.replace(" \n", "\n") for piece in joined if piece]


def widget_result(result: str) -> str:
    """Validate the answer to a widget: it must be the JSON text of `{action, form_data?}`."""
    try:
        parsed: Any = json.loads(result)
    except ValueError:
        parsed = None
    if not is_object(parsed) or not is_object(parsed.get("action")):
        raise Problem(400, "validation_error", "result: a widget takes the JSON text of {action, form_data?}")
    return result


def _internal(name: str, result: str = "") -> Tool:
    category, _, operation = name.partition("_")
    parsed = {"category": category, "operation": operation or category, "result": result}
    return Tool(name=name, type="internal", display_name=name, internal=parsed)
