"""A client that follows MCP tasks by hand: the SDK has no client for them, so each method is a request of its own."""

from __future__ import annotations

from typing import Any, Literal

import anyio
from mcp import Client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result
from pydantic import ConfigDict, Field

TASKS = "io.modelcontextprotocol/tasks"


class Created(Result):
    """What `tools/call` answers instead of the result, and what `tasks/get` answers."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")


class Told(Result):
    model_config = ConfigDict(extra="allow")


class Declaring(ClientExtension):
    identifier = TASKS

    def claims(self) -> list[ResultClaim[Any]]:
        async def resolve(*_: Any) -> CallToolResult:
            raise AssertionError("the tests follow by themselves")

        return [ResultClaim(result_type="task", model=Created, resolve=resolve)]


class TaskParams(RequestParams):
    model_config = ConfigDict(extra="allow")


class TaskRequest(Request[TaskParams, str]):
    name_param = "taskId"


class Follower:
    """One client's view of its MCP tasks."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool; returns an ordinary result, or the wire form of the MCP task."""
        result = await self.client.session.call_tool(tool, arguments, allow_claimed=True, allow_input_required=True)
        return wire(result) if isinstance(result, Created) else result

    async def ask(self, method: str, task_id: str, **more: Any) -> dict[str, Any]:
        request = TaskRequest(method=method, params=TaskParams.model_validate({"taskId": task_id, **more}))
        return wire(await self.client.session.send_request(request, Told))

    async def get(self, task_id: str) -> dict[str, Any]:
        return await self.ask("tasks/get", task_id)

    async def cancel(self, task_id: str) -> dict[str, Any]:
        return await self.ask("tasks/cancel", task_id)

    async def update(self, task_id: str, **answers: dict[str, Any]) -> dict[str, Any]:
        return await self.ask("tasks/update", task_id, inputResponses=answers)

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Poll until it stands so; without a word, until it is over."""
        wanted = statuses or ("completed", "cancelled", "failed")
        with anyio.fail_after(20):
            while (now := await self.get(task_id))["status"] not in wanted:
                await anyio.sleep(0.02)
        return now


def wire(result: Result) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


def answer(action: str, **content: Any) -> dict[str, Any]:
    return wire_answer(ElicitResult(action=action, content=content or None))  # type: ignore[arg-type]


def wire_answer(result: ElicitResult) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)
