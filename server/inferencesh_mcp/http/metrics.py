"""What Prometheus may know: counts and times. No label names a caller, an app, an id, or anything that a caller made up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from starlette.responses import Response

from inferencesh_mcp.errors import InferenceError, SettingsError
from inferencesh_mcp.http.auth import bearer, unknown
from inferencesh_mcp.http.middleware import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp.server import MCPServer
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from prometheus_client import Metric
    from starlette.datastructures import Headers

    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.http.middleware import RequestLimits
    from inferencesh_mcp.http.tokens import Tokens

# Seconds: what is read is read in a tenth of one; a run takes as long as a host waits; a turn of a chat in between.
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300)


class Metrics:
    """Counts the calls of one server as its middleware, and shows them to who may read them."""

    def __init__(self, server: MCPServer[Shared], readers: Tokens, shares: RequestLimits) -> None:
        try:
            import prometheus_client
        except ImportError as exc:
            raise SettingsError(
                message="INFERENCE_METRICS_TOKENS needs the extra: install inferencesh-mcp[metrics]."
            ) from exc
        self._server, self._readers = server, readers
        self._shown = prometheus_client.generate_latest
        self._registry = prometheus_client.CollectorRegistry()
        self._calls = prometheus_client.Counter(
            "inferencesh_calls", "Tool calls that ended, by how.", ["tool", "outcome"], registry=self._registry
        )
        self._seconds = prometheus_client.Histogram(
            "inferencesh_call_seconds", "How long they took.", ["tool"], buckets=BUCKETS, registry=self._registry
        )
        self._registry.register(_Now(self, shares))
        self._tools: set[str] = set()
        self.shared: Shared | None = None
        """What lives in the server, once a first request has come."""
        server.middleware.append(self)

    def page(self, headers: Headers) -> Response:
        try:
            reader = self._readers.name(bearer(headers) or "")
        except Refused:
            reader = None
        if reader is None:
            raise unknown("token_missing", "Send a metrics token as Authorization: Bearer.", "")
        return Response(self._shown(self._registry), media_type="text/plain; version=0.0.4")

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        self.shared = cast("Shared", ctx.lifespan_context)
        if ctx.method != "tools/call":
            return await call_next(ctx)
        tool = await self._known(ctx.params)
        began, outcome = time.monotonic(), "failed"
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
            self._seconds.labels(tool).observe(time.monotonic() - began)
        return result

    async def _known(self, params: Any) -> str:
        """The tool's name; `other` where there is none of that name, since callers can make up any number."""
        name = params.get("name") if params else None
        if not isinstance(name, str):
            return "other"  # a list, say: that it is none is for the protocol to tell
        if name not in self._tools:  # pinned ones may have come since
            self._tools = {tool.name for tool in await self._server.list_tools()}
        return name if name in self._tools else "other"


class _Now:
    """What is counted elsewhere, or is as it is now."""

    def __init__(self, metrics: Metrics, shares: RequestLimits) -> None:
        self._metrics, self._shares = metrics, shares

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        shared = self._metrics.shared
        live = shared.live if shared else None
        yield GaugeMetricFamily("inferencesh_live_runs", "Runs that calls wait for now.", live.running if live else 0)
        yield GaugeMetricFamily("inferencesh_open_requests", "Requests of /mcp that are open now.", self._shares.open)
        yield CounterMetricFamily("inferencesh_runs", "Runs that were started.", live.started if live else 0)
        errors = CounterMetricFamily(
            "inferencesh_upstream_errors", "Requests to the API that failed, by code.", labels=["code"]
        )
        for code, count in shared.transport.failures.items() if shared else ():
            errors.add_metric([code], count)
        yield errors


def _outcome(result: HandlerResult) -> str:
    """`ok`, `asked`, or the code of a failure; the codes are ours, and as many as there are errors."""
    told = result if isinstance(result, dict) else {}  # as it goes out, and so by its names there
    if told.get("resultType") == "input_required":
        return "asked"
    if not told.get("isError"):
        return "ok"
    error = cast("dict[str, Any]", told.get("structuredContent") or {}).get("error")
    code = cast("dict[str, Any]", error).get("code") if isinstance(error, dict) else None
    return code if code in CODES else "failed"


def _codes(kind: type[InferenceError]) -> set[str]:
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


CODES = frozenset(_codes(InferenceError))
