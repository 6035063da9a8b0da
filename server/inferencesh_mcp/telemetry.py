"""OpenTelemetry traces, without secrets. The SDK's own `OTEL_` variables say where they go.

`mcp` makes a span for each message and `api.spans` one for each API request. Without this module they are dropped.
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

FLUSH_TIMEOUT_MS = 2_000  # for spans that were not sent when the process ends
MAX_VALUE_LENGTH = 500  # characters of a value: hosts choose request ids and tool names


def configure() -> Callable[[], None]:
    """Start tracing, once per process. Returns a function to call at the end of the process."""
    resource = Resource({"service.name": "inferencesh-mcp", "service.version": __version__})
    provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(RedactingSpanProcessor(OTLPSpanExporter()))
    set_tracer_provider(provider)

    def flush() -> None:
        provider.force_flush(FLUSH_TIMEOUT_MS)

    return flush


class RedactingSpanProcessor(BatchSpanProcessor):
    """Redacts each span before it is sent. A span ends inside its request, where the key is known."""

    def on_end(self, span: ReadableSpan) -> None:
        super().on_end(_clean(span))


def _clean(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=_text(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_values(span.attributes),
        events=[Event(_text(event.name), _values(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, span.status.description and _text(span.status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _values(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: _text(value) if isinstance(value, str) else value for name, value in (attributes or {}).items()}


def _text(text: str) -> str:
    return without_secrets(text)[:MAX_VALUE_LENGTH]
