"""Faults of the wire, carried out: each wraps the ASGI application of one request."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from inferencesh_sandbox.wire import Problem, problem_response
from tests.support.fault_lines import garbled
from tests.support.faults import (
    Delay,
    Drip,
    Drop,
    FinAfter,
    Garble,
    Gate,
    HideTasks,
    Intake,
    RstAfter,
    Stall,
    Status,
    Swallow,
)

if TYPE_CHECKING:
    from asyncio import Transport

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from inferencesh_sandbox.clock import Clock
    from tests.support.faults import Fault

RECEIVE = "tests.receive"
"""Where the scope keeps uvicorn's own `receive`."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: close() then sends RST and throws away what was not yet sent."""


class _CutOff(Exception):
    """No error: the way out of an application whose answer ends here."""


def broken(fault: Fault | Gate, app: ASGIApp, clock: Clock) -> ASGIApp:
    """Wrap one request's application so that it fails in the way asked; faults of the work change nothing here."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        match fault:
            case Gate():
                await fault.passed()
                await app(scope, receive, send)
            case Delay():
                await clock.sleep(fault.seconds)
                await app(scope, receive, send)
            case Status():
                await _instead(fault, scope)(scope, receive, _lingering(receive, send))
            case Drop():
                await _reset(scope, receive)
            case Swallow():
                await app(scope, receive, _nowhere)
                await _reset(scope, receive)
            case RstAfter() | FinAfter():
                await _cut(fault, app, scope, receive, send)
            case Stall(lines=None):
                await _gone(receive)
            case Stall():
                await app(scope, receive, _stalling(fault, send))
            case Intake():
                await app(scope, _sated(fault, scope, receive), send)
            case Drip():
                await app(scope, receive, _dripping(fault, clock, send))
            case Garble():
                await app(scope, receive, garbled(fault, send))
            case HideTasks():
                await app(scope, receive, _without_items(send))
            case _:
                await app(scope, receive, send)

    return wrapped


async def _reset(scope: Scope, receive: Receive) -> None:
    """Break the connection as a crashing machine does, with RST."""
    transport = _transport_under(scope)
    wire: socket.socket = transport.get_extra_info("socket")
    with suppress(OSError):  # the other side was faster
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until uvicorn has noticed that the connection is closed, or it would complain about a missing answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _instead(fault: Status, scope: Scope) -> Response:
    if fault.body is not None:
        return Response(fault.body, fault.code, fault.headers)
    problem = Problem(fault.code, fault.error, f"a fault of the sandbox: {fault.code}", headers=fault.headers)
    return problem_response(problem, scope)


def _lingering(receive: Receive, send: Send) -> Send:
    """Answer at once, and take in what is still sent, as storages and the proxies before them do (nginx: lingering_close):
    a connection that is closed on unread bytes is reset, and the answer may be lost with it."""

    async def until_taken(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            while (await receive()).get("more_body"):
                pass
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return until_taken


async def _nowhere(_message: Message) -> None:
    pass


async def _cut(fault: RstAfter | FinAfter, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    lines, size, framed = 0, 0, False

    async def until_cut(message: Message) -> None:
        nonlocal lines, size, framed
        if message["type"] != "http.response.body":
            framed = "content-length" in MutableHeaders(scope=message)
            await send(message)
            return
        body: bytes = message.get("body", b"")
        if fault.bytes is not None:
            await send({**message, "body": body[: fault.bytes - size], "more_body": True})
        elif lines < (fault.lines or 0):
            await send({**message, "more_body": True})
        lines, size = lines + bool(body), size + len(body)
        if _reached(fault, lines, size) or not message.get("more_body"):
            raise _CutOff

    try:
        await app(scope, receive, until_cut)
    except* _CutOff:
        await _end(fault, framed, scope, receive, send)


def _reached(fault: RstAfter | FinAfter, lines: int, size: int) -> bool:
    return size >= fault.bytes if fault.bytes is not None else lines >= (fault.lines or 0)


async def _end(fault: RstAfter | FinAfter, framed: bool, scope: Scope, receive: Receive, send: Send) -> None:
    if isinstance(fault, RstAfter):
        await _reset(scope, receive)
    elif fault.cut or framed:
        # With a declared length there is no other way to end early.
        _transport_under(scope).close()
        await _gone(receive)
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _stalling(fault: Stall, send: Send) -> Send:
    lines = 0

    async def until_stalled(message: Message) -> None:
        nonlocal lines
        if lines >= (fault.lines or 0):
            await anyio.sleep_forever()
        lines += message["type"] == "http.response.body"
        await send(message)

    return until_stalled


def _sated(fault: Intake, scope: Scope, receive: Receive) -> Receive:
    received = 0

    async def until_sated() -> Message:
        nonlocal received
        if received >= fault.bytes and fault.then == "stall":
            await anyio.sleep_forever()
        if received >= fault.bytes:
            await _reset(scope, receive)
            return {"type": "http.disconnect"}
        message = await receive()
        received += len(message.get("body", b""))
        return message

    return until_sated


def _dripping(fault: Drip, clock: Clock, send: Send) -> Send:
    async def drop_by_drop(message: Message) -> None:
        body: bytes = message.get("body", b"")
        for start in range(0, len(body), fault.size):
            await send({**message, "body": body[start : start + fault.size], "more_body": True})
            await clock.sleep(fault.every)
        await send({**message, "body": b""} if body else message)

    return drop_by_drop


def _without_items(send: Send) -> Send:
    """Empty the page that is sent."""
    start: Message = {}
    body = b""

    async def emptying(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            start = message
            return
        body += message.get("body", b"")
        if message.get("more_body"):
            return
        if start["status"] == 200:
            answer = json.loads(body)
            answer.get("data", answer).update(items=[], next_cursor="", has_next=False, total_items=0)
            body = json.dumps(answer).encode()
            MutableHeaders(scope=start)["content-length"] = str(len(body))
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return emptying


def _transport_under(scope: Scope) -> Transport:
    """Find the connection under a request.

    ASGI has no way to break a connection, and a fault must. uvicorn's `receive` is a method of its RequestResponseCycle,
    which knows its transport; this is the only place that relies on it.
    """
    transport: Transport = scope[RECEIVE].__self__.transport
    return transport
