"""MCP on stdin and stdout, with what the SDK's runner lacks.

A signal cleans up and ends the process. Lines have a limit. Every recognizable request is answered, including batches.
Two requests with one id do not both run.

In the SDK's runner SIGTERM kills without clean-up, SIGINT hangs on the reading thread, lines have no limit, messages that
cannot be parsed are dropped silently, and two requests with one id both run (F-6, F-7).
"""

from __future__ import annotations

import codecs
import io
import json
import logging
import re
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Self, cast

import anyio
from anyio import to_thread
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import RootModel, ValidationError

from inferencesh_mcp.api.json import MOST_IN_A_MESSAGE, too_many_values
from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.sdk import serve_streams
from inferencesh_mcp.shutdown import Shutdown, exit_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup
    from mcp.server import MCPServer
    from mcp_types import JSONRPCMessage

    from inferencesh_mcp.context import Shared

LONGEST_LINE = 8 * 1024 * 1024  # bytes of one message (limit of reliability 4.6)
SHUTDOWN_SECONDS = 9.0  # from the end of input, or a signal, to the end of the process: I-23 allows ten
LAST_ANSWER_SECONDS = 1.0  # for the last answer, when all runs are taken care of: the host may not read it
BATCHES_IN = "2025-03-26"  # the one protocol version with JSON-RPC batches

logger = logging.getLogger(__name__)


def serve(server: MCPServer[Shared], *, at_end: Callable[[], None] = lambda: None) -> NoReturn:
    """Serve MCP on stdin and stdout until either closes or a signal comes. Then cancel runs, call `at_end` and exit.

    Does not return: the thread that reads stdin cannot be interrupted, so the process is ended under it.

    Raises:
        SettingsError: there is no stdin, or no stdout.
    """
    if None in {sys.stdin, sys.stdout}:
        raise SettingsError(message="MCP over stdio needs stdin and stdout, but one is closed.")
    try:
        anyio.run(_serve, server, at_end)
    except Exception:
        logger.exception("MCP over stdio failed")
    exit_now(1)  # the interpreter would wait for the thread that reads stdin


async def _serve(server: MCPServer[Shared], at_end: Callable[[], None]) -> None:
    shutdown = Shutdown(SHUTDOWN_SECONDS)
    shutdown.watch_signals()
    session = _Session(server, shutdown)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        group.start_soon(_cancel_when, shutdown.requested, session.scope)
        await session.runs_settled.wait()
        with anyio.move_on_after(LAST_ANSWER_SECONDS):
            await session.closed.wait()
        at_end()
        exit_now(shutdown.exit_code)


async def _cancel_when(requested: Callable[[], Any], scope: anyio.CancelScope) -> None:
    await requested()
    scope.cancel()


class _Session:
    """The session on stdin and stdout, until either closes or the scope is cancelled."""

    def __init__(self, server: MCPServer[Shared], shutdown: Shutdown) -> None:
        self._server, self._shutdown = server, shutdown
        self.scope = anyio.CancelScope()
        self.runs_settled = anyio.Event()
        """Set when every run has ended, was cancelled, or was named in the log."""
        self.closed = anyio.Event()
        """Set when the last answer is written; never, where the host does not read it."""

    async def run(self) -> None:
        try:
            with self.scope:
                no_input = anyio.wrap_file(io.StringIO())  # the SDK would read lines of any length
                async with stdio_server(stdin=no_input) as (_, outgoing):
                    await self._serve_host(outgoing)
        except* OSError:
            logger.info("stdout is closed")
        finally:
            self.closed.set()

    async def _serve_host(self, outgoing: Any) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_begin_when_cancelled, self._shutdown)
                answers = Answers(outgoing, group)
                requests = Requests(sys.stdin.buffer, answers, at_end=self._shutdown.begin)
                await serve_streams(self._server, requests, answers)
                group.cancel_scope.cancel()
        finally:
            self.runs_settled.set()


async def _begin_when_cancelled(shutdown: Shutdown) -> None:
    """If stdout is closed, the SDK cancels everything."""
    try:
        await anyio.sleep_forever()
    finally:
        shutdown.begin()


