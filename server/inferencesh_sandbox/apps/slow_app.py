"""Apps for watching a run: one that takes its time, one that fails, one that streams text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import Field

from inferencesh_sandbox.apps.types import App, AppFailed, AppInput, AppOutput, Function, Price

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work


class SlowInput(AppInput):
    seconds: float = Field(default=5.0, ge=0, le=3600, description="How long the steps take together")
    steps: int = Field(default=5, ge=1, le=1000, description="How many steps there are; each writes a log line")
    fail_at: int | None = Field(default=None, ge=1, description="The step that fails; none if empty")


class SlowOutput(AppOutput):
    steps: int = Field(description="Steps that were done")
    seconds: float = Field(description="Seconds that they took")


async def _slow(work: Work, inputs: SlowInput) -> dict[str, Any]:
    pause = inputs.seconds / inputs.steps
    for step in range(1, inputs.steps + 1):
        await work.clock.sleep(pause)
        if step == inputs.fail_at:
            raise AppFailed(f"step {step} of {inputs.steps} failed, as asked")
        work.log(f"step {step}/{inputs.steps}")
        work.publish_partial({"steps": step, "seconds": round(step * pause, 6)})
    return {"steps": inputs.steps, "seconds": inputs.seconds}


def _price_of_time(inputs: SlowInput) -> Price:
    return Price(
        "range",
        least=0,
        most=int(inputs.seconds * 1_000_000),
        depends_on=("seconds",),
        description="Pretended money of the sandbox: 0.01 USD per second that it runs.",
        per_second=1_000_000,
    )


class FailInput(AppInput):
    message: str = Field(default="failed, as asked", max_length=10_000, description="The error of the task")


class FailOutput(AppOutput):
    pass


async def _fail(work: Work, inputs: FailInput) -> dict[str, Any]:
    work.log("about to fail")
    raise AppFailed(inputs.message)


class StreamInput(AppInput):
    text: str = Field(description="The text to stream, word by word", max_length=20_000)
    chunk_ms: int = Field(default=20, ge=0, le=10_000, description="Milliseconds between two words")


class StreamOutput(AppOutput):
    response: str = Field(description="The whole text")


async def _stream(work: Work, inputs: StreamInput) -> dict[str, Any]:
    for word in re.findall(r"\s*\S+|\s+$", inputs.text):
        await work.clock.sleep(inputs.chunk_ms / 1000)
        work.delta(response=word)
    return {"response": inputs.text}


async def _nobody_came(_work: Work, _inputs: StreamInput) -> dict[str, Any]:
    detail = "nobody connected to the socket of this run; the sandbox has none"
    raise AppFailed(detail)


SLOW = App(
    name="slow",
    title="Slow (sandbox)",
    description="Takes as long as it is told, in steps that log, through every status. An app of the sandbox.",
    category="other",
    functions=(Function("run", "Take time.", SlowInput, SlowOutput, _slow),),
    price=_price_of_time,
)
FAIL = App(
    name="fail",
    title="Fail (sandbox)",
    description="Fails with the message it is given. An app of the sandbox.",
    category="other",
    functions=(Function("run", "Fail.", FailInput, FailOutput, _fail),),
)
STREAM_TEXT = App(
    name="stream-text",
    title="Stream text (sandbox)",
    description="Streams the text it is given in deltas, as a language model would. An app of the sandbox.",
    category="chat",
    functions=(
        Function("run", "Stream a text.", StreamInput, StreamOutput, _stream),
        Function("live", "Stream a text over a WebSocket.", StreamInput, StreamOutput, _nobody_came, kind="stream"),
    ),
)
