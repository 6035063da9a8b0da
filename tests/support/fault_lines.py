"""Lines of an answer, spoiled on their way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from tests.support.faults import Garble

_BOM = b"\xef\xbb\xbf"
_LAST = -1


def garbled(fault: Garble, send: Send) -> Send:
    """Wrap `send` so that the fault's line, or all lines, come out wrong. One body message is one line."""
    place, first = 0, b""

    async def spoiling(message: Message) -> None:
        nonlocal place, first
        if message["type"] != "http.response.body":
            # The body will have another length than its sender thinks.
            del MutableHeaders(scope=message)["content-length"]
            await send(message)
            return
        line: bytes = message.get("body", b"")
        first = first or line
        is_last = not message.get("more_body")
        if line:
            await send({**message, "body": _spoiled(fault, line, place, first), "more_body": True})
            await _maybe_endless(fault, place, send)
        if is_last:
            await send({**message, "body": _after_all(fault, first)})
        place += bool(line)

    return spoiling


def _spoiled(fault: Garble, line: bytes, place: int, first: bytes) -> bytes:
    match fault.form:
        case "crlf":
            return line.replace(b"\n", b"\r\n")
        case "blank":
            return b"\n  \n" + line + b"\n"
        case "bom" if place == 0:
            return _BOM + line
        case _ if place != fault.at:
            return line
        case "truncated":
            return line[: len(line) // 2] + b"\n"
        case "duplicate":
            return line + line
        case "stale":
            return line + first
        case _:
            return _inserted(fault) + line


def _inserted(fault: Garble) -> bytes:
    match fault.form:
        case "bad":
            return b'{"data": {"status": 7, nonsense\n'
        case "giant":
            return b'{"type":"heartbeat","padding":"' + b"x" * fault.size + b'"}\n'
        case "text":
            return fault.text.encode() + b"\n"
        case _:
            return b""


def _after_all(fault: Garble, first: bytes) -> bytes:
    if fault.at != _LAST:
        return b""
    return first if fault.form in {"stale", "duplicate"} else _inserted(fault)


async def _maybe_endless(fault: Garble, place: int, send: Send) -> None:
    if fault.form != "endless" or place != fault.at:
        return
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await anyio.sleep(0.001)  # uvicorn does not wait any more once nobody listens
