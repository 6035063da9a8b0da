"""Run the turns of agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferencesh_sandbox import agent_dto
from inferencesh_sandbox.agents import AGENTS
from inferencesh_sandbox.agents.types import AgentFailed
from inferencesh_sandbox.chats import Chat
from inferencesh_sandbox.ledger import MessageSent
from inferencesh_sandbox.messages import MessageRequest
from inferencesh_sandbox.turns import Turn

if TYPE_CHECKING:
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.files import Store
    from inferencesh_sandbox.ledger import Ledger
    from inferencesh_sandbox.messages import Run
    from inferencesh_sandbox.runs import Workers


@dataclass(frozen=True)
class Conversations:
    """Run the turns of chats for as long as the sandbox is open."""

    clock: Clock
    store: Store
    ledger: Ledger
    workers: Workers

    async def take(self, message: MessageRequest, chat: Chat, caller: str) -> Run:
        """Take a message: its turn is queued, and the ledger knows it."""
        run = chat.ask(message)
        self.ledger.note(
            MessageSent(
                at=self.clock.now(),
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
        await self._one(run)
        if (following := run.chat.next_run()) is not None:
            self.workers.spawn(self.carry_out, following)

    async def _one(self, run: Run) -> None:
        chat = run.chat
        if run.started or not run.live:
            return
        run.started = True
        chat.reflect()
        with run.scope:
            try:
                await run.request.agent.script(Turn(chat, run, self))
            except AgentFailed as exc:
                chat.end(run, "failed", error=str(exc))
            except Exception as exc:  # noqa: BLE001 - one broken script must not stop the others; its owner is told
                chat.end(run, "failed", error=f"the agent broke: {type(exc).__name__}: {exc}")
            else:
                chat.end(run, "completed")
        chat.end(run, "canceled")

    def stop(self, chat: Chat) -> None:
        """Stop the current turn and drop the queue, so that no other turn begins."""
        for waiting in list(chat.queue):
            chat.take_back(waiting.user_message)
        run = chat.run
        if run and run.live:
            run.scope.cancel()
            # At once, not when the script has noticed: the answer to the stop shows the new status.
            chat.end(run, "canceled")

    def delegate(self, turn: Turn, ref: str, text: str) -> Run:
        """Open a chat of an agent with another agent."""
        agent, version_id = agent_dto.resolve_agent(AGENTS, ref)
        above = turn.chat
        below = Chat(owner=above.owner, clock=above.clock, agent=agent, version_id=version_id, context={}, parent=above)
        above.children.append(below)
        above.owner.chats.put(below.id, below)
        return below.ask(MessageRequest(agent=agent, version_id=version_id, text=text, files=(), base=turn.base))
