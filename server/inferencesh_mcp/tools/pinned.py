"""An app as a tool of its own: its name, its fields, its output; run by the same code as `app_run`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from mcp_types import CallToolResult
from mcp_types import Tool as Listed
from pydantic import Field

from inferencesh_mcp.api.models import App
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.api.words import clean
from inferencesh_mcp.caller import Ctx
from inferencesh_mcp.errors import SchemaUnusable
from inferencesh_mcp.flows.checking import fits
from inferencesh_mcp.flows.preparing import Wanted, function_of
from inferencesh_mcp.pins import Pin
from inferencesh_mcp.schemas import compiled_input, compiled_output
from inferencesh_mcp.tools import apps
from inferencesh_mcp.tools.fitting import as_json
from inferencesh_mcp.tools.offering import BridgeTool

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

MOST_ABOUT = 280  # characters of what the app says of itself: everyone pays for them on every request

# The names of `RunOutcome`, with as little about each as still tells a host what it holds.
OUTCOME: dict[str, Any] = {
    "task_id": {"type": "string"},
    "status": {"type": "string"},
    "output": {},
    "files": {"type": "array", "items": {"type": "object"}},
    "session_id": {"type": "string"},
    "error": {"type": "object"},
    "next": {"type": "string"},
}


class PinnedTool(BridgeTool):
    """A tool whose arguments are an app's own fields."""

    app: AppRef
    restored: Callable[[dict[str, Any]], dict[str, Any]] = Field(exclude=True)
    """Arguments under the app's own names: hosts would mangle some of them."""
    output: dict[str, Any]
    """The schema of what the app returns, as hosts are shown it."""

    @classmethod
    def of(cls, pin: Pin, app: App) -> PinnedTool:
        """The tool of a pin, from what the API told of its app.

        Raises:
            InvalidInput: the app has no such function.
            SchemaUnusable: no host could be told its schema.
        """
        function = function_of(app, pin.app)
        compiled, output = compiled_input(function.input_schema), _output(function.output_schema)
        title, hints = clean(app.title, 60) or None, apps.app_run.hints
        made = BridgeTool.from_function(_nothing, pin.name, title, _about(pin, app), annotations=hints)
        made.fn_metadata.output_schema = {"type": "object", "properties": {**OUTCOME, "output": output}}
        given: dict[str, Any] = {name: getattr(made, name) for name in type(made).model_fields}
        own = {"parameters": compiled.schema, "app": pin.app, "restored": compiled.restored, "output": output}
        return cls.model_validate(given | own)

    @property
    def listed(self) -> Listed:
        """The tool as a host is shown it."""
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
        """What a host is shown, in a few letters: another one is another contract (T-18)."""
        return hashlib.sha256(self.listed.model_dump_json().encode()).hexdigest()[:12]

    def wanted(self, arguments: dict[str, Any]) -> Wanted:
        """The run that a call with these arguments asks for."""
        return Wanted(app=self.app, input=self.restored(arguments))

    async def answered(self, arguments: dict[str, Any], context: Context[Any, Any]) -> CallToolResult:
        return self.promised(await apps.ran(context, self.wanted(arguments), tool=self.name))

    def promised(self, result: CallToolResult) -> CallToolResult:
        """An output that is not what the app says it returns, or was cut to fit, as the text of its JSON.

        Hosts hold an answer against the tool's schema and would show their own complaint instead of what was paid for.
        """
        told = cast("dict[str, Any]", result.structured_content or {})
        if "output" not in told or fits(self.output, told["output"]):
            return result
        return result.model_copy(update={"structured_content": {**told, "output": as_json(told["output"])}})


async def _nothing(ctx: Ctx) -> None:
    """What the SDK makes a tool from; the schemas are the app's."""


def _about(pin: Pin, app: App) -> str:
    function = app.version.functions.get(pin.app.function) if app.version else None
    own = f"{function.description} " if function and function.description else ""
    about = clean(own + (app.agent_description or app.description or app.title), MOST_ABOUT)
    return f"{about} (Runs {pin.app} on inference.sh; may cost credits.)".strip()


def _output(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an output, or of a text: what does not fit is given as one (see `promised`)."""
    try:
        loose = {name: part for name, part in compiled_output(schema).items() if name != "type"}
    except SchemaUnusable:
        return {}
    return loose if fits(loose, "") else {}
