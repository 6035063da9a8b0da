"""The configuration of an ad-hoc agent, as types: the fields that the API accepts, checked before they are sent.

Sources: the tool builders of npm `@inferencesh/sdk` 0.6.10 and 0.6.54 and of PyPI `inferencesh` 0.36.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

MAX_PROBLEMS = 5
"""Problems of one configuration that an error lists."""
CLIENT_TOOL_EXAMPLE = (
    '{"name": "get_weather", "type": "client", "description": "…", "client": {"input_schema": '
    '{"type": "object", "properties": {"city": {"type": "string"}}}}}'
)

Schema = dict[str, Any]
ToolType = Literal["client", "app", "agent", "http", "call", "hook", "mcp", "internal"]
InternalToolName = Literal[
    "plan",
    "memory",
    "widget",
    "finish",
    "skills",
    "host_context",
    "meta",
    "artifact",
    "spawn",
    "agent",
    "remote",
    "knowledge",
    "wait",
]
InternalTools = dict[InternalToolName, bool]
"""The platform's own tools, each on or off."""


class _Config(BaseModel):
    """Refuses unknown fields: what the API ignores would only seem to work."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def wire(self) -> dict[str, Any]:
        """The value as it is sent: only the fields that were given, with their nulls."""
        return self.model_dump(exclude_unset=True)


class ClientConfig(_Config):
    input_schema: Schema | None = None
    output_schema: Schema | None = None


class AgentConfig(_Config):
    ref: str
    id: str | None = None
    version_id: str | None = None


class AppConfig(AgentConfig):
    function: str | None = None
    session_enabled: bool | None = None
    setup: Schema | None = None
    """Part of every call; the agent does not see it."""
    input: Schema | None = None
    """Defaults that the agent may override."""
    fixed_input: Schema | None = None
    """The agent neither sees nor overrides it."""


class NoAuth(_Config):
    type: Literal["none"]


class IntegrationAuth(_Config):
    """The token of a connection, by its id."""

    type: Literal["integration"]
    provider: str
    integration_id: str | None = None


class CredentialAuth(_Config):
    """The token of the caller's own connection to a provider: the newest form."""

    type: Literal["credential"]
    provider: str


class ApiKeyAuth(_Config):
    """A secret in a header."""

    type: Literal["api_key"]
    secret: str = Field(repr=False)
    header: str = "X-API-Key"

    def model_post_init(self, context: Any, /) -> None:
        """Send `header` even if it was not given, as the official builders do."""
        del context
        self.model_fields_set.add("header")


class BearerAuth(_Config):
    type: Literal["bearer"]
    secret: str = Field(repr=False)


Auth = Annotated[NoAuth | IntegrationAuth | CredentialAuth | ApiKeyAuth | BearerAuth, Field(discriminator="type")]


class HttpConfig(_Config):
    url: str
    method: str | None = None
    """None is POST."""
    auth: Auth | None = None
    headers: dict[str, str] | None = Field(default=None, repr=False)
    input_schema: Schema | None = None
    output_schema: Schema | None = None


class HookConfig(_Config):
    url: str
    secret: str | None = Field(default=None, repr=False)
    input_schema: Schema | None = None
    output_schema: Schema | None = None


class McpConfig(_Config):
    """A tool of an MCP server, which is named by a connection's id or, in the newest form, by the server's own name."""

    integration_id: str | None = None
    server: str | None = None
    tool_name: str

    @model_validator(mode="after")
    def _names_one_server(self) -> McpConfig:
        if (self.integration_id is None) == (self.server is None):
            raise ValueError("give either 'integration_id' or 'server'")
        return self


class InternalConfig(_Config):
    category: str
    operation: str


