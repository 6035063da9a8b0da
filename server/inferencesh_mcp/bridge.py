"""The SDK's server, with tools that come and go: the pinned apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from inferencesh_mcp.caller import Shared, caller
from inferencesh_mcp.pinning import Pinned
from inferencesh_mcp.tools.showing import failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp_types import CallToolResult, InputRequiredResult
    from mcp_types import Tool as Listed

    from inferencesh_mcp.pins import Pin


class Bridge(MCPServer[Shared]):
    """The server as a host meets it."""

    def __init__(self, name: str, *, pins: Sequence[Pin], **given: Any) -> None:
        super().__init__(name, **given)
        self.pinned = Pinned(pins)
        if pins:
            self.middleware.append(self._see_to_the_pinned)

    async def list_tools(self) -> list[Listed]:
        return [*await super().list_tools(), *(tool.listed for tool in self.pinned.tools)]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Shared, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        if context is None or name not in self.pinned.names:
            return await super().call_tool(name, arguments, context)
        if tool := self.pinned.tool(name):
            return cast("CallToolResult | InputRequiredResult", await tool.run(arguments, context))
        return failure(self.pinned.why_not(name))

    async def _see_to_the_pinned(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Have the apps read by the time that a message needs them."""
        needed = ctx.method == "tools/list" or (ctx.method == "tools/call" and self._is_missing(ctx.params))
        who = caller(Context(request_context=ctx, mcp_server=self)) if needed or ctx.request is None else None
        if who and ctx.request is None:
            self.pinned.begin(who)
        if who and needed:
            await (self.pinned.wait() if ctx.request is None else self.pinned.read_for(who))
        return await call_next(ctx)

    def _is_missing(self, params: Any) -> bool:
        """Whether a call is for a pinned app that is not known yet: another replica may have listed it."""
        name = params.get("name") if params else None
        return name in self.pinned.names and not self.pinned.tool(name)
