"""The outermost layer: it notes each request in the ledger, and ends open requests when the sandbox closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers

from inferencesh_sandbox.ids import fingerprint
from inferencesh_sandbox.ledger import RequestRecord
from inferencesh_sandbox.tenants import key_in
from inferencesh_sandbox.wire import Problem, problem_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from inferencesh_sandbox.facts import Facts
    from inferencesh_sandbox.ledger import Ledger

_MAX_BODY = 32 * 1024 * 1024
"""Bytes of a JSON body. Uploads are streamed and have a limit of their own."""

_ROOTS = frozenset({
    "agent-runs", "agents", "app", "apps", "chats", "credentials", "files", "healthz", "integrations", "interrupts",
    "me", "run", "sessions", "store", "tasks", "tools", "upload",
})  # fmt: skip
"""The first segments of the API's paths."""


class EntryMiddleware:
    """The outermost ASGI layer."""

    def __init__(self, app: ASGIApp, *, facts: Facts, ledger: Ledger) -> None:
        self._app = app
        self._facts = facts
        self._ledger = ledger
        self._open_requests: set[anyio.CancelScope] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["sandbox.facts"] = self._facts
        with anyio.CancelScope() as request:
            self._open_requests.add(request)
            try:
                await self._handle(scope, receive, send)
            except Problem as problem:
                await problem_response(problem, scope)(scope, receive, send)
            finally:
                self._open_requests.discard(request)

    def close(self) -> None:
        """Cancel all open requests: an open stream must not delay the shutdown."""
        for request in self._open_requests:
            request.cancel()

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = normalize(scope["path"])
        key = key_in(Headers(scope=scope).get("authorization", ""))
        if scope["method"] != "PUT":  # uploads are read as they arrive
            receive = _replay(await _read(receive), receive)
        caller = fingerprint(key) if key else ""
        record = RequestRecord(caller=caller, method=scope["method"], path=scope["path"])
        self._ledger.note(record)
        await self._app(scope, receive, _recording_status(record, send))


def normalize(path: str) -> str:
    """Remove double slashes and any prefix before the first known noun."""
    segments = [segment for segment in path.split("/") if segment]
    for index, segment in enumerate(segments):
        if segment in _ROOTS:
            return "/" + "/".join(segments[index:])
    return "/" + "/".join(segments)


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MAX_BODY:
            raise Problem(413, "invalid_request", f"a body may have {_MAX_BODY} bytes")
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Replay a body that was already read, then pass on what follows."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _recording_status(record: RequestRecord, send: Send) -> Send:
    async def record_status(message: Message) -> None:
        if message["type"] == "http.response.start":
            record.status = message["status"]
        await send(message)

    return record_status
