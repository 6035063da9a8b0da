"""Parse data URIs."""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes


def decode_data_uri(uri: str) -> tuple[str, bytes]:
    """Split a data URI into content type and bytes, or raise ValueError."""
    head, comma, payload = uri.removeprefix("data:").partition(",")
    if not comma:
        raise ValueError("it has no comma")
    content_type = head.split(";", 1)[0] or "text/plain"
    if not head.endswith(";base64"):
        return content_type, unquote_to_bytes(payload)
    padded = payload + "=" * (-len(payload) % 4)
    return content_type, base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
