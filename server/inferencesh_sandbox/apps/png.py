"""PNG pictures written and read with what Python has: zlib and struct."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By colour type: gray, RGB, gray with alpha, RGB with alpha."""
_MAX_PIXELS = 40_000_000


class NotReadable(ValueError):
    """The bytes are no PNG, or one of a kind that is not read here; the text says which."""


@dataclass(frozen=True)
class Raster:
    """A picture as rows of RGB bytes."""

    width: int
    height: int
    rows: tuple[bytes, ...]

    def shrink(self, longest: int) -> Raster:
        """Make it fit a square of this side by leaving out pixels; a smaller one stays as it is."""
        step = max(1, -(-max(self.width, self.height) // longest))
        rows = tuple(self._thinned(row, step) for row in self.rows[::step])
        return Raster(len(rows[0]) // 3, len(rows), rows)

    def _thinned(self, row: bytes, step: int) -> bytes:
        thin = bytearray(3 * len(row[:: 3 * step]))
        for channel in range(3):
            thin[channel::3] = row[channel :: 3 * step]
        return bytes(thin)


def encode(picture: Raster) -> bytes:
    """Encode a picture as an 8-bit RGB PNG."""
    head = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\x00" + row for row in picture.rows), 6)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def size_of(body: bytes) -> tuple[int, int]:
    """Read only the width and height."""
    if not body.startswith(SIGNATURE) or len(body) < 33:
        raise NotReadable("not a PNG, or cut off in its header")
    width, height = struct.unpack(">II", body[16:24])
    return width, height


def decode(body: bytes) -> Raster:
    """Decode a PNG of 8 bits per channel that is not interlaced; transparency is dropped."""
    width, height = size_of(body)
    depth, colour, _, _, interlaced = body[24:29]
    if depth != 8 or colour not in _CHANNELS or interlaced:
        raise NotReadable("only PNGs of 8 bits per channel, without palette or interlacing, are decoded here")
    if width * height > _MAX_PIXELS:
        raise NotReadable(f"{width}x{height} is too large to be decoded here")
    channels = _CHANNELS[colour]
    raw = _inflated(body, height * (1 + width * channels))
    return Raster(width, height, tuple(_as_rgb(row, channels) for row in _unfiltered(raw, width, height, channels)))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _inflated(body: bytes, size: int) -> bytes:
    packed, offset = b"", 8
    while offset + 12 <= len(body):
        length, name = struct.unpack(">I4s", body[offset : offset + 8])
        if name == b"IDAT":
            packed += body[offset + 8 : offset + 8 + length]
        offset += 12 + length
    try:
        # No more than the header promises: a small file must not fill the memory.
        raw = zlib.decompressobj().decompress(packed, size)
    except zlib.error as exc:
        raise NotReadable(f"its pixels are damaged: {exc}") from exc
    if len(raw) < size:
        raise NotReadable("its pixels are cut off")
    return raw


def _unfiltered(raw: bytes, width: int, height: int, channels: int) -> list[bytes]:
    stride = width * channels
    above, rows = bytes(stride), list[bytes]()
    for number in range(height):
        start = number * (stride + 1)
        above = _row(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above, channels)
        rows.append(above)
    return rows


def _row(kind: int, row: bytearray, above: bytes, channels: int) -> bytes:
    if kind > 4:
        raise NotReadable(f"its pixels are damaged: unknown filter {kind}")
    for offset in range(len(row) if kind else 0):
        left = row[offset - channels] if offset >= channels else 0
        corner = above[offset - channels] if offset >= channels else 0
        row[offset] = (row[offset] + _guess(kind, left, above[offset], corner)) & 255
    return bytes(row)


def _guess(kind: int, left: int, up: int, corner: int) -> int:
    match kind:
        case 1:
            return left
        case 2:
            return up
        case 3:
            return (left + up) // 2
        case _:
            middle = left + up - corner
            return min((left, up, corner), key=lambda near: abs(middle - near))


def _as_rgb(row: bytes, channels: int) -> bytes:
    red, green, blue = (0, 1, 2) if channels >= 3 else (0, 0, 0)
    mixed = bytearray(3 * (len(row) // channels))
    mixed[0::3], mixed[1::3], mixed[2::3] = row[red::channels], row[green::channels], row[blue::channels]
    return bytes(mixed)
