"""JSON as the API may send it, and nothing looser. Pure: no I/O.

Python's own reader takes NaN, Infinity and lone surrogates, none of which can be written again as JSON or as UTF-8.

A value is sent only if it can be read back, because tasks, chats and lists repeat their input: otherwise a paid run would be
lost, since every answer about it would be refused.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DEPTH = 64
"""Deepest nesting taken from the API."""
MAX_VALUES = 200_000
"""Most values in one JSON text. Many tiny values take twenty times the text's size in memory, and a second to read. Real answers
have thousands."""
MAX_IN_A_MESSAGE = 100_000
"""The same for what a caller sends, who may be anybody, and whose message is held for as long as it is worked on."""

MAX_SENT_DEPTH = MAX_DEPTH - 16
"""Deepest nesting of a value that is sent to the API, whose answers wrap what they repeat in a dozen levels of their own."""
MAX_BODY_DEPTH = MAX_SENT_DEPTH + 4
"""The same of a request's body, which wraps the value too."""
MAX_SENT_BYTES = 4 * 1024 * 1024
"""Bytes: one line of a stream holds no more. A read holds 16 MiB, and has to repeat it in whatever escapes the API prefers."""

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Longest line of a stream, in bytes without its end. The last line carries a whole task, with its logs and output."""
LARGE_LINE = 64 * 1024
"""Lines of at least this many bytes count for `MAX_LARGE_LINES_BYTES`."""
MAX_LARGE_LINES_BYTES = 16 * 1024 * 1024
"""Bytes of all large lines of one connection: a follower keeps parts of them. Past it the stream has to be reopened."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class NotJson(ValueError):
    """The bytes are not JSON that can be used. The text never quotes them."""


def parse(raw: bytes) -> Any:
    """The value that one JSON document holds; NotJson when there is none, or one that is not safe to pass on."""
    if too_many_values(raw):
        raise NotJson(f"more than {MAX_VALUES} values")
    try:
        value = _DECODER.decode(raw.removeprefix(_BYTE_ORDER_MARK).decode())
    except (ValueError, RecursionError) as exc:  # bad UTF-8, bad JSON and integers of over 4300 digits are ValueErrors
        raise NotJson("not JSON") from exc
    # Counting brackets is a fast upper bound: hardly any document needs the walk.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise NotJson(f"nested more than {MAX_DEPTH} deep")
    return encodable(value) if b"\\u" in raw else value


def too_many_values(raw: bytes, most: int = MAX_VALUES) -> bool:
    """Whether a JSON text holds more values than `most`. Nothing is parsed: each value has a comma or a bracket of its own."""
    if _marks(raw) <= most:
        return False
    if b"\0" in raw:
        return True  # UTF-16 or UTF-32, in which the quotes below could be parts of other characters
    plain = raw.replace(rb"\\", b"").replace(rb"\"", b"")  # only quotes that begin or end a text are left
    return plain.count(b'"') > 4 * most or _marks(b"".join(plain.split(b'"')[::2])) > most


def _marks(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


class NotReadableBack(ValueError):
    """A value that could be sent, but not read back from the API's answers. The message says why, without quoting the value."""


def encoded(value: Any, limit: float = MAX_SENT_BYTES, depth: int = MAX_SENT_DEPTH) -> bytes:
    """Encode a value as JSON that can be sent and read back: at most `limit` bytes, nested at most `depth` deep.

    Raises:
        NotReadableBack: it is too large or too deep, or it has a number or a text that JSON cannot carry safely.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except RecursionError as exc:
        raise NotReadableBack(f"is nested more than {depth} deep") from exc
    except (TypeError, ValueError) as exc:  # an integer of over 4300 digits is a ValueError too
        raise NotReadableBack("is not plain JSON: NaN, Infinity and the like cannot be sent") from exc
    if len(text) > limit:
        raise NotReadableBack(f"is larger than {MAX_SENT_BYTES // 1024 // 1024} MiB: send what is large as a file")
    # Each is a fast sign that something may be wrong; hardly any value needs the walk.
    if text.count("{") + text.count("[") > depth and _deeper_than(value, depth):
        raise NotReadableBack(f"is nested more than {depth} deep")
    if "\\ud" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise NotReadableBack("has a lone surrogate, which is not valid text") from exc
    if _LONG_NUMBER.search(text) and _has_huge_integer(value):
        raise NotReadableBack("has an integer of more than 308 digits: send it as text")
    return text.encode()


class NdjsonReader:
    """Splits one connection's bytes into JSON objects; never raises. Call `feed` with each chunk, then `end` once.

    Lines end at byte 0x0A and nowhere else: U+2028 inside a string does not end one.
    """

    def __init__(self) -> None:
        self.bad = 0
        """Lines that could not be parsed and were skipped."""
        self.too_long = False
        """A line, or all large ones together, passed the limit: nothing more is read, close the connection."""
        self._in_large_lines = 0
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
        """The object of a last line without a line end, if it is complete."""
        return self._line()

    def _line(self) -> list[dict[str, Any]]:
        self._check()
        if self.too_long:
            return []
        line = bytes(self._pending).removeprefix(_BYTE_ORDER_MARK).strip()
        if len(line) >= LARGE_LINE:
            self._in_large_lines += len(line)
            if self._in_large_lines > MAX_LARGE_LINES_BYTES:
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
        if len(self._pending) > MAX_LINE_BYTES:
            self.too_long = True
            self._pending.clear()


def unpacked(value: Any) -> Any:
    """The value, or, of text that is JSON, the object or array that it holds."""
    if not isinstance(value, str):
        return value
    try:
        inner = parse(value.encode(errors="replace"))
    except NotJson:
        return value
    return inner if is_object(inner) or is_array(inner) else value


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed value is a JSON object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether a parsed value is a JSON array."""
    return isinstance(value, list)


def as_object(value: object) -> dict[str, Any]:
    """The object; an empty one for anything else."""
    return value if is_object(value) else {}


def as_text(value: object) -> str:
    """The text; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def without_none(**fields: Any) -> dict[str, Any]:
    """An object of the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def items(value: object) -> list[Any]:
    """The items of an array; no items for anything else."""
    return value if is_array(value) else []


def texts(value: object) -> list[str]:
    """The texts in an array; no texts for anything else."""
    return [item for item in items(value) if isinstance(item, str)]


def encodable(value: Any) -> Any:
    """The same value with every lone surrogate replaced by `?`, so that it can be written as UTF-8."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    if is_array(value):
        return [encodable(item) for item in value]
    if is_object(value):
        return {encodable(name): encodable(item) for name, item in value.items()}
    return value


def _constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # 1e999
        raise ValueError(text)
    return number


_LONG_NUMBER = re.compile(r"[0-9]{309}")
_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_finite)  # `json.loads` would make one for each text


def _has_huge_integer(value: Any) -> bool:
    """Whether a number in it is beyond what a double holds: most readers of JSON make it Infinity, or refuse it."""
    level = [value]
    while level:
        if any(isinstance(item, int) and abs(item) > sys.float_info.max for item in level):
            return True
        level = [item for parent in level for item in _children(parent)]
    return False


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [item for parent in level for item in _children(parent)]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _children(value: Any) -> Iterable[Any]:
    if is_object(value):
        return value.values()
    return value if is_array(value) else ()
