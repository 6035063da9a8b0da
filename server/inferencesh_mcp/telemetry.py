"""Traces: sent where the `OTEL_` variables of OpenTelemetry's own SDK say, as parts of the caller's, and without secrets.

`mcp` makes a span of every message by itself, and `api.tracing` one of every request to the API; without this they go nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, set_tracer_provider

from inferencesh_mcp import __version__
from inferencesh_mcp.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LAST_WORDS_MS = 2_000  # for what was not sent yet when the process ends
LONGEST = 500  # characters of a value: hosts choose request ids and tool names


def configure() -> Callable[[], None]:
    """Begin to trace; once a process. Returns what is to be called at its end."""
    ours = Resource({"service.name": "inferencesh-mcp", "service.version": __version__})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(Discreet(OTLPSpanExporter()))
    set_tracer_provider(provider)

    def end() -> None:
        provider.force_flush(LAST_WORDS_MS)

    return end


class Discreet(BatchSpanProcessor):
    """Sends each span without any secret, whoever put it there. A span ends inside its request, where its key is known."""

    def on_end(self, span: ReadableSpan) -> None:
        super().on_end(_clean(span))


def _clean(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=_text(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_values(span.attributes),
        events=[Event(_text(one.name), _values(one.attributes), one.timestamp) for one in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, span.status.description and _text(span.status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _values(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: _text(value) if isinstance(value, str) else value for name, value in (given or {}).items()}


def _text(text: str) -> str:
    return without_secrets(text)[:LONGEST]
