"""The outermost middleware: no credential and no text of an unexpected exception leaves the server.

Expected errors of tools become answers before they reach it, in `tools.define`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.context import credentials_of
from inferencesh_mcp.errors import CallError, InferenceError
from inferencesh_mcp.flows.internal_errors import collect_started_ids, internal_error
from inferencesh_mcp.redaction import Redactor, credentials_in_use
from inferencesh_mcp.tools.error_results import error_data, error_result, error_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from inferencesh_mcp.flows.internal_errors import StartedIds


class ErrorBoundary:
    """Turns exceptions into results and protocol errors, and redacts credentials in everything that is sent."""

    def __init__(self, credentials: Sequence[str]) -> None:
        """`credentials` are the process's own; those of a caller over HTTP come with each request."""
        self._own = tuple(credentials)
        self._redactor = Redactor(self._own)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        request_credentials = credentials_of(ctx)
        redactor = Redactor((*self._own, *request_credentials)) if request_credentials else self._redactor
        with credentials_in_use(redactor), collect_started_ids() as started:
            try:
                result = await call_next(ctx)
            except MCPError as exc:
                raise _redacted(exc, redactor) from exc
            except Exception as exc:
                # A notification gets no answer, and the SDK logs its exception.
                if ctx.request_id is None or _is_request_invalid(exc):
                    raise
                result = _failed(ctx, exc, started, redactor)
        redacted: HandlerResult = redactor.value(result)
        return redacted


def _failed(
    ctx: ServerRequestContext[Any, Any], exc: Exception, started: StartedIds, redactor: Redactor
) -> dict[str, Any]:
    """The result of a failed tool call. Errors of a tool itself are results before they come here (`tools.define`).

    Raises:
        MCPError: the request was for anything else. The code says whether other parameters would help.
    """
    params: dict[str, Any] = dict(ctx.params or {})
    is_call = ctx.method == "tools/call"
    where = str(params.get("name")) if is_call else ctx.method
    error = exc if isinstance(exc, InferenceError) else internal_error(exc, where, started, may_start=is_call)
    if is_call:
        return _serialize(error_result(error), ctx.protocol_version)
    code = INVALID_PARAMS if isinstance(error, CallError) else INTERNAL_ERROR
    data: dict[str, Any] = {"uri": params["uri"]} if "uri" in params else {}
    protocol_error = MCPError(code=code, message=error_text(error), data=data | {"error": error_data(error)})
    raise _redacted(protocol_error, redactor) from None


def _redacted(exc: MCPError, redactor: Redactor) -> MCPError:
    error = {"message": exc.error.message, "data": exc.error.data}
    clean = redactor.value(error)
    return exc if clean is error else MCPError(code=exc.error.code, **clean)


def _is_request_invalid(exc: Exception) -> bool:
    """Whether the SDK refused the request's own values, which is the client's error; else a value of ours is invalid."""
    if not isinstance(exc, ValidationError):
        return False
    trace: TracebackType | None = exc.__traceback__
    validated_by = ""
    while trace:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        validated_by = validated_by if module.partition(".")[0].startswith("pydantic") else module
        trace = trace.tb_next
    return validated_by.partition(".")[0] in {"mcp", "mcp_types"}


def _serialize(result: CallToolResult, version: str) -> dict[str, Any]:
    """Serialize a result as the SDK does."""
    fields = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {**fields, "resultType": "complete"} if version in MODERN_PROTOCOL_VERSIONS else fields
