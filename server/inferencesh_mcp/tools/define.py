"""Turn a function into an MCP tool, and its errors into results."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from mcp import MCPError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import Field, ValidationError

from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.context import caller_of
from inferencesh_mcp.errors import InferenceError, InvalidInput, NotFound
from inferencesh_mcp.flows.internal_errors import collect_started_ids, internal_error
from inferencesh_mcp.flows.other_kinds import with_other_kind
from inferencesh_mcp.sanitize import named
from inferencesh_mcp.schema.describe import nearest_name
from inferencesh_mcp.tools.arguments import normalized
from inferencesh_mcp.tools.error_results import error_result

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

logger = logging.getLogger(__name__)

Result = CallToolResult | InputRequiredResult
Function = TypeVar("Function", bound=Callable[..., Awaitable[Result]])


@dataclass(frozen=True, kw_only=True)
class ToolDefinition(Generic[Function]):
    """A function with what is needed to offer it as a tool: toolset, title, and hints for the host."""

    function: Function
    toolset: str
    title: str
    hints: ToolAnnotations
    starts: bool
    output_schema: dict[str, Any] | None

    @cached_property
    def tool(self) -> Tool:
        """The tool. It is built once, because that takes a millisecond and no server changes it."""
        # The SDK reads the signature four times. Evaluating the annotations once saves a sixth of the time.
        self.function.__annotations__ = get_annotations(self.function, eval_str=True)
        tool = cast(
            "InferenceTool", InferenceTool.from_function(self.function, title=self.title, annotations=self.hints)
        )
        tool.description = " ".join(tool.description.split())  # line breaks are for readers of the source
        tool.parameters = _compact(tool.parameters)
        tool.starts = self.starts
        tool.fn_metadata.output_schema = self.output_schema
        return tool


def tool(
    toolset: str,
    title: str,
    *,
    reads: bool = False,
    destroys: bool = False,
    repeatable: bool = False,
    starts: bool = False,
    output_schema: dict[str, Any] | None = None,
) -> Callable[[Function], ToolDefinition[Function]]:
    """Describe a function as a tool. `reads`: it spends, changes and writes nothing. `starts`: it may begin a run or a turn.
    Every tool calls the platform."""
    hints = ToolAnnotations(
        read_only_hint=reads, destructive_hint=destroys, idempotent_hint=reads or repeatable, open_world_hint=True
    )
    return lambda function: ToolDefinition(
        function=function, toolset=toolset, title=title, hints=hints, starts=starts, output_schema=output_schema
    )


class ResumeLater(Exception):
    """The person's agreement comes with a later call."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__()
        self.result = result


class InferenceTool(Tool):
    """A tool that returns its errors as results: a stable code, what failed, what was started, and what to do next."""

    starts: bool = Field(default=False, exclude=True)
    """Whether a run or an agent's turn may begin with a call."""
    has_id_arguments: bool = Field(default=True, exclude=True)
    """Whether arguments such as `app` and `task_id` are names and ids: a pinned app's fields may have these names too."""

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Result:  # noqa: ARG002
        with collect_started_ids() as started:
            try:
                return await self.call(arguments, context)
            except ResumeLater as exc:
                return exc.result
            except InferenceError as exc:
                logger.info("%s: %s", self.name, exc.code)
                if isinstance(exc, NotFound) and self.has_id_arguments:
                    exc = await with_other_kind(caller_of(context), exc, arguments)
                return error_result(exc)
            except MCPError:
                raise
            except Exception as exc:  # noqa: BLE001 - the SDK would put its text into the answer
                may_start = self.starts and arguments.get("dry_run") is not True
                return error_result(internal_error(exc, self.name, started, may_start=may_start))

    async def call(self, arguments: dict[str, Any], context: Context[Any, Any]) -> Result:
        """Call the tool's function.

        Raises:
            InferenceError: `run` makes the result of it.
        """
        arguments = normalized(arguments, self.parameters)
        self._reject_unknown_arguments(arguments)
        validated = self._validated(arguments)
        passed = {self.context_kwarg: context} if self.context_kwarg else {}
        result: Result = await self.fn_metadata.call_fn(self.fn, self.is_async, validated, passed)
        return result

    def _validated(self, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.fn_metadata.validate_arguments(arguments)
        except ValidationError as exc:
            raise InvalidInput(
                message=_argument_errors(exc),
                next_step="Correct this and call again.",
                outcome="not_started",
                retry_safe=True,
            ) from None

    def _reject_unknown_arguments(self, arguments: dict[str, Any]) -> None:
        """Refuse unknown arguments. The SDK drops them, and a dropped `session` would cost a second warm worker."""
        known = list(self.parameters.get("properties", {}))
        for name in arguments:
            if name not in known:
                suggestion = nearest_name(name, known)
                hint = f"Did you mean '{suggestion}'?" if suggestion else f"It takes {', '.join(known) or 'none'}."
                raise InvalidInput(
                    message=f"This tool has no argument {named(name)}.",
                    next_step=hint,
                    outcome="not_started",
                    retry_safe=True,
                )


def _argument_errors(exc: ValidationError) -> str:
    """Name each wrong argument and the rule that it breaks. Never quote its value, which may be long or private."""
    return " ".join(f"'{'.'.join(str(step) for step in error['loc'])}': {error['msg']}." for error in exc.errors()[:8])


def _compact(schema: Any) -> Any:
    """The schema without null as a value, titles that pydantic makes from names, and `additionalProperties: true`.

    In arguments, null means the same as a missing field. Each costs tokens in every request of every host. google-genai
    (to 3.6.1) fails on any boolean `additionalProperties`.
    """
    if is_array(schema):
        return [_compact(part) for part in schema]
    if not is_object(schema):
        return schema
    match schema:
        case {"anyOf": [some, {"type": "null"}], "default": None}:
            beside = {name: part for name, part in schema.items() if name not in {"anyOf", "default"}}
            return _compact(some) | _compact(beside)
        case _:
            return {name: _compact(part) for name, part in schema.items() if not _is_noise(name, part)}


def _is_noise(name: str, part: Any) -> bool:
    return (
        (name == "title" and isinstance(part, str))
        or (name == "additionalProperties" and part is True)
        or (name == "default" and part is None)
    )
