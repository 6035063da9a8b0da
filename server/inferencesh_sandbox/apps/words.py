"""Apps that only handle words: echo and template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from inferencesh_sandbox.apps.types import App, Function, Given, Made

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work


class EchoInput(Given):
    model_config = ConfigDict(title="AppInput", extra="allow")


class EchoOutput(Made):
    model_config = ConfigDict(title="AppOutput", extra="allow")


async def _echo(_work: Work, given: EchoInput) -> dict[str, Any]:
    return given.model_dump()


class TemplateInput(Given):
    template: str = Field(description="Text with the places {1}, {2} and so on", max_length=20_000)
    strings: list[str] = Field(default=[], description="What goes into the places, in order", max_length=100)


class TemplateOutput(Made):
    result: str = Field(description="The text with its places filled; a place without a string stays as it is")


async def _fill(_work: Work, given: TemplateInput) -> dict[str, Any]:
    def filled(place: re.Match[str]) -> str:
        number = int(place[1])
        return given.strings[number - 1] if 1 <= number <= len(given.strings) else place[0]

    return {"result": re.sub(r"\{(\d{1,3})\}", filled, given.template)}


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
