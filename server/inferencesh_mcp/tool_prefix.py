"""INFERENCE_TOOL_PREFIX: other names for the tools, for hosts that show the tools of several servers in one list.

Inside the server every tool has its own name. This middleware changes names on the way in and out: of tools, and where our
own words mention a tool. What apps and agents say is left as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp_types import INVALID_PARAMS

from inferencesh_mcp.api.json import as_object, is_array, is_object, items
from inferencesh_mcp.sanitize import WHOLE_FRAME, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp.server.context import CallNext, HandlerResult

    from inferencesh_mcp.context import Request

_OUR_WORDS = ("next", "message")
"""Fields of structured content that may name a tool."""


class ToolPrefix:
    """Middleware that puts a prefix before the name of every tool."""

    def __init__(self, prefix: str, names: Iterable[str]) -> None:
        """`names` are those of our own tools, without the prefix."""
        self._prefix = prefix
        self._own = frozenset(names)
        # `account` is a word too: with brackets it is the tool.
        mentions = (name if "_" in name else rf"{name}(?=\()" for name in sorted(self._own))
        self._mentioned = re.compile(rf"\b(?:{'|'.join(mentions)})\b")

    async def __call__(self, ctx: Request, call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call":
            self._remove_from_call(as_object(ctx.params))
        try:
            result = await call_next(ctx)
        except MCPError as exc:
            raise MCPError(code=exc.error.code, message=self._text(exc.error.message), data=exc.error.data) from exc
        if is_object(result):
            self._add_to_result(ctx.method, result)
        return result

    def _remove_from_call(self, params: dict[str, Any]) -> None:
        name = str(params.get("name"))
        if not name.startswith(self._prefix):
            raise MCPError(code=INVALID_PARAMS, message=f"Unknown tool: {quoted(name, 80)}")
        params["name"] = name.removeprefix(self._prefix)  # in place: the SDK reads these params

    def _add_to_result(self, method: str, result: dict[str, Any]) -> None:
        match method:
            case "initialize" | "server/discover":
                result["instructions"] = self._text(str(result.get("instructions") or ""))
            case "tools/list":
                for tool in items(result.get("tools")):
                    self._add_to_tool(tool)
            case "tools/call":
                self._add_to_answer(result)
            case "tasks/get":
                self._add_to_answer(as_object(result.get("result")))
            case "prompts/get":
                for message in items(result.get("messages")):
                    self._add_to_blocks([message["content"]])
            case _:
                pass

    def _add_to_tool(self, tool: dict[str, Any]) -> None:
        if tool["name"] in self._own:  # the words of a pinned app are the app's
            self._add_to_descriptions(tool)
        tool["name"] = self._prefix + tool["name"]

    def _add_to_descriptions(self, value: Any) -> None:
        if is_array(value):
            for item in value:
                self._add_to_descriptions(item)
        elif is_object(value):
            for name, item in value.items():
                if name == "description" and isinstance(item, str):
                    value[name] = self._text(item)
                else:
                    self._add_to_descriptions(item)

    def _add_to_answer(self, answer: dict[str, Any]) -> None:
        self._add_to_blocks(items(answer.get("content")))
        structured = as_object(answer.get("structuredContent"))
        rows = (as_object(row) for row in items(structured.get("results")))
        for fields in (structured, as_object(structured.get("error")), *(as_object(row.get("error")) for row in rows)):
            for name in _OUR_WORDS:
                if isinstance(fields.get(name), str):
                    fields[name] = self._text(fields[name])

    def _add_to_blocks(self, blocks: list[Any]) -> None:
        for block in map(as_object, blocks):
            if block.get("type") == "text":
                block["text"] = self._outside_frames(block["text"])

    def _outside_frames(self, text: str) -> str:
        """Only our own words: what stands in a frame is data."""
        parts: list[str] = []
        done = 0
        for frame in WHOLE_FRAME.finditer(text):
            parts += [self._text(text[done : frame.start()]), frame[0]]
            done = frame.end()
        return "".join([*parts, self._text(text[done:])])

    def _text(self, text: str) -> str:
        return self._mentioned.sub(lambda match: self._prefix + match[0], text)
