"""The messages on stdin and stdout, with what the SDK's own reader lacks.

Lines have a limit. Every recognizable request is answered, including batches. Two requests with one id do not both run. The
SDK reads lines of any length, drops what it cannot parse, and runs both.
"""

from __future__ import annotations

import codecs
import json
import logging
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import anyio
from anyio import to_thread
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

from inferencesh_mcp.api.json import MAX_IN_A_MESSAGE, is_array, is_object, too_many_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup
    from mcp_types import JSONRPCMessage

MAX_LINE_BYTES = 8 * 1024 * 1024  # bytes of one message
LAST_ANSWER_SECONDS = 1.0  # for the last answer, when all runs are taken care of: the host may not read it
BATCHES_IN = "2025-03-26"  # the one protocol version with JSON-RPC batches

logger = logging.getLogger(__name__)


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

    def _read_line(self) -> bytes | _Invalid:
        """The next line; nothing at the end of input."""
        try:
            line = self._stdin.readline(MAX_LINE_BYTES + 1)
            if len(line) <= MAX_LINE_BYTES:
                if too_many_values(line, MAX_IN_A_MESSAGE):
                    message = f"A message may have at most {MAX_IN_A_MESSAGE} values."
                    return _Invalid(INVALID_REQUEST, message, _request_id(line, line))
                return line
            tail, rest = b"", line
            while rest and not rest.endswith(b"\n"):
                tail, rest = rest[-_EDGE:], self._stdin.readline(MAX_LINE_BYTES)
        except OSError as exc:  # a terminal that is gone
            logger.info("stdin is closed: %s", exc.strerror)
            return b""
        message = f"A message may have at most {MAX_LINE_BYTES} bytes."
        return _Invalid(INVALID_REQUEST, message, _request_id(line, tail + rest))

    def _receive(self, line: bytes | _Invalid) -> None:
        if isinstance(line, _Invalid):
            self._refuse(line)
            return
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(codecs.BOM_UTF8), False
        if not line.strip():
            return
        line = _without_half_pairs(line)
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValidationError:
            self._receive_unusual(line)
        else:
            self._take(message, None)

    def _receive_unusual(self, line: bytes) -> None:
        """Handle a batch or an invalid message."""
        try:
            value: Any = json.loads(line.decode())
        except (ValueError, RecursionError) as exc:
            encoding = "UTF-8" if isinstance(exc, UnicodeDecodeError) else "JSON"
            self._refuse(_Invalid(PARSE_ERROR, f"The message is not {encoding}.", _request_id(line, line)))
            return
        if is_array(value):
            self._receive_batch(value)
        else:
            self._refuse(_invalid(value))

    def _receive_batch(self, values: list[Any]) -> None:
        if self._answers.version != BATCHES_IN or not values:
            message = f"Batches need protocol version {BATCHES_IN} and at least one message."
            ids: list[RequestId | None] = [request_id for value in values if (request_id := _id_of(value)) is not None]
            for request_id in ids or [None]:
                self._refuse(_Invalid(INVALID_REQUEST, message, request_id))
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
            case JSONRPCRequest(id=request_id) if coerce_request_id(request_id) in self._answers.live:
                self._refuse(_Invalid(INVALID_REQUEST, f"Request id {request_id!r} is in use.", request_id), batch)
                return
            case JSONRPCRequest(method="initialize", id=request_id) if batch:
                self._refuse(_Invalid(INVALID_REQUEST, "initialize must not be in a batch.", request_id), batch)
                return
            case JSONRPCRequest():
                self._answers.expect(message, batch)
            case JSONRPCNotification(
                method="notifications/cancelled", params={"requestId": str() | int() as request_id}
            ):
                self._answers.forget(request_id)  # it will not be answered
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

    def forget(self, request_id: RequestId) -> None:
        """A request will not be answered: the host cancelled it."""
        if batch := self.live.pop(coerce_request_id(request_id), None):
            batch.unanswered.discard(coerce_request_id(request_id))
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
        message = item.message
        if isinstance(message, JSONRPCResponse) and message.id == self._initialize:
            self.version = message.result.get("protocolVersion")
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            batch = self.live.pop(coerce_request_id(message.id), None)
            if batch:
                batch.unanswered.discard(coerce_request_id(message.id))
                batch.answers.append(message)
                if not (answer := batch.answer):
                    return
                item = answer
        await self._outgoing.send(item)

    async def aclose(self) -> None:
        """Close it when the answers given here are sent, or the host does not read them in time."""
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
    """Whether all of its messages were read."""

    @property
    def answer(self) -> SessionMessage | None:
        """The answer to the whole batch once it is complete. A batch of notifications has none."""
        if self.unanswered or not self.answers or not self.is_complete:
            return None
        return SessionMessage(cast("Any", _BatchAnswer(self.answers)))


@dataclass(frozen=True)
class _Invalid:
    """The answer to an invalid message: what is wrong, and the id of the request, if any."""

    code: int
    message: str
    id: RequestId | None
    is_answered: bool = True


def _invalid(value: Any) -> _Invalid:
    """An invalid JSON message. A response is never answered, even if it is malformed."""
    fields = value if is_object(value) else {}
    is_answer = "method" not in fields and bool({"result", "error"} & fields.keys())
    return _Invalid(INVALID_REQUEST, "The message is not a JSON-RPC 2.0 message.", _id_of(fields), not is_answer)


def _id_of(value: Any) -> RequestId | None:
    match value:
        case {"id": str() | int() as request_id} if not isinstance(request_id, bool):
            return request_id
        case _:
            return None


_EDGE = 1024  # bytes at either end of a message, where clients write its id
_MEMBER = rb'\s*"(jsonrpc|method|id)"\s*:\s*("[^"\\]*"|\d{1,18})\s*'
_FIRST_MEMBERS = re.compile(rb"\s*\{(?:" + _MEMBER + rb",)+")
_LAST_MEMBERS = re.compile(rb"[,{]" + _MEMBER + rb"(?:," + _MEMBER + rb")*\}\s*$")


def _request_id(start: bytes, end: bytes) -> RequestId | None:
    """Find the id of a request that cannot be parsed as a whole. It is beside the method, before or after the params.

    Only members of the outermost object count. A message without a method is an answer, so its id is one of ours.
    """
    members: dict[bytes, bytes] = {}
    for match in (_FIRST_MEMBERS.match(start[:_EDGE]), _LAST_MEMBERS.search(end[-_EDGE:])):
        if match:
            members |= dict(re.findall(_MEMBER, match[0]))
    if b"method" not in members or b"id" not in members:
        return None
    try:
        return _id_of({"id": json.loads(members[b"id"].decode(errors="replace"))})
    except ValueError:  # `01`, or a line break within quotation marks
        return None


_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # of a UTF-16 pair; its other half may follow


def _without_half_pairs(line: bytes) -> bytes:
    """Replace half a UTF-16 pair: JavaScript writes one where it cut a text inside a character."""
    if not _HALF_PAIR.search(line):
        return line
    try:
        return json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace")
    except (ValueError, RecursionError):
        return line
