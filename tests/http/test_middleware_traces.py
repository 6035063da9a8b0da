"""Traces, as a collector gets them: parts of the caller's, down to the API, and without a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.conftest import KEY, listening
from tests.http.asking import LEGACY, MODERN, envelope
from tests.http.process import running

pytestmark = pytest.mark.anyio

CANARY = "inf_made_up_CANARY_33"


@dataclass
class Elsewhere:
    """An API that has nothing, and a collector; both remember what they were sent."""

    asked: list[Request] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/traces", self._collect, methods=["POST"]),
                Route("/{rest:path}", self._answer, methods=["GET", "POST"]),
            ]
        )

    async def _collect(self, request: Request) -> Response:
        self.sent.append(await request.body())
        return Response()

    async def _answer(self, request: Request) -> Response:
        self.asked.append(request)
        return JSONResponse({"error": {"code": "not_found", "message": f"Bearer {KEY} opens nothing here"}}, 404)

    def spans(self) -> list[Any]:
        found = [ExportTraceServiceRequest.FromString(body) for body in self.sent]
        return [span for one in found for resource in one.resource_spans for scope in resource.scope_spans for span in scope.spans]  # fmt: skip


@asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[Elsewhere, str]]:
    one = Elsewhere()
    async with listening(one.app) as url:
        yield one, url


def traceparent(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


async def test_a_call_joins_the_callers_trace_without_secrets() -> None:
    """By the header or by `_meta`, in either era; what is asked of the API is part of it too."""
    async with elsewhere() as (there, url):
        variables = {"INFERENCE_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_SERVICE_NAME": "bridge"}
        async with running(url, **variables) as server:
            ways: list[tuple[str, dict[str, str], dict[str, Any]]] = [
                (MODERN, {"traceparent": traceparent(1), "baggage": f"key={CANARY}"}, {}),
                (LEGACY, {"traceparent": traceparent(2)}, {}),
                (MODERN, {"traceparent": traceparent(9)}, {"traceparent": traceparent(3)}),
                (LEGACY, {}, {"traceparent": traceparent(4)}),
            ]
            for era, headers, meta in ways:
                told, message = envelope("tools/call", era, number=CANARY, name="task_get", _meta=meta,
                                         arguments={"task_id": "01m8ac7retrg40j6799vdx658k"})  # fmt: skip
                await server.http.post(server.url, headers=told | headers, content=message)
            told, message = envelope("tools/call", MODERN, name=CANARY, arguments={"key": CANARY})
            await server.http.post(server.url, headers=told, content=message)
            code, _ = await server.ended()

    spans = there.spans()
    for number in (1, 2, 3, 4):
        ours = [span for span in spans if span.trace_id.hex() == f"{number:032x}"]
        assert {"tools/call task_get", "GET tasks/{}"} <= {span.name for span in ours}
        call = next(span for span in ours if span.name == "tools/call task_get")
        assert f"{number:016x}" == call.parent_span_id.hex()
        asked = [
            one.headers["traceparent"] for one in there.asked if f"{number:032x}" in one.headers.get("traceparent", "")
        ]
        assert {span.span_id.hex() for span in ours if span.name.startswith("GET ")} == {
            one.split("-")[2] for one in asked
        }
    assert 143 == code
    everything = b"".join(there.sent)
    assert b"bridge" in everything
    assert not any(secret.encode() in everything for secret in (KEY, CANARY, "01m8ac7retrg40j6799vdx658k"))
    assert not any("baggage" in one.headers or "tracestate" in one.headers for one in there.asked)
    assert KEY not in "".join(server.log)


async def test_without_tracing_a_callers_trace_is_not_sent_on() -> None:
    async with elsewhere() as (there, url), running(url) as server:
        told, message = envelope(
            "tools/call", MODERN, name="app_list", arguments={}, _meta={"traceparent": traceparent(1)}
        )
        await server.http.post(server.url, headers=told | {"traceparent": traceparent(1)}, content=message)

    assert there.asked
    assert not any("traceparent" in one.headers for one in there.asked)
    assert [] == there.sent
