"""OpenTelemetry spans of requests: method, endpoint and status, never an id, a query or a key."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind, Status, StatusCode, get_tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Generator

    from opentelemetry.trace import Span

_tracer = get_tracer("inferencesh-mcp")
_propagator = TraceContextTextMapPropagator()  # without baggage: what a host put there is not for others

_PATH_WORD = re.compile(
    "agents|always-allow|apps|billing|breakdown|cancel|chats|check|cost|credentials|entitlements|estimate|explain|files|invoke|"
    "keepalive|list|logs|me|messages|options|reject|run|sessions|status|stop|store|stream|suggest|tasks|tools|usage|versions"
)
"""A part of our paths that is no name or id."""


@contextmanager
def client_span(method: str, host: str, path: str | None) -> Generator[Span]:
    """A span from sending a request until its status arrives. None as `path` means a request for a file."""
    name = f"{method} a file" if path is None else f"{method} {_template(path)}"
    with _tracer.start_span(name, kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False) as span:
        span.set_attribute("http.request.method", method)
        span.set_attribute("server.address", host)
        try:
            yield span
        except BaseException as exc:
            span.set_attribute("error.type", type(exc).__qualname__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def trace_headers(span: Span) -> dict[str, str]:
    """The trace headers of a request to the API. File hosts get none."""
    carrier: dict[str, str] = {}
    if span.is_recording():  # otherwise this is the caller's own span, which must not be passed on
        _propagator.inject(carrier, set_span_in_context(span))
    return {name: value for name, value in carrier.items() if name == "traceparent"}


def _template(path: str) -> str:
    return "/".join(
        part if _PATH_WORD.fullmatch(part) else "{}" for part in path.partition("?")[0].strip("/").split("/")
    )
