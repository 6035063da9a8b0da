"""An agent that talks: short and long answers, streamed, and a memory as long as its chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox.agents.types import Agent, Config, ContextField
from inferencesh_sandbox.agents.vision import file_dtos
from inferencesh_sandbox.chitchat import reply

if TYPE_CHECKING:
    from inferencesh_sandbox.turns import Turn


async def _talk(turn: Turn) -> None:
    if "think" in turn.text.lower():
        await turn.say("This is where a model would think.", thought=True)
    if turn.files:
        await turn.say(file_dtos(turn))
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