class Requests:
    """The host's messages. The SDK gets the valid ones. The others are answered here and logged.

    A request whose id is in use is not passed on: it would be run and paid twice, and the first could no longer be
    cancelled.
    """

    def __init__(self, stdin: BinaryIO, answers: Answers, *, at_end: Callable[[], None]) -> None:
        """`at_end` is called once when the input has ended, before the SDK cancels what is running."""
        self._stdin, self._answers, self._at_end = stdin, answers, at_end
        self._accepted = deque[SessionMessage]()
        self._is_first_line = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        while not self._accepted:
            line = await to_thread.run_sync(self._read_line, abandon_on_cancel=True)
            if not line:
                self._at_end()
                raise StopAsyncIteration
            self._receive(line)
        return self._accepted.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def aclose(self) -> None:
        """Nothing is to be closed: the thread that reads stdin is left behind."""

    def _read_line(self) -> bytes | _Invalid:
        """The next line; nothing at the end of input."""
        try:
            line = self._stdin.readline(LONGEST_LINE + 1)
            if len(line) <= LONGEST_LINE:
                if too_many_values(line, MOST_IN_A_MESSAGE):
                    message = f"A message may have at most {MOST_IN_A_MESSAGE} values."
                    return _Invalid(INVALID_REQUEST, message, _request_id(line[:_EDGE], line[-_EDGE:]))
                return line
            head, tail, rest = line[:_EDGE], b"", line
            while rest and not rest.endswith(b"\n"):
                tail, rest = rest[-_EDGE:], self._stdin.readline(LONGEST_LINE)
        except OSError as exc:  # a terminal that is gone
            logger.info("stdin is closed: %s", exc.strerror)
            return b""
        message = f"A message may have at most {LONGEST_LINE} bytes."
        return _Invalid(INVALID_REQUEST, message, _request_id(head, (tail + rest)[-_EDGE:]))

    def _receive(self, line: bytes | _Invalid) -> None:
        if isinstance(line, _Invalid):
            self._refuse(line)
            return
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(codecs.BOM_UTF8), False
        if not line.strip():
            return
        try:
            message = jsonrpc_message_adapter.validate_json(_without_halves(line), by_name=False)
        except ValidationError:
            self._receive_unusual(line)
        else:
            self._take(message, None)

    def _receive_unusual(self, line: bytes) -> None:
        """Handle a batch or an invalid message."""
        try:
            value: Any = json.loads(line.decode())
        except UnicodeDecodeError:
            self._refuse(_Invalid(PARSE_ERROR, "The message is not UTF-8.", _request_id(line[:_EDGE], line[-_EDGE:])))
        except (ValueError, RecursionError):
            self._refuse(_Invalid(PARSE_ERROR, "The message is not JSON.", _request_id(line[:_EDGE], line[-_EDGE:])))
        else:
            if isinstance(value, list):
                self._receive_batch(cast("list[Any]", value))
            else:
                self._refuse(_invalid(value))

    def _receive_batch(self, values: list[Any]) -> None:
        if self._answers.version != BATCHES_IN or not values:
            message = f"Batches need protocol version {BATCHES_IN} and at least one message."
            ids: list[RequestId | None] = [number for value in values if (number := _id_of(value)) is not None]
            for number in ids or [None]:
                self._refuse(_Invalid(INVALID_REQUEST, message, number))
            return
        batch = Batch()
        for value in values:
            try:
                part = jsonrpc_message_adapter.validate_python(value, by_name=False)
            except ValidationError:
                self._refuse(_invalid(value), batch)
            else:
                self._take(part, batch)
        batch.is_complete = True
        self._answers.send_if_answered(batch)

    def _take(self, message: JSONRPCMessage, batch: Batch | None) -> None:
        match message:
            case JSONRPCRequest(id=number) if coerce_request_id(number) in self._answers.live:
                self._refuse(_Invalid(INVALID_REQUEST, f"Request id {number!r} is in use.", number), batch)
                return
            case JSONRPCRequest(method="initialize", id=number) if batch:
                self._refuse(_Invalid(INVALID_REQUEST, "initialize must not be in a batch.", number), batch)
                return
            case JSONRPCRequest():
                self._answers.expect(message, batch)
            case JSONRPCNotification(method="notifications/cancelled", params={"requestId": str() | int() as number}):
                self._answers.forget(number)  # it is not answered any more
            case _:
                pass
        self._accepted.append(SessionMessage(message))

    def _refuse(self, invalid: _Invalid, batch: Batch | None = None) -> None:
        logger.warning("a message on stdin was refused: %s", invalid.message)
        if invalid.is_answered:
            self._answers.refuse(invalid, batch)


