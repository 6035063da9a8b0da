"""Apps that only handle words: echo and template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from inferencesh_sandbox.apps.types import App, AppInput, AppOutput, Function

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work


class EchoInput(AppInput):
    model_config = ConfigDict(title="AppInput", extra="allow")


class EchoOutput(AppOutput):
    model_config = ConfigDict(title="AppOutput", extra="allow")


async def _echo(_work: Work, inputs: EchoInput) -> dict[str, Any]:
    return inputs.model_dump()


class TemplateInput(AppInput):
    template: str = Field(description="Text with the places {1}, {2} and so on", max_length=20_000)
    strings: list[str] = Field(default=[], description="What goes into the places, in order", max_length=100)


class TemplateOutput(AppOutput):
    result: str = Field(description="The text with its places filled; a place without a string stays as it is")


async def _fill(_work: Work, inputs: TemplateInput) -> dict[str, Any]:
    def filled(place: re.Match[str]) -> str:
        number = int(place[1])
        return inputs.strings[number - 1] if 1 <= number <= len(inputs.strings) else place[0]

    return {"result": re.sub(r"\{(\d{1,3})\}", filled, inputs.template)}


ECHO = App(
    name="echo",
    title="Echo (sandbox)",
    description="Gives back what it is given. An app of the sandbox: nothing leaves this machine.",
    category="other",
    functions=(Function("run", "Return the input.", EchoInput, EchoOutput, _echo),),
)
TEMPLATE = App(
    name="template",
    title="Template (sandbox)",
    description="Fills {1}, {2} … of a text with the strings given. An app of the sandbox.",
    category="text",
    functions=(Function("run", "Fill a template.", TemplateInput, TemplateOutput, _fill),),
)
