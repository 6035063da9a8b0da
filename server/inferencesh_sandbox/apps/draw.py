"""An app that draws: a real PNG, in visible steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inferencesh_sandbox.apps import png
from inferencesh_sandbox.apps.canvas import Landscape
from inferencesh_sandbox.apps.types import App, AppInput, AppOutput, Function, Price, file_field

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work

_STEPS = 8
_PAUSE = 0.05
"""Seconds between two steps, and between two statuses: a picture takes most of a second, so that it can be watched."""


class DrawSetup(BaseModel):
    model_config = ConfigDict(title="AppSetup")
    palette: Literal["auto", "warm", "cool"] = Field(default="auto", description="The colours to draw in")


class DrawInput(AppInput):
    prompt: str = Field(description="What to draw; the sandbox hashes it into a landscape", max_length=4000)
    width: int = Field(default=256, ge=16, le=1024, description="Width in pixels")
    height: int = Field(default=256, ge=16, le=1024, description="Height in pixels")
    seed: int | None = Field(default=None, description="The same prompt and seed give the same picture")


class ImageMeta(BaseModel):
    type: str = "image"
    width: int = Field(default=0, description="Width in pixels")
    height: int = Field(default=0, description="Height in pixels")
    resolution_mp: float = Field(default=0, description="Millions of pixels")
    steps: int = Field(default=0, description="Steps it took")
    count: int = Field(default=1, description="How many")


class OutputMeta(BaseModel):
    """What went in and came out, for the price."""

    inputs: list[ImageMeta] = []
    outputs: list[ImageMeta] = []


class DrawOutput(AppOutput):
    image: str = file_field("The picture, a PNG")
    output_meta: OutputMeta | None = Field(default=None, description="What the price is made of")


async def _draw(work: Work, inputs: DrawInput) -> dict[str, Any]:
    landscape = Landscape(inputs.prompt, inputs.seed, inputs.width, inputs.height, work.setup.get("palette", "auto"))
    rows = list[bytes]()
    for step in range(1, _STEPS + 1):
        await work.clock.sleep(_PAUSE)
        rows += landscape.rows(len(rows), inputs.height * step // _STEPS)
        work.log(f"step {step}/{_STEPS}: {len(rows)} of {inputs.height} rows drawn")
    image = work.publish(png.encode(landscape.raster(rows)), "drawing.png", "image/png")
    megapixels = inputs.width * inputs.height / 1_000_000
    work.used("image", megapixels, "megapixel")
    meta = ImageMeta(width=inputs.width, height=inputs.height, resolution_mp=megapixels, steps=_STEPS)
    return {"image": image, "output_meta": OutputMeta(outputs=[meta]).model_dump()}


def _price(inputs: DrawInput) -> Price:
    cost = inputs.width * inputs.height * 2
    description = "Pretended money of the sandbox: 0.02 USD per megapixel."
    return Price("exact", cost, cost, ("width", "height"), description)


DRAW = App(
    name="draw",
    title="Draw (sandbox)",
    description=(
        "Draws a landscape whose colours and shapes are hashed from the prompt, as a real PNG. "
        "An app of the sandbox: no model, no cost, nothing leaves this machine."
    ),
    category="image",
    functions=(Function("run", "Draw a picture.", DrawInput, DrawOutput, _draw),),
    setup=DrawSetup,
    pace=_PAUSE,
    price=_price,
)
