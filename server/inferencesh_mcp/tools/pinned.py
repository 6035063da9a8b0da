"""A pinned app as a tool: the app's own name, fields and output. It runs with the code of `app_run`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult
from mcp_types import Tool as Listed
from pydantic import Field

from inferencesh_mcp.api.models import App
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.context import Ctx
from inferencesh_mcp.flows.run_request import RunSpec, runnable_function
from inferencesh_mcp.pins import Pin
from inferencesh_mcp.sanitize import clean
from inferencesh_mcp.schema.tool_schema import compiled_input, compiled_output, without_nulls
from inferencesh_mcp.tools import apps
from inferencesh_mcp.tools.arguments import without_injected
from inferencesh_mcp.tools.define import InferenceTool
from inferencesh_mcp.tools.results import RESULT_SCHEMA

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

MAX_DESCRIPTION = 280  # characters of the app's description: they cost tokens in every request


class PinnedTool(InferenceTool):
    """A tool whose arguments are an app's own fields."""

    starts: bool = Field(default=True, exclude=True)
    has_id_arguments: bool = Field(default=False, exclude=True)
    app: AppRef

    @classmethod
    def of(cls, pin: Pin, app: App) -> PinnedTool:
        """Build the tool of a pin from its app.

        Raises:
            InvalidInput: the app has no such function, or one that no tool can run.
        """
        function = runnable_function(app, pin.app)
        title, hints = clean(app.title, 60) or None, apps.app_run.hints
        base = Tool.from_function(_placeholder, pin.name, title, _description(pin, app), annotations=hints)
        base.fn_metadata.output_schema = _result_schema(function.output_schema)
        base_fields: dict[str, Any] = {name: getattr(base, name) for name in Tool.model_fields}
        own_fields = {"parameters": compiled_input(function.input_schema), "app": pin.app}
        return cls.model_validate(base_fields | own_fields)

    @property
    def listed(self) -> Listed:
        """The tool as `tools/list` shows it."""
        return Listed(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=self.parameters,
            output_schema=self.output_schema,
            annotations=self.annotations,
        )

    @property
    def digest(self) -> str:
        """A short hash of the listed tool. It changes if the contract changes (T-18)."""
        return hashlib.sha256(self.listed.model_dump_json().encode()).hexdigest()[:12]

    async def call(self, arguments: dict[str, Any], context: Context[Any, Any]) -> CallToolResult:
        if declared := self.parameters["properties"]:  # an app without fields takes any
            arguments = without_injected(arguments, declared)
        spec = RunSpec(app=self.app, input=without_nulls(arguments, self.parameters))
        return await apps.run_and_render(context, spec)


async def _placeholder(ctx: Ctx) -> None:
    """A function for the SDK to build a tool from; its schemas are replaced by the app's."""


def _description(pin: Pin, app: App) -> str:
    function = app.version.functions.get(pin.app.function) if app.version else None
    function_text = f"{function.description} " if function and function.description else ""
    about = clean(function_text + (app.agent_description or app.description or app.title), MAX_DESCRIPTION)
    return f"{about} (Runs {pin.app} on inference.sh; may cost credits.)".strip()


def _result_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a result. Its output may also be anything else, because it may be cut or differ from the app's schema.

    Hosts validate results, and would show a validation error instead of the output that was paid for.
    """
    output = {"anyOf": [compiled_output(schema), {}]}
    return {"type": "object", "properties": RESULT_SCHEMA["properties"] | {"output": output}}