class Answers:
    """Sends answers to the host, and knows which requests are in progress. An answered id may be used again."""

    def __init__(self, outgoing: Any, group: TaskGroup) -> None:
        self.live: dict[RequestId, Batch | None] = {}
        self.version: str | None = None
        """The protocol version of the handshake, if there was one."""
        self._outgoing, self._group = outgoing, group
        self._initialize: RequestId | None = None
        self._unsent = 0
        self._sent = anyio.Event()

    def expect(self, request: JSONRPCRequest, batch: Batch | None) -> None:
        """A request will be answered, maybe as part of a batch."""
        self.live[coerce_request_id(request.id)] = batch
        if batch:
            batch.unanswered.add(coerce_request_id(request.id))
        if request.method == "initialize":
            self._initialize = request.id

    def forget(self, number: RequestId) -> None:
        """A request will not be answered: the host cancelled it."""
        if batch := self.live.pop(coerce_request_id(number), None):
            batch.unanswered.discard(coerce_request_id(number))
            self.send_if_answered(batch)

    def refuse(self, invalid: _Invalid, batch: Batch | None) -> None:
        """Answer a message that the SDK does not see. Does not wait, because the host may not be reading."""
        error = ErrorData(code=invalid.code, message=invalid.message)
        answer = JSONRPCError(jsonrpc="2.0", id=invalid.id, error=error)
        if batch:
            batch.answers.append(answer)
        else:
            self._send_later(SessionMessage(answer))

    def send_if_answered(self, batch: Batch) -> None:
        if message := batch.answer:
            self._send_later(message)

    async def send(self, item: SessionMessage) -> None:
        match item.message:
            case JSONRPCResponse(id=number, result=result) if number == self._initialize:
                self.version = result.get("protocolVersion")
            case _:
                pass
        match item.message:
            case (JSONRPCResponse(id=number) | JSONRPCError(id=str() | int() as number)) as answer:
                batch = self.live.pop(coerce_request_id(number), None)
                if batch:
                    batch.unanswered.discard(coerce_request_id(number))
                    batch.answers.append(answer)
                    if not (whole := batch.answer):
                        return
                    item = whole
            case _:
                pass
        await self._outgoing.send(item)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        with anyio.move_on_after(LAST_ANSWER_SECONDS):
            while self._unsent:
                await self._sent.wait()
        await self._outgoing.aclose()

    def _send_later(self, message: SessionMessage) -> None:
        self._unsent += 1
        self._group.start_soon(self._send_now, message)

    async def _send_now(self, message: SessionMessage) -> None:
        try:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the host is gone
                await self._outgoing.send(message)
        finally:
            self._unsent -= 1
            self._sent.set()
            self._sent = anyio.Event()


class _BatchAnswer(RootModel[list[JSONRPCResponse | JSONRPCError]]):
    """The SDK writes what can be dumped as JSON."""


@dataclass
class Batch:
    """A JSON-RPC batch: its answers are sent together, when all are there."""

    unanswered: set[RequestId] = field(default_factory=set[RequestId])
    answers: list[JSONRPCResponse | JSONRPCError] = field(default_factory=list[JSONRPCResponse | JSONRPCError])
    is_complete: bool = False
    """Whether all of its messages were looked at."""

    @property
    def answer(self) -> SessionMessage | None:
        """The answer to all of it, once there is one; notifications have none."""
        if self.unanswered or not self.answers or not self.is_complete:
            return None
        return SessionMessage(cast("Any", _BatchAnswer(self.answers)))


@dataclass(frozen=True)
class _Invalid:
    """Why a message is invalid, and the id of the request, if any."""

    code: int
    message: str
    id: RequestId | None
    is_answered: bool = True


def _invalid(value: Any) -> _Invalid:
    """An invalid JSON message. A response is never answered, even if it is malformed."""
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    is_answer = "method" not in fields and bool({"result", "error"} & fields.keys())
    return _Invalid(INVALID_REQUEST, "The message is not a JSON-RPC 2.0 message.", _id_of(fields), not is_answer)


def _id_of(value: Any) -> RequestId | None:
    match value:
        case {"id": str() | int() as number} if not isinstance(number, bool):
            return number
        case _:
            return None


_EDGE = 1024  # bytes at either end of a message, where clients write its id
_MEMBER = rb'\s*"(jsonrpc|method|id)"\s*:\s*("[^"\\]*"|\d{1,18})\s*'
_FIRST_MEMBERS = re.compile(rb"\s*\{(?:" + _MEMBER + rb",)+")
_LAST_MEMBERS = re.compile(rb"[,{]" + _MEMBER + rb"(?:," + _MEMBER + rb")*\}\s*$")


def _request_id(head: bytes, tail: bytes) -> RequestId | None:
    """The id of a request that cannot be parsed as a whole: it stands beside its method, before or behind the params.

    Members of the outermost object alone are looked at. A message without a method is an answer: its id is one of ours.
    """
    members: dict[bytes, bytes] = {}
    for match in (_FIRST_MEMBERS.match(head), _LAST_MEMBERS.search(tail)):
        if match:
            members |= dict(re.findall(_MEMBER, match[0]))
    if b"method" not in members or b"id" not in members:
        return None
    number: RequestId = json.loads(members[b"id"].decode(errors="replace"))
    return number


_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a UTF-16 pair; its other half may follow


def _without_halves(line: bytes) -> bytes:
    """A line with half a character in it, made whole: JavaScript writes such a half as it is, where a text was cut."""
    if not _HALF.search(line):
        return line
    try:
        return json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace")
    except (ValueError, RecursionError):
        return line
