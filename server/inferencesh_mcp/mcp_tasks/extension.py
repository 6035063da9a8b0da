"""The MCP tasks extension: a client that declares it polls a long run instead of waiting for the result.

For any other client nothing changes. The server stores no tasks: the id holds all that is needed (`task_id`), and the
state is read upstream each time (`runs`, `chats`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mcp import MCPError
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import Context, require_client_extension
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from inferencesh_mcp.api.json import without_none
from inferencesh_mcp.context import as_mcp_task, principal_of
from inferencesh_mcp.mcp_tasks.task_id import TASK_TTL, TaskHandle, TaskIdCodec
from inferencesh_mcp.tools.results import DeferredResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp.server.context import CallNext, HandlerResult
    from mcp_types import CallToolRequestParams, CallToolResult, ErrorData, InputRequest
    from pydantic import BaseModel

    from inferencesh_mcp.context import Ctx, Request

NO_SUCH_TASK = "There is no such MCP task."
FIRST_POLL_MS = 250  # milliseconds; the poll interval grows by this much with each second of the run

COMPLETE: dict[str, Any] = {"resultType": "complete"}


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """The state of an MCP task, with the status names of the specification."""

    status: Literal["working", "input_required", "completed", "cancelled", "failed"]
    message: str = ""
    changed_at: datetime | None = None
    result: CallToolResult | None = None
    """The result of the tool, once it is known. A failed run is a result too."""
    requests: Mapping[str, InputRequest] = field(default_factory=dict[str, "InputRequest"])
    """Questions for the person. The key identifies the question, so that an answer counts for no other."""
    error: ErrorData | None = None
    """Only with `failed`, which is never the status of a run: a failed run is a result."""

    def ended(self, result: CallToolResult, *, cancelled: bool) -> TaskState:
        """The state at the end, with the result of what was not cancelled."""
        message = first_line(result)
        if cancelled:
            return replace(self, status="cancelled", message=message)
        return replace(self, status="completed", message=message, result=result)


class TaskSource(Protocol):
    """Reads, answers and cancels one kind of work that outlasts its call."""

    async def read(self, ctx: Ctx, handle: TaskHandle) -> TaskState: ...

    async def answer(self, ctx: Ctx, handle: TaskHandle, responses: Mapping[str, Any]) -> None:
        """Send the answers to the open questions; ignore others, as the specification says."""
        ...

    async def cancel(self, ctx: Ctx, handle: TaskHandle) -> None:
        """Cancel the work; do nothing if it has ended."""
        ...


class TaskParams(RequestParams):
    """The parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId")


class UpdateParams(TaskParams):
    """The parameters of `tasks/update`."""

    input_responses: dict[str, Any] = Field(alias="inputResponses")


class Tasks(Extension):
    """`io.modelcontextprotocol/tasks` of 2026-07-28."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, codec: TaskIdCodec, sources: Mapping[str, TaskSource], *, poll_interval_ms: int) -> None:
        self.sources = dict(sources)
        """How each kind of work is read, answered and cancelled."""
        self._codec = codec
        self._poll_interval_ms = poll_interval_ms

    def methods(self) -> Sequence[MethodBinding]:
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return (
            MethodBinding("tasks/get", TaskParams, self._get, versions),
            MethodBinding("tasks/update", UpdateParams, self._update, versions),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, versions),
        )

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,  # noqa: ARG002 - the tool decides by its result
        ctx: Request,
        call_next: CallNext,
    ) -> HandlerResult:
        """Call the tool without waiting for a long run, and return an MCP task for it. A complete result stays a result."""
        if not self._is_declared(ctx):
            return await call_next(ctx)
        result = await call_next(as_mcp_task(ctx))
        if not isinstance(result, DeferredResult):
            return result
        handle = TaskHandle(kind=result.kind, upstream_ids=result.upstream_ids, started_at=time.time())
        task_id = self._codec.seal(handle, principal_of(ctx))
        state = TaskState(status="working", message=first_line(result))
        return self._task_json(task_id, handle, state) | {"resultType": "task"}

    def _is_declared(self, ctx: Request) -> bool:
        """Whether the client declares the extension, in a protocol version that has it."""
        capabilities = ctx.session.client_capabilities
        return (
            ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
            and capabilities is not None
            and self.identifier in (capabilities.extensions or {})
        )

    async def _get(self, ctx: Request, params: TaskParams) -> dict[str, Any]:
        handle, source = self._open(ctx, params.task_id)
        state = await source.read(_context(ctx), handle)
        return self._task_json(params.task_id, handle, state) | COMPLETE

    async def _update(self, ctx: Request, params: UpdateParams) -> dict[str, Any]:
        handle, source = self._open(ctx, params.task_id)
        await source.answer(_context(ctx), handle, params.input_responses)
        return COMPLETE

    async def _cancel(self, ctx: Request, params: TaskParams) -> dict[str, Any]:
        handle, source = self._open(ctx, params.task_id)
        await source.cancel(_context(ctx), handle)
        return COMPLETE

    def _open(self, ctx: Request, task_id: str) -> tuple[TaskHandle, TaskSource]:
        """The handle in an id, and its source. An id that is not the caller's causes no upstream request.

        Raises:
            MCPError: the id is unknown or has expired, or the header names another one.
        """
        require_client_extension(ctx, self.identifier)
        headers = getattr(ctx.request, "headers", None)
        if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != task_id:
            raise MCPError(code=HEADER_MISMATCH, message="The header Mcp-Name is not the taskId of the request.")
        handle = self._codec.open(task_id, principal_of(ctx))
        if handle and handle.expired:
            raise MCPError(code=INVALID_PARAMS, message=f"The MCP task has expired. {_tool_hint(handle)}")
        if handle is None or handle.kind not in self.sources:  # a newer replica may have other kinds
            raise MCPError(code=INVALID_PARAMS, message=NO_SUCH_TASK)
        return handle, self.sources[handle.kind]

    def _task_json(self, task_id: str, handle: TaskHandle, state: TaskState) -> dict[str, Any]:
        """An MCP task as JSON, as the specification defines it."""
        started_at = datetime.fromtimestamp(handle.started_at, UTC)
        changed_at = max(state.changed_at or started_at, started_at)
        return without_none(
            taskId=task_id,
            status=state.status,
            createdAt=started_at.isoformat(),
            lastUpdatedAt=changed_at.isoformat(),
            ttlMs=int(TASK_TTL * 1000),
            # Most runs end within seconds, so a young run is polled more often.
            pollIntervalMs=min(self._poll_interval_ms, max(FIRST_POLL_MS, round(handle.age * FIRST_POLL_MS))),
            statusMessage=state.message or None,
            result=_dump(state.result) | COMPLETE if state.result else None,
            inputRequests={key: _dump(request) for key, request in state.requests.items()} or None,
            error=_dump(state.error) if state.error else None,
        )


def _dump(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def first_line(answer: CallToolResult) -> str:
    """The first line of a result: its status and id."""
    return next((part.text.partition("\n")[0] for part in answer.content if part.type == "text"), "")


def _context(ctx: Request) -> Ctx:
    """The context that tools get."""
    return Context(request_context=ctx)


def _tool_hint(handle: TaskHandle) -> str:
    """How to read the work without the MCP task."""
    match handle.upstream_ids:
        case {"task": str(task)}:
            return f'Read its run with task_get(task_id="{task}").'
        case {"chat": str(chat)}:
            return f'Read its chat with chat_get(chat_id="{chat}").'
        case _:
            return "Find the runs with task_list."
