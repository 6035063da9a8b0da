"""An app that emits every kind of output there is, one at a time."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from inferencesh_sandbox.apps import png
from inferencesh_sandbox.apps.canvas import Landscape
from inferencesh_sandbox.apps.types import App, AppInput, AppOutput, Function

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferencesh_sandbox.apps.types import Work

_RATE = 8000
_LARGE = 100_000


class OutputsInput(AppInput):
    which: Literal[
        "image", "audio", "video", "text", "nested", "list", "large_text", "numbers", "unicode", "empty"
    ] = Field(default="text", description="The kind of output to emit")  # fmt: skip


class OutputsOutput(AppOutput):
    model_config = ConfigDict(title="AppOutput", extra="allow")


async def _emit(work: Work, inputs: OutputsInput) -> dict[str, Any]:
    work.log(f"emitting {inputs.which}")
    return _EMITTED[inputs.which](work)


def _image(work: Work) -> dict[str, Any]:
    return {"image": _picture(work, "outputs", "image.png")}


def _picture(work: Work, prompt: str, filename: str) -> str:
    landscape = Landscape(prompt, None, 64, 64, "auto")
    return work.publish(png.encode(landscape.raster(landscape.rows(0, 64))), filename, "image/png")


def _audio(work: Work) -> dict[str, Any]:
    """A quarter of a second of A4, as WAV."""
    tone = b"".join(
        struct.pack("<h", round(12_000 * math.sin(2 * math.pi * 440 * n / _RATE))) for n in range(_RATE // 4)
    )
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(tone), b"WAVEfmt ", 16, 1, 1, _RATE, 2 * _RATE, 2, 16,
                       b"data", len(tone))  # fmt: skip
    return {"audio": work.publish(head + tone, "tone.wav", "audio/wav")}


def _video(work: Work) -> dict[str, Any]:
    """A well-formed MP4 container with nothing to play in it, and named so."""
    kind = b"isom\x00\x00\x02\x00isommp41"
    note = b"sandbox: an MP4 container without a track"
    boxes = struct.pack(">I4s", 8 + len(kind), b"ftyp") + kind + struct.pack(">I4s", 8 + len(note), b"free") + note
    uri = work.publish(boxes, "no-track.mp4", "video/mp4")
    return {"video": uri, "note": "the sandbox encodes no video: this MP4 holds no track"}


def _text(_work: Work) -> dict[str, Any]:
    return {"text": "A short text from the sandbox."}


def _nested(work: Work) -> dict[str, Any]:
    front, back = _picture(work, "front", "front.png"), _picture(work, "back", "back.png")
    file = {"uri": front, "filename": "front.png", "content_type": "image/png"}
    return {"result": {"title": "Two pictures", "cover": file, "pages": [{"number": 1, "image": {"uri": back}}]}}


def _list(work: Work) -> dict[str, Any]:
    return {"images": [_picture(work, f"list {number}", f"{number}.png") for number in range(3)]}


def _large_text(_work: Work) -> dict[str, Any]:
    line = "The quick brown fox jumps over the lazy dog. "
    return {"text": (line * (_LARGE // len(line) + 1))[:_LARGE]}


def _numbers(_work: Work) -> dict[str, Any]:
    return {"integer": 2**53 - 1, "negative": -7, "float": 0.1, "tiny": 5e-324, "zero": 0, "true": True, "none": None}


def _unicode(_work: Work) -> dict[str, Any]:
    return {"text": "Žluťoučký kůň — 日本語 — עברית — 👩‍🚀 — line\u2028separator", "ключ": "значение"}


def _empty(_work: Work) -> dict[str, Any]:
    return {}


_EMITTED: dict[str, Callable[[Work], dict[str, Any]]] = {
    "image": _image, "audio": _audio, "video": _video, "text": _text, "nested": _nested, "list": _list,
    "large_text": _large_text, "numbers": _numbers, "unicode": _unicode, "empty": _empty,
}  # fmt: skip

OUTPUTS = App(
    name="outputs",
    title="Outputs (sandbox)",
    description="Emits any kind of output: files, nested objects, large text, numbers. An app of the sandbox.",
    category="other",
    functions=(Function("run", "Emit an output.", OutputsInput, OutputsOutput, _emit),),
)
