"""Prometheus metrics: counts and times. No label holds a caller, an app, an id, or text from a caller."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from starlette.responses import Response

from inferencesh_mcp.api.json import is_object
from inferencesh_mcp.errors import InferenceError, SettingsError
from inferencesh_mcp.http.auth import bearer, unauthorized
from inferencesh_mcp.http.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from prometheus_client import Metric
    from starlette.datastructures import Headers

    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.http.middleware import UsageLimit
    from inferencesh_mcp.http.tokens import Tokens

# seconds: reads take a tenth, chats some seconds, and runs as long as a host waits
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300)


class Metrics:
    """Middleware of one server that counts its calls, and the page that shows them."""

    def __init__(self, server: MCPServer[Shared], readers: Tokens, requests: UsageLimit) -> None:
        try:
            import prometheus_client
        except ImportError as exc:
            raise SettingsError(
                message="INFERENCE_METRICS_TOKENS needs the extra: install inferencesh-mcp[metrics]."
            ) from exc
        self._server, self._readers = server, readers
        self._render = prometheus_client.generate_latest
        self._registry = prometheus_client.CollectorRegistry()
        self._calls = prometheus_client.Counter(
            "inferencesh_calls", "Tool calls that ended, by outcome.", ["tool", "outcome"], registry=self._registry
        )
        self._seconds = prometheus_client.Histogram(
            "inferencesh_call_seconds",
            "Duration of tool calls, in seconds.",
            ["tool"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(self)
        self._requests = requests
        self._tools: set[str] = set()
        self._shared: Shared | None = None
        """State of the server, after its first request."""
        server.middleware.append(self)

    def page(self, headers: Headers) -> Response:
        try:
            reader = self._readers.name(bearer(headers) or "")
        except Refused:
            reader = None
        if reader is None:
            raise unauthorized("token_missing", "Send a metrics token as Authorization: Bearer.", "")
        return Response(self._render(self._registry), media_type="text/plain; version=0.0.4")

    def collect(self) -> Iterator[Metric]:
        """The values that are counted elsewhere. The registry reads them at each scrape."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        shared = self._shared
        live = shared.runs if shared else None
        yield GaugeMetricFamily("inferencesh_live_runs", "Runs that calls wait for.", live.running if live else 0)
        yield GaugeMetricFamily("inferencesh_open_requests", "Open requests of /mcp.", self._requests.total)
        yield CounterMetricFamily("inferencesh_runs", "Runs started.", live.started_count if live else 0)
        errors = CounterMetricFamily(
            "inferencesh_upstream_errors", "Failed API requests, by error code.", labels=["code"]
        )
        for code, count in shared.transport.failures.items() if shared else ():
            errors.add_metric([code], count)
        yield errors

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        self._shared = cast("Shared", ctx.lifespan_context)
        if ctx.method != "tools/call":
            return await call_next(ctx)
        tool = await self._tool_label(ctx.params)
        start, outcome = time.monotonic(), "failed"
        try:
            result = await call_next(ctx)
            outcome = _outcome(result)
        except MCPError:
            outcome = "protocol_error"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._calls.labels(tool, outcome).inc()
            self._seconds.labels(tool).observe(time.monotonic() - start)
        return result

    async def _tool_label(self, params: Any) -> str:
        """The tool's name; `other` if no tool has it, because callers can invent any number of names."""
        name = params.get("name") if params else None
        if not isinstance(name, str):
            return "other"  # a list, for example; the protocol layer refuses it
        if name not in self._tools:  # pinned tools may have been added
            self._tools = {tool.name for tool in await self._server.list_tools()}
        return name if name in self._tools else "other"


def _outcome(result: HandlerResult) -> str:
    """`ok`, `asked`, or the code of a failure; the codes are ours, and as many as there are errors."""
    payload = result if isinstance(result, dict) else {}  # serialized already, so with the names of the wire
    if payload.get("resultType") == "input_required":
        return "asked"
    if not payload.get("isError"):
        return "ok"
    content = payload.get("structuredContent")
    error = content.get("error") if is_object(content) else None
    code = error.get("code") if is_object(error) else None
    return code if code in CODES else "failed"


def _codes(kind: type[InferenceError]) -> set[str]:
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


CODES = frozenset(_codes(InferenceError))
