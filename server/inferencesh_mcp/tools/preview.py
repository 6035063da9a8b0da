"""Add a preview of the first picture of an output to a result.

Scaling needs Pillow, the extra `[images]`. Without it only small pictures are shown.
"""

from __future__ import annotations

import base64
import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from anyio import to_thread
from mcp_types import CallToolResult, ImageContent, ResourceLink

from inferencesh_mcp.context import shared_state
from inferencesh_mcp.flows.concurrency import optional_call

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller

MAX_PREVIEW_BYTES = 100_000  # bytes: as base64 still far below what Claude Desktop refuses
MAX_DOWNLOAD_BYTES = 8 * 1024 * 1024  # bytes of a picture that is scaled
MAX_PIXELS = 9_000_000  # of a picture that is scaled (4K has 8.3): for as long, a thread holds some seven bytes of each
SIDE = 768  # pixels, the longer one
TYPES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}


async def with_preview(ctx: Ctx, caller: Caller, result: CallToolResult) -> CallToolResult:
    """Add a preview of the first picture to a result. If there is none, or it fails, return the result as it is."""
    pictures = [part for part in result.content if isinstance(part, ResourceLink) and part.mime_type in TYPES]
    shared = shared_state(ctx)
    if not pictures or shared.settings.inline_media == "never":
        return result
    url = str(pictures[0].uri)
    preview: ImageContent | None = shared.previews.get((caller.principal, url))
    if preview is None:
        preview = await optional_call(_preview(caller.api, url, shared.scaling), "preview")
    if preview is not None:
        shared.previews[caller.principal, url] = preview  # hosts read the same task again and again
    return result.model_copy(update={"content": [*result.content, preview]}) if preview else result


async def _preview(api: Api, url: str, scaling: CapacityLimiter) -> ImageContent | None:
    limit = MAX_DOWNLOAD_BYTES if _can_scale() else MAX_PREVIEW_BYTES
    content = b""
    async with api.download(url) as body:
        if body.size is not None and body.size > limit:
            return None
        async for chunk in body.chunks:
            content += chunk
            if len(content) > limit:
                return None
    media_type = next((media_type for media_type, name in TYPES.items() if _has_format(name, content)), None)
    if media_type and len(content) <= MAX_PREVIEW_BYTES:
        return _block(content, media_type)
    scaled = await to_thread.run_sync(_scale, content, limiter=scaling) if media_type and _can_scale() else None
    return _block(scaled, "image/jpeg") if scaled else None


def _has_format(name: str, content: bytes) -> bool:
    """Whether the bytes begin like a picture of this format. A host must not get other content under its type."""
    starts = {"PNG": (b"\x89PNG\r\n",), "JPEG": (b"\xff\xd8\xff",), "GIF": (b"GIF87a", b"GIF89a"), "WEBP": (b"RIFF",)}
    return content.startswith(starts[name]) and (name != "WEBP" or content[8:12] == b"WEBP")


def _block(content: bytes, media_type: str) -> ImageContent:
    return ImageContent(data=base64.b64encode(content).decode(), mime_type=media_type)


def _can_scale() -> bool:
    return find_spec("PIL") is not None


def _scale(content: bytes) -> bytes | None:
    """The picture as a small JPEG; None if it cannot be read or has too many pixels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=list(TYPES.values())) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return None
            picture.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded no larger than needed
            # Scale before converting, to avoid a second copy in full size. A palette has to be converted first.
            converted = picture if picture.mode in {"RGB", "RGBA", "L"} else picture.convert("RGB")
            converted.thumbnail((SIDE, SIDE))
            thumbnail = converted.convert("RGB")
    except Exception:  # noqa: BLE001 - a broken picture may raise anything, and must not cost the result of a run
        return None
    for quality in (80, 60, 40, 20):
        buffer = io.BytesIO()
        thumbnail.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= MAX_PREVIEW_BYTES:
            return buffer.getvalue()
    return None
