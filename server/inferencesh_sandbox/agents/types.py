"""What a sandbox agent is: its card, its configuration, and the script that it follows in every turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from inferencesh_sandbox.lookup import Offered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class _Part(BaseModel):
    """A part of an agent's configuration, in the API's form. Unknown fields are returned unchanged."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Tool(_Part):
    """An AgentTool. The member named like its type configures it."""

    name: str = Field(min_length=1)
    type: str
    display_name: str | None = None
    description: str | None = None
    require_approval: bool | None = None
    app: dict[str, Any] | None = None
    agent: dict[str, Any] | None = None
    hook: dict[str, Any] | None = None
    http: dict[str, Any] | None = None
    call: dict[str, Any] | None = None
    mcp: dict[str, Any] | None = None
    client: dict[str, Any] | None = None
    internal: dict[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The member named like the tool's type; empty if there is none."""
        return {"app": self.app, "agent": self.agent, "hook": self.hook, "http": self.http, "call": self.call,
                "mcp": self.mcp, "client": self.client, "internal": self.internal}.get(self.type) or {}  # fmt: skip


class CoreApp(_Part):
    ref: str | None = None
    id: str | None = None


class ContextField(_Part):
    name: str
    description: str | None = None
    required: bool | None = None
    default: str | None = None


class Config(_Part):
    """An AgentConfigInput, and what an agent's version says of itself."""

    name: str | None = None
    description: str | None = None
    system_prompt: str | None = None
    example_prompts: list[str] | None = None
    core_app: CoreApp | None = None
    tools: list[Tool] | None = None
    context: list[ContextField] | None = None
    internal_tools: dict[str, bool | None] | None = None
    output_schema: dict[str, Any] | None = None

    def tool(self, name: str) -> Tool:
        return next(tool for tool in self.tools or () if tool.name == name)

    def has_internal(self, name: str) -> bool:
        return bool((self.internal_tools or {}).get(name))


class AgentFailed(Exception):
    """The turn ends as failed, with this text as the run's error."""


@dataclass(frozen=True, kw_only=True)
class Agent(Offered):
    """One agent: a template of the sandbox, or one that a request described."""

    kind: ClassVar[str] = "agent "

    config: Config
    script: Callable[[Any], Awaitable[None]]
    """Runs a turn. Its argument is a `turns.Turn`, which imports this module."""
