"""Agents for watching what goes wrong: one that fails, one that hangs, one that is lost, one that is locked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from inferencesh_sandbox.agents.types import Agent, AgentFailed, Config

if TYPE_CHECKING:
    from inferencesh_sandbox.turns import Turn


async def _fail(turn: Turn) -> None:
    await turn.say("I will try.")
    raise AgentFailed("the agent failed, as an agent of this name must")


async def _hang(turn: Turn) -> None:
    await turn.say("I am working on it, and will be until I am stopped.")
    await anyio.sleep_forever()


async def _lose(turn: Turn) -> None:
    await turn.say("I have begun, and")
    raise AgentFailed("worker lost: the machine that ran this agent is gone")


async def _never(_turn: Turn) -> None:
    raise AgentFailed("this agent cannot run")


FAILING = Agent(
    name="failing",
    title="Failing (sandbox)",
    config=Config(description="Says a few words and fails, every time. A scripted agent of the sandbox."),
    script=_fail,
)
HANGING = Agent(
    name="hanging",
    title="Hanging (sandbox)",
    config=Config(description="Never comes to an end until it is stopped. A scripted agent of the sandbox."),
    script=_hang,
)
LOSING = Agent(
    name="losing",
    title="Losing (sandbox)",
    config=Config(description="Loses its worker in the middle of a sentence. A scripted agent of the sandbox."),
    script=_lose,
)
LOCKED = Agent(
    name="locked",
    title="Locked (sandbox)",
    config=Config(
        description="Cannot be talked to: it shows what a missing secret looks like. A scripted agent of the sandbox."
    ),
    script=_never,
    requirements=(
        {
            "type": "secret",
            "key": "SANDBOX_AGENT_KEY",
            "message": "secret SANDBOX_AGENT_KEY is missing",
            "action": {"type": "add_secret", "secrets": ["SANDBOX_AGENT_KEY"]},
        },
    ),
)
