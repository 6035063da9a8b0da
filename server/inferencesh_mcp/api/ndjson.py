"""Bytes in, JSON objects out: the lines of a task's stream. Pure: no I/O.

Lines end at byte 0x0A of the raw bytes and nowhere else: U+2028 inside a string is no line's end.
"""

from __future__ import annotations

from typing import Any

from inferencesh_mcp.api.json import NotJson, is_object, parse

LINE_LIMIT = 4 * 1024 * 1024
"""Longest line, in bytes without its end. A terminal line carries a whole task, logs and output included."""

LARGE_LINE = 64 * 1024
"""Bytes from which on lines count for `MOST_IN_LARGE_LINES`."""
MOST_IN_LARGE_LINES = 16 * 1024 * 1024
"""Bytes of all large lines of one connection: what is kept of them has this end. The record is then read, and a new one opened."""


class Lines:
    """Reads one connection's bytes; never raises. `feed` what arrives, then `end` once."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self.bad = 0
        """Lines that were no JSON, or too odd to use, and were left out."""
        self.too_long = False
        """A line passed the limit, or all large ones together: nothing more is read, the connection should be closed."""
        self._in_large_lines = 0
        self._limit = limit
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The objects of the lines that `chunk` completes, in order."""
        if self.too_long:
            return []
        first, *rest = chunk.split(b"\n")
        self._pending += first
        objects: list[dict[str, Any]] = []
        for piece in rest:
            objects += self._line()
            self._pending = bytearray(piece)
        self._check()
        return objects

    def end(self) -> list[dict[str, Any]]:
        """The object of a last line that has no line end, if it is whole."""
        return self._line()

    def _line(self) -> list[dict[str, Any]]:
        self._check()
        if self.too_long:
            return []
        line = bytes(self._pending).removeprefix(b"\xef\xbb\xbf").strip()
        if len(line) >= LARGE_LINE:
            self._in_large_lines += len(line)
            if self._in_large_lines > MOST_IN_LARGE_LINES:
                self.too_long = True
                self._pending.clear()
                return []
        if not line:
            return []
        try:
            value = parse(line)
        except NotJson:
            self.bad += 1
            return []
        return [value] if is_object(value) else []

    def _check(self) -> None:
        if len(self._pending) > self._limit:
            self.too_long = True
            self._pending.clear()
