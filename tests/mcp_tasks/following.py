"""A client that follows MCP tasks by hand: the SDK has none, so each of their methods is a request of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
from mcp import Client, MCPError
from mcp.client.extension import ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result
from pydantic import ConfigDict, Field

from inferencesh_mcp.mcp_tasks.extension import Tasks
from tests.conftest import Way, connected
from tests.tools.test_agents import PERSON

UNKNOWN = -32602
OVER = ("completed", "cancelled", "failed")


class Told(Result):
    """Any result, as it came."""

    model_config = ConfigDict(extra="allow")


class Created(Told):
    result_type: Literal["task"] = Field(alias="resultType")


class Declaring(ClientExtension):
    identifier = Tasks.identifier

    def claims(self) -> list[ResultClaim[Any]]:
        async def resolve(*_: Any) -> CallToolResult:
            raise AssertionError("the tests follow by themselves")

        return [ResultClaim(result_type="task", model=Created, resolve=resolve)]


class Params(RequestParams):
    model_config = ConfigDict(extra="allow")


class TaskRequest(Request[Params, str]):
    name_param = "taskId"  # over HTTP it goes into the header Mcp-Name, too


class Misnamed(TaskRequest):
    name_param = "named"


class Follower:
    """One client, and what it makes of MCP tasks."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool; returns its answer, or the MCP task as it is on the wire."""
        result = await self.client.session.call_tool(tool, arguments, allow_claimed=True, allow_input_required=True)
        return wire(result) if isinstance(result, Created) else result

    async def begin(self, tool: str, **arguments: Any) -> str:
        """Call a tool that lasts; returns the id of the MCP task."""
        created = await self.call(tool, **arguments)
        assert isinstance(created, dict), created
        return created["taskId"]

    async def ask(self, method: str, task_id: str, **more: Any) -> dict[str, Any]:
        kind = Misnamed if "named" in more else TaskRequest
        request = kind(method=method, params=Params.model_validate({"taskId": task_id, **more}))
        return wire(await self.client.session.send_request(request, Told))

    async def get(self, task_id: str) -> dict[str, Any]:
        return await self.ask("tasks/get", task_id)

    async def cancel(self, task_id: str) -> dict[str, Any]:
        return await self.ask("tasks/cancel", task_id)

    async def update(self, task_id: str, answers: dict[str, Any]) -> dict[str, Any]:
        return await self.ask("tasks/update", task_id, inputResponses=answers)

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Look until it stands so; without a word, until it is over."""
        with anyio.fail_after(20):
            while (now := await self.get(task_id))["status"] not in (statuses or OVER):
                await anyio.sleep(0.02)
        return now

    async def refused(self, task_id: str) -> set[tuple[int, str]]:
        """How each method refuses an id; none of them takes it."""
        found = set()
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            try:
                await self.ask(method, task_id, inputResponses={})
            except MCPError as exc:
                found.add((exc.error.code, exc.error.message))
            else:
                raise AssertionError(f"{method} took it")
        return found


@asynccontextmanager
async def following(way: Way, environ: dict[str, str], *, key: str = PERSON, **client: Any) -> AsyncIterator[Follower]:
    """A client that declares MCP tasks, in front of a server of its own; by somebody whose key may decide."""
    settings = environ | {"INFERENCE_API_KEY": key}
    async with connected(way, settings, extensions=[Declaring()], **client) as connection:
        yield Follower(connection)


def wire(result: Result) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


def answer(action: Literal["accept", "decline", "cancel"], **content: Any) -> dict[str, Any]:
    return ElicitResult(action=action, content=content or None).model_dump(mode="json", exclude_none=True)
