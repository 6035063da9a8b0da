"""An app that looks at a picture: its size, and a thumbnail."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pydantic import Field

from inferencesh_sandbox.apps import png
from inferencesh_sandbox.apps.types import App, AppFailed, AppInput, AppOutput, Function, Price, file_field

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work

_THUMBNAIL = 64
_GRAY = b"\xb0\xb4\xbc"


class PictureInput(AppInput):
    image: str = file_field("The picture: PNG, JPEG, GIF or WebP; an uploaded file's uri, or a data URI")


class PictureOutput(AppOutput):
    width: int = Field(description="Width in pixels")
    height: int = Field(description="Height in pixels")
    format: str = Field(description="png, jpeg, gif or webp")
    bytes: int = Field(description="Size of the file in bytes")
    thumbnail: str = file_field("A small PNG of at most 64 pixels a side")
    note: str = Field(default="", description="What the thumbnail is not, if it is only a placeholder")


async def _look(work: Work, inputs: PictureInput) -> dict[str, Any]:
    body = work.pick(inputs.image).body
    work.log(f"read {len(body)} bytes")
    kind, width, height = measure(body)
    work.log(f"{kind}, {width}x{height}")
    small, note = _thumbnail(kind, width, height, body)
    thumbnail = work.publish(png.encode(small), "thumbnail.png", "image/png")
    output = {"width": width, "height": height, "format": kind, "bytes": len(body), "thumbnail": thumbnail}
    return output | ({"note": note} if note else {})


def measure(body: bytes) -> tuple[str, int, int]:
    """Read format, width and height from a picture's header, or fail the run clearly."""
    try:
        if body.startswith(png.SIGNATURE):
            return "png", *png.size_of(body)
        if body[:6] in {b"GIF87a", b"GIF89a"}:
            return "gif", *struct.unpack("<HH", body[6:10])
        if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
            return "webp", *_webp(body)
        if body.startswith(b"\xff\xd8"):
            return "jpeg", *_jpeg(body)
    except (struct.error, IndexError, png.NotReadable) as exc:
        raise AppFailed("the picture is cut off or damaged in its header") from exc
    raise AppFailed(f"not a picture: the {len(body)} bytes are no PNG, JPEG, GIF or WebP")


def _jpeg(body: bytes) -> tuple[int, int]:
    offset = 2
    while True:
        marker, length = struct.unpack(">xBH", body[offset : offset + 4])
        # SOF0 to SOF15 hold the size; C4, C8 and CC in between are tables.
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", body[offset + 5 : offset + 9])
            return width, height
        offset += 2 + length


def _webp(body: bytes) -> tuple[int, int]:
    match body[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(body[24:27], "little"), 1 + int.from_bytes(body[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(body[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case _:
            width, height = struct.unpack("<HH", body[26:30])
            return width & 0x3FFF, height & 0x3FFF


def _thumbnail(kind: str, width: int, height: int, body: bytes) -> tuple[png.Raster, str]:
    if kind != "png":
        return _placeholder(width, height), f"the thumbnail is a plain placeholder: the sandbox does not decode {kind}"
    try:
        return png.decode(body).shrink(_THUMBNAIL), ""
    except png.NotReadable as exc:
        return _placeholder(width, height), f"the thumbnail is a plain placeholder: {exc}"


def _placeholder(width: int, height: int) -> png.Raster:
    scale = min(1.0, _THUMBNAIL / max(width, height, 1))
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    return png.Raster(across, down, (_GRAY * across,) * down)


def _price(_inputs: PictureInput) -> Price:
    return Price(
        "unknown",
        most=50_000,
        depends_on=("image",),
        description="Pretended money of the sandbox: depends on the picture.",
    )


PICTURE_INFO = App(
    name="picture-info",
    title="Picture info (sandbox)",
    description="Tells a picture's size and format and makes a thumbnail. An app of the sandbox.",
    category="image",
    functions=(Function("run", "Look at a picture.", PictureInput, PictureOutput, _look),),
    versions=2,
    price=_price,
)