class Tool(_Config):
    """A tool that the agent can use; its `type` is the name of the field with its settings."""

    name: str = Field(min_length=1, max_length=128)
    display_name: str | None = None
    description: str = ""
    type: ToolType
    require_approval: bool | None = None
    approval_timeout: int | None = None
    client: ClientConfig | None = None
    """Run by the client: here, by the host's model."""
    app: AppConfig | None = None
    agent: AgentConfig | None = None
    http: HttpConfig | None = None
    """Sends an HTTP request, with credentials that the platform keeps."""
    call: HttpConfig | None = None
    """The same as `http`, under its other name."""
    hook: HookConfig | None = None
    mcp: McpConfig | None = None
    internal: InternalConfig | None = None
    """One operation of the platform's own tools; `InternalTools` turns them on by kind."""

    @model_validator(mode="after")
    def _has_the_settings_of_its_type(self) -> Tool:
        types = [name for name in get_args(ToolType) if name in self.model_fields_set]
        if types != [self.type] or getattr(self, self.type) is None:
            raise ValueError(f"give its settings in '{self.type}', and none of another type")
        return self


class CoreApp(_Config):
    """The model of an agent: an app."""

    ref: str | None = None
    id: str | None = None
    version_id: str | None = None
    setup: Schema | None = None
    input: Schema | None = None

    @model_validator(mode="after")
    def _names_an_app(self) -> CoreApp:
        if not (self.ref or self.id):
            raise ValueError('name the app, for example {"ref": "infsh/claude-sonnet-4@latest"}')
        return self


class Skill(_Config):
    """Text that an agent can look up."""

    name: str
    description: str | None = None
    skill_id: str | None = None
    version_id: str | None = None
    url: str | None = None
    content: str | None = None
    preload: bool | None = None


class ContextField(_Config):
    """A value that a chat with the agent starts with."""

    name: str
    description: str | None = None
    required: bool | None = None
    default: str | None = None
    in_prompt: bool | None = None


class AgentConfigInput(_Config):
    """An ad-hoc agent, made for a chat.

    Lifecycle hooks and permissions are left out on purpose: hooks could leak data, and permissions could skip approvals.
    """

    name: str | None = None
    description: str | None = None
    system_prompt: str | None = None
    core_app: CoreApp | None = None
    tools: tuple[Tool, ...] | None = None
    skills: tuple[Skill, ...] | None = None
    context: tuple[ContextField, ...] | None = None
    internal_tools: InternalTools | None = None
    output_schema: Schema | None = None
    """The schema of the agent's answer; it needs the internal tool `finish`."""

    @classmethod
    def parse(cls, value: Any) -> AgentConfigInput:
        """Parse a configuration as a model or a person writes it; InvalidInput names each wrong field, and quotes no value."""
        try:
            return cls.model_validate(value)
        except ValidationError as exc:
            problems = exc.errors(include_url=False, include_input=False)
            listed = "; ".join(_problem(problem) for problem in problems[:MAX_PROBLEMS])
            more = f" (and {len(problems) - MAX_PROBLEMS} more)" if len(problems) > MAX_PROBLEMS else ""
            raise InvalidInput(
                message=f"the agent's configuration is wrong: {listed}{more}",
                next_step=f"Correct it, and call again. {_example(problems)}".rstrip(),
                outcome="not_started",
                retry_safe=True,
            ) from None  # pydantic's own text would quote the values, secrets among them

    @model_validator(mode="after")
    def _has_no_name_twice(self) -> AgentConfigInput:
        names = [tool.name for tool in self.tools or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two tools are named {clean(twice[0], 80)!r}")
        return self


def _example(problems: Sequence[ErrorDetails]) -> str:
    """An example of a tool, if one is wrong."""
    is_tool_wrong = any(problem["loc"][:1] == ("tools",) for problem in problems)
    return f"For example, a client tool: {CLIENT_TOOL_EXAMPLE}" if is_tool_wrong else ""


def _problem(error: ErrorDetails) -> str:
    """The place of a problem and the rule, without the value."""
    where, context = _place(error["loc"]), error.get("ctx", {})
    text = {
        "missing": "is missing",
        "extra_forbidden": "is an unknown field",
        "union_tag_invalid": f"must have a type of {context.get('expected_tags', '')}",
        "union_tag_not_found": "has no type",
        "value_error": str(context.get("error", "")),
    }.get(error["type"], error["msg"].removeprefix("Input ").lower())
    return clean(f"{where}: {text}" if where else text, 200)


def _place(location: tuple[int | str, ...]) -> str:
    """The path to a field, without the tag of the union on the way."""
    path = ""
    for index, part in enumerate(location):
        if index and location[index - 1] == "auth":
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
