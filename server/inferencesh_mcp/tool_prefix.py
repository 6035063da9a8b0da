"""INFERENCE_TOOL_PREFIX: other names for the tools, for hosts that show the tools of several servers in one list.

Inside the server every tool has its own name. This middleware changes names on the way in and out: of tools, and where our
own words mention a tool. Those are descriptions, instructions, next steps, and calls such as `task_get(…)`. Everything else,
such as what apps and agents say, is left as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp_types import INVALID_PARAMS

from inferencesh_mcp.api.json import as_object, is_array, is_object, items

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp.server.context import CallNext, HandlerResult

    from inferencesh_mcp.context import Request

_FRAME = re.compile(r"\[data ([0-9a-f]{8})\]")
_STEP = re.compile(r"Next: |\d\. ")  # how a line of advice begins, in answers and in prompts
# A name in a path, an address, a longer name or quotation marks is something else.
_BEFORE, _AFTER = r"(?<![\w/\\.\-:@'\"=])", r"(?![\w/\\@'\"=-]|\.\w)"


class ToolPrefix:
    """Middleware that puts a prefix before the name of every tool."""

    def __init__(self, prefix: str, names: Iterable[str]) -> None:
        """`names` are those of our own tools, without the prefix."""
        self._prefix = prefix
        self._own = frozenset(names)
        calls = rf"(?:{'|'.join(sorted(self._own))})(?=\()"
        mentions = "|".join(name for name in sorted(self._own) if "_" in name)  # `account` is a word too
        self._calls = re.compile(_BEFORE + calls)
        self._mentions = re.compile(rf"{_BEFORE}(?:{calls}|(?:{mentions}){_AFTER})")

    async def __call__(self, ctx: Request, call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call":
            self._remove_from_call(as_object(ctx.params))
        try:
            result = await call_next(ctx)
        except MCPError as exc:
            self._add_to_fields(as_object(as_object(exc.error.data).get("error")))
            raise MCPError(code=exc.error.code, message=self._lines(exc.error.message), data=exc.error.data) from exc
        if is_object(result):
            self._add_to_result(ctx.method, result)
        return result

    def advice(self, text: str) -> str:
        """Our own words, which mention tools."""
        return self._mentions.sub(lambda match: self._prefix + match[0], text)

    def _remove_from_call(self, params: dict[str, Any]) -> None:
        name = str(params.get("name"))
        if not name.startswith(self._prefix):
            message = f"Unknown tool: the name of every tool begins with {self._prefix}."
            raise MCPError(code=INVALID_PARAMS, message=message)
        params["name"] = name.removeprefix(self._prefix)  # in place: the SDK reads these params

    def _add_to_result(self, method: str, result: dict[str, Any]) -> None:
        match method:
            case "tools/list":
                for tool in items(result.get("tools")):
                    if tool["name"] in self._own:  # the words of a pinned app are the app's
                        self._add_to_descriptions(tool)
                    tool["name"] = self._prefix + tool["name"]
            case "resources/templates/list":
                self._add_to_descriptions(result.get("resourceTemplates"))
            case "tools/call":
                self._add_to_answer(result)
            case "tasks/get":
                self._add_to_answer(as_object(result.get("result")))
            case "resources/read":
                self._add_to_texts(items(result.get("contents")))
            case "prompts/get":
                self._add_to_texts([as_object(message).get("content") for message in items(result.get("messages"))])
            case _:
                pass

    def _add_to_descriptions(self, value: Any) -> None:
        if is_array(value):
            for item in value:
                self._add_to_descriptions(item)
        elif is_object(value):
            for name, item in value.items():
                if name == "description" and isinstance(item, str):
                    value[name] = self.advice(item)
                else:
                    self._add_to_descriptions(item)

    def _add_to_answer(self, answer: dict[str, Any]) -> None:
        self._add_to_texts(items(answer.get("content")))
        structured = as_object(answer.get("structuredContent"))
        for fields in (structured, *map(as_object, items(structured.get("results")))):
            self._add_to_fields(fields)
            self._add_to_fields(as_object(fields.get("error")))

    def _add_to_fields(self, fields: dict[str, Any]) -> None:
        if isinstance(fields.get("next"), str):
            fields["next"] = self.advice(fields["next"])

    def _add_to_texts(self, blocks: list[Any]) -> None:
        for block in map(as_object, blocks):
            if isinstance(block.get("text"), str):
                block["text"] = self._lines(block["text"])

    def _lines(self, text: str) -> str:
        """The text with the names in our own lines. What stands in a frame is data."""
        lines: list[str] = []
        end = ""
        for line in text.split("\n"):
            changed = line
            if end:
                end = "" if line == end else end
            elif frame := _FRAME.fullmatch(line):
                end = f"[end of data {frame[1]}]"
            elif _STEP.match(line):
                changed = self.advice(line)
            else:
                changed = self._calls.sub(lambda match: self._prefix + match[0], line)
            lines.append(changed)
        return "\n".join(lines)
