"""The outermost middleware: no credential and no text of an unexpected exception leaves the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.context import credentials_of
from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.flows.started_ids import collect_started_ids
from inferencesh_mcp.internal_errors import internal_error
from inferencesh_mcp.redaction import Redactor, credentials_in_use
from inferencesh_mcp.tools.define import internal_failure
from inferencesh_mcp.tools.results import error_data, error_result, error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from inferencesh_mcp.flows.started_ids import StartedIds


class Edge:
    """Turns exceptions into results and protocol errors, and redacts credentials in everything that is sent."""

    def __init__(self, starts: Callable[[str, Mapping[str, Any] | None], bool], credentials: Sequence[str]) -> None:
        """`starts` says whether a call of a tool with these parameters may begin a run. `credentials` are the process's own;
        those of a caller over HTTP come with each request."""
        self._starts = starts
        self._own = tuple(credentials)
        self._redactor = Redactor(self._own)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        request_credentials = credentials_of(ctx)
        redactor = Redactor((*self._own, *request_credentials)) if request_credentials else self._redactor
        with credentials_in_use(redactor), collect_started_ids() as started:
            try:
                result = await call_next(ctx)
            except MCPError as exc:
                raise _redact(exc, redactor) from exc
            except ValidationError as exc:
                if _is_request_invalid(exc.__traceback__):
                    raise
                result = self._failed(ctx, exc, started)
            except Exception as exc:
                if ctx.request_id is None:  # a notification gets no answer, and the SDK logs the exception
                    raise
                result = self._failed(ctx, exc, started)
        return cast("HandlerResult", redactor.value(result))

    def _failed(self, ctx: ServerRequestContext[Any, Any], exc: Exception, started: StartedIds) -> dict[str, Any]:
        """The result of a failed tool call.

        Raises:
            MCPError: the request was for anything but a tool call.
        """
        if ctx.method == "tools/call":
            name = str((ctx.params or {}).get("name"))
            if isinstance(exc, InferenceError):
                return _serialize(error_result(exc), ctx.protocol_version)
            starts = self._starts(name, ctx.params)
            return _serialize(internal_failure(exc, name, starts, started), ctx.protocol_version)
        error = exc if isinstance(exc, InferenceError) else internal_error(exc, ctx.method)
        raise MCPError(code=INTERNAL_ERROR, message=error_text(error), data={"error": error_data(error)}) from None


def _redact(exc: MCPError, redactor: Redactor) -> MCPError:
    error = {"message": exc.error.message, "data": exc.error.data}
    clean = redactor.value(error)
    return exc if clean is error else MCPError(code=exc.error.code, **clean)


def _is_request_invalid(trace: TracebackType | None) -> bool:
    """Whether the SDK validated a request, which is then the client's error; else a value of ours is invalid."""
    checked_by = ""
    while trace:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        checked_by = checked_by if module.partition(".")[0].startswith("pydantic") else module
        trace = trace.tb_next
    return checked_by.partition(".")[0] in {"mcp", "mcp_types"}


def _serialize(result: CallToolResult, version: str) -> dict[str, Any]:
    """Serialize a result as the SDK does."""
    fields = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {**fields, "resultType": "complete"} if version in MODERN_PROTOCOL_VERSIONS else fields
