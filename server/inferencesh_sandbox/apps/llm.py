"""The core app of the agents that a request describes; as an app, it answers one message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from inferencesh_sandbox.apps.types import App, AppInput, AppOutput, Function
from inferencesh_sandbox.chitchat import reply

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work

_PACE = 0.02


class LLMInput(AppInput):
    model_config = ConfigDict(title="LLMInput")
    system_prompt: str = Field(default="", description="Read by nobody: there is no model", max_length=200_000)
    context: list[dict[str, Any]] = Field(default=[], description="The messages before this one")
    text: str = Field(description="The message", max_length=200_000)


class LLMUsage(BaseModel):
    stop_reason: str = "stop"
    prompt_tokens: int = Field(default=0, description="Words that came in")
    completion_tokens: int = Field(default=0, description="Words that went out")
    total_tokens: int = Field(default=0, description="Both")


class LLMMade(AppOutput):
    model_config = ConfigDict(title="LLMOutput")
    response: str = Field(description="The answer")
    usage: LLMUsage | None = Field(default=None, description="What the price would be made of")


async def _answer(work: Work, inputs: LLMInput) -> dict[str, Any]:
    earlier = [str(message.get("text") or "") for message in inputs.context]
    answer = reply(inputs.text, earlier)
    for word in re.findall(r"\s*\S+", answer.text.rstrip()):
        await work.clock.sleep(answer.pace if answer.pace is not None else _PACE)
        work.delta(response=word)
    prompt_tokens, completion_tokens = len(inputs.text.split()), len(answer.text.split())
    usage = LLMUsage(
        prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, total_tokens=prompt_tokens + completion_tokens
    )
    return {"response": answer.text, "usage": usage.model_dump()}


LLM = App(
    name="llm",
    title="Language model (sandbox)",
    description=(
        "Answers a message by plain rules, streamed as a language model would; the core app for agents you describe "
        "yourself. An app of the sandbox: there is no model in it."
    ),
    category="chat",
    functions=(Function("run", "Answer a message.", LLMInput, LLMMade, _answer),),
)
