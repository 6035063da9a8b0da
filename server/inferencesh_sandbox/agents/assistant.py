"""An agent that talks: short and long answers, streamed, and a memory as long as its chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox.agents.types import Agent, Config, ContextField
from inferencesh_sandbox.apps.picture_info import measure
from inferencesh_sandbox.apps.types import AppFailed
from inferencesh_sandbox.chitchat import reply

if TYPE_CHECKING:
    from inferencesh_sandbox.messages import Attached
    from inferencesh_sandbox.turns import Turn

_MAX_PICTURE = 16 * 1024 * 1024
"""Bytes of a file that is read."""


async def _talk(turn: Turn) -> None:
    if "think" in turn.text.lower():
        await turn.say("This is where a model would think.", thought=True)
    if turn.files:
        await turn.say(describe_files(turn))
        return
    if "until you are cut off" in turn.text.lower():
        await turn.say("This goes on and on and")
        turn.run.end_reason = "output_limit"
        return
    if "say nothing" in turn.text.lower():
        turn.run.end_reason = "no_reply"
        return
    answer = reply(turn.text, turn.earlier, turn.chat.context)
    await turn.say(answer.text, pace=answer.pace)


def describe_files(turn: Turn) -> str:
    """Describe each file of the message, from its bytes."""
    return " ".join(_description(turn, file) for file in turn.files)


def _description(turn: Turn, file: Attached) -> str:
    stored = turn.agent_loop.store.by_uri(file.uri)
    if stored is None or not (stored.public or stored.owner is turn.chat.owner):
        return f"I cannot read {file.uri[:200]}: the sandbox has no network; upload the file first."
    if not stored.arrived:
        return f"The file {stored.filename} was never uploaded."
    text = f"{stored.filename}: {stored.content_type}, {stored.size} bytes"
    if stored.size <= _MAX_PICTURE:
        try:
            kind, width, height = measure(b"".join(stored.pieces()))
        except AppFailed:
            return text + "."
        return f"{text}, a {kind} of {width}x{height}."
    return text + "."


ASSISTANT = Agent(
    name="assistant",
    title="Assistant (sandbox)",
    config=Config(
        description=(
            "Answers by plain rules, word by word, and remembers the chat. Try: count to 20 slowly; write 500 words; "
            "my name is Ada; think; talk until you are cut off; say nothing; or attach a picture. A scripted agent of the sandbox: there is no model."
        ),
        system_prompt="None: this agent is a script of the sandbox.",
        example_prompts=["My name is Ada", "What is my name?", "Count to 20 slowly", "Write 500 words"],
        context=[ContextField(name="mood", description="Told again when it is asked for the context", default="calm")],
    ),
    script=_talk,
    versions=2,
)
