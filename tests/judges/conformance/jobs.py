"""What the suite wants to see of MCP tasks: tools that last, handed over to the server's own extension.

The extension, its ids and its methods are the production's; only what these tools do is made up, and remembered here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from mcp_types import INTERNAL_ERROR, CallToolResult, ErrorData, InputRequest, TextContent

from inferencesh_mcp.context import wants_mcp_task
from inferencesh_mcp.mcp_tasks.extension import Tasks, TaskState
from inferencesh_mcp.tools.results import deferred

from .asking import NAME, Asked, Ctx, form, missing, missing_capability, said
from .contents import text

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from inferencesh_mcp.mcp_tasks.task_id import TaskHandle

FAILED = CallToolResult(content=[TextContent(text="The job failed.")], is_error=True)


@dataclass
class Job:
    """Something that lasts: until when, what it asks for first, and how it ends."""

    ends_at: float
    end: CallToolResult | ErrorData
    asks: dict[str, InputRequest] = field(default_factory=dict)
    cancelled: bool = False


class Jobs:
    """All jobs of this process, as a kind of thing that the extension can follow."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def begun(self, job: Job) -> CallToolResult:
        name = secrets.token_hex(8)
        self._jobs[name] = job
        return deferred(text("Begun."), "job", job=name)

    async def read(self, ctx: Ctx, handle: TaskHandle) -> TaskState:
        job = self._jobs[handle.upstream_ids["job"]]
        if job.cancelled:
            return TaskState(status="cancelled")
        if job.asks:
            return TaskState(status="input_required", requests=job.asks)
        if time.monotonic() < job.ends_at:
            return TaskState(status="working")
        if isinstance(job.end, ErrorData):
            return TaskState(status="failed", message=job.end.message, error=job.end)
        return TaskState(status="completed", result=job.end)

    async def answer(self, ctx: Ctx, handle: TaskHandle, responses: Mapping[str, Any]) -> None:
        job = self._jobs[handle.upstream_ids["job"]]
        job.asks = {key: asked for key, asked in job.asks.items() if key not in responses}

    async def cancel(self, ctx: Ctx, handle: TaskHandle) -> None:
        job = self._jobs[handle.upstream_ids["job"]]
        job.cancelled = bool(job.asks) or time.monotonic() < job.ends_at


JOBS = Jobs()


async def greet(name: str) -> CallToolResult:
    """Answers at once."""
    return text(f"Hello, {name}!")


async def slow_compute(seconds: float, ctx: Ctx, label: str = "") -> CallToolResult:
    """Takes its time."""
    end = text(f"Computed {label} in {seconds} s.")
    if wants_mcp_task(ctx):
        return JOBS.begun(Job(time.monotonic() + seconds, end))
    await anyio.sleep(seconds)
    return end


async def failing_job(ctx: Ctx) -> CallToolResult:
    """Fails after a second; only as an MCP task."""
    _needs_tasks(ctx)
    return JOBS.begun(Job(time.monotonic() + 1, FAILED))


async def protocol_error_job(ctx: Ctx) -> CallToolResult:
    """Ends in an error of the protocol; only as an MCP task."""
    _needs_tasks(ctx)
    return JOBS.begun(Job(time.monotonic(), ErrorData(code=INTERNAL_ERROR, message="The job broke.")))


async def confirm_delete(filename: str, ctx: Ctx) -> CallToolResult:
    """Asks before it is done; only as an MCP task."""
    _needs_tasks(ctx)
    asked = form(f"Delete {filename}?", {"confirm": {"type": "boolean"}}, "confirm")
    return JOBS.begun(Job(time.monotonic(), text(f"Deleted {filename}."), {"confirm": asked}))


async def multi_input(ctx: Ctx) -> CallToolResult:
    """Asks two things at once; only as an MCP task."""
    _needs_tasks(ctx)
    asked: dict[str, InputRequest] = {"first": NAME, "second": NAME}
    return JOBS.begun(Job(time.monotonic(), text("Both answered."), asked))


async def test_tool_with_task(ctx: Ctx) -> Asked:
    """Asks first, and then lasts; only as an MCP task."""
    _needs_tasks(ctx)
    asking = missing(ctx, {"user_name": NAME})
    return asking or JOBS.begun(Job(time.monotonic() + 0.2, text(f"Hello, {said(ctx, 'user_name').get('name')}!")))


def _needs_tasks(ctx: Ctx) -> None:
    if not wants_mcp_task(ctx):
        raise missing_capability({"extensions": {Tasks.identifier: {}}})


TOOLS = (greet, slow_compute, failing_job, protocol_error_job, confirm_delete, multi_input, test_tool_with_task)


def register(server: MCPServer[Any]) -> None:
    for tool in TOOLS:
        server.add_tool(tool)
    for extension in server._extensions:
        if isinstance(extension, Tasks):
            extension.sources["job"] = JOBS
