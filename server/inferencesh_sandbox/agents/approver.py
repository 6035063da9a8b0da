"""An agent that never draws without the person's approval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox.agents.types import Agent, Config, Tool
from inferencesh_sandbox.turns import Use

if TYPE_CHECKING:
    from inferencesh_sandbox.messages import Invocation
    from inferencesh_sandbox.turns import Turn


_SECRETS = {"agent": "sandbox/approver", "host": "painter.example", "secrets": ["PAINTER_KEY"]}
"""What it says that it would send, where the message is about a secret. It sends nothing."""


async def _ask_and_draw(turn: Turn) -> None:
    await turn.say("I would like to draw that, if you approve.")
    prompts = (
        [f"{turn.text[:3000]} ({number})" for number in (1, 2)] if "two" in turn.text.lower() else [turn.text[:4000]]
    )
    tool = turn.config.tool("draw")
    sends = _SECRETS if "secret" in turn.text.lower() else None
    uses = [Use(tool, {"prompt": prompt, "width": 64, "height": 64}, sends) for prompt in prompts]
    used = await turn.use_all(uses)
    for invocation in used:
        if invocation.status == "completed":
            turn.show(invocation.data["image"])
    await turn.say(" ".join(_outcome(invocation) for invocation in used))


def _outcome(invocation: Invocation) -> str:
    if invocation.status == "completed":
        return f"Here is the picture: {invocation.data['image']}"
    if invocation.status == "cancelled":
        reason = (invocation.result or "").removeprefix("rejected").removeprefix(": ")
        return f"I did not draw it, because you said: {reason}" if reason else "I did not draw it: you said no."
    return f"Drawing failed: {invocation.result}"


APPROVER = Agent(
    name="approver",
    title="Approver (sandbox)",
    config=Config(
        description=(
            "Asks for approval before it draws with sandbox/draw, and obeys: accepted, rejected with a reason, or always "
            "allowed. Say two, and it asks twice at once; say secret, and it would send one. A scripted agent of the sandbox: there is no model."
        ),
        example_prompts=["Draw a lake", "Draw two lakes"],
        tools=[
            Tool(
                name="draw",
                display_name="Draw",
                description="Draw a picture",
                type="app",
                require_approval=True,
                app={"ref": "sandbox/draw"},
            )
        ],
    ),
    script=_ask_and_draw,
)
