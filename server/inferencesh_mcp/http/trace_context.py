"""Requests that are part of a trace of the caller's: what is traced of them here is part of it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Joined:
    """An application whose spans belong to the trace that a request's `traceparent` names.

    `mcp` itself reads the one in a message's `_meta`, which comes first.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = attach(self._propagator.extract(Headers(scope=scope)))
        try:
            await self._app(scope, receive, send)
        finally:
            detach(token)
