"""The tool builder: tools of an agent, made in Python as the official builders make them.

A tool comes out as the JavaScript builder's does, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from inferencesh_mcp.api.agent_config import (
    AgentConfig,
    AgentTool,
    AppConfig,
    AppTool,
    ClientConfig,
    ClientTool,
    HookConfig,
    HttpConfig,
    HttpTool,
    McpConfig,
    McpTool,
    WebhookTool,
)
from inferencesh_mcp.api.vocabulary import ToolParamType  # noqa: TC001 - a model reads its annotations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferencesh_mcp.api.agent_config import Auth, Schema


class Param(BaseModel):
    """One parameter of a tool; it is required unless `optional`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    type: ToolParamType
    description: str = ""
    enum: tuple[str, ...] = ()
    properties: dict[str, Param] | None = None
    items: Param | None = None
    default: Any = None
    optional: bool = False

    def json_schema(self) -> Schema:
        """The parameter as JSON Schema, keys in the JavaScript builder's order."""
        schema: Schema = {"type": self.type}
        schema |= {"description": self.description} if self.description else {}
        schema |= {"enum": list(self.enum)} if self.enum else {}
        if self.properties is not None:
            nested = input_schema(self.properties)
            schema["properties"] = nested["properties"]
            schema |= {"required": nested["required"]} if nested["required"] else {}
        schema |= {"items": self.items.json_schema()} if self.items else {}
        return schema | ({"default": self.default} if self.default is not None else {})


def input_schema(params: Mapping[str, Param]) -> Schema:
    """The schema of an input with these parameters."""
    properties = {name: param.json_schema() for name, param in params.items()}
    required = [name for name, param in params.items() if not param.optional]
    return {"type": "object", "properties": properties, "required": required}


def string(description: str = "", *, optional: bool = False, default: str | None = None) -> Param:
    """Text."""
    return Param(type="string", description=description, optional=optional, default=default)


def number(description: str = "", *, optional: bool = False, default: float | None = None) -> Param:
    """A number."""
    return Param(type="number", description=description, optional=optional, default=default)


def integer(description: str = "", *, optional: bool = False, default: int | None = None) -> Param:
    """A whole number."""
    return Param(type="integer", description=description, optional=optional, default=default)


def boolean(description: str = "", *, optional: bool = False, default: bool | None = None) -> Param:
    """Yes or no."""
    return Param(type="boolean", description=description, optional=optional, default=default)


def enum_of(*values: str, description: str = "", optional: bool = False, default: str | None = None) -> Param:
    """One of these texts."""
    return Param(type="string", enum=values, description=description, optional=optional, default=default)


def object_of(properties: Mapping[str, Param], description: str = "", *, optional: bool = False) -> Param:
    """An object with these properties."""
    return Param(type="object", properties=dict(properties), description=description, optional=optional)


def array_of(items: Param, description: str = "", *, optional: bool = False) -> Param:
    """An array of such items."""
    return Param(type="array", items=items, description=description, optional=optional)


def client_tool(
    name: str,
    description: str = "",
    params: Mapping[str, Param] | None = None,
    *,
    display_name: str = "",
    approval: bool = False,
) -> ClientTool:
    """A tool that whoever chats carries out."""
    config = ClientConfig(input_schema=input_schema(params or {}))
    return ClientTool(**_named(name, description, display_name, approval, "client"), client=config)


def app_tool(
    name: str,
    ref: str,
    description: str = "",
    *,
    display_name: str = "",
    approval: bool = False,
    function: str | None = None,
    session_enabled: bool | None = None,
    setup: Schema | None = None,
    input: Schema | None = None,  # noqa: A002 - the API's own word
) -> AppTool:
    """A tool that runs an app."""
    config = AppConfig(**_given(ref=ref, function=function, session_enabled=session_enabled, setup=setup, input=input))
    return AppTool(**_named(name, description, display_name, approval, "app"), app=config)


def agent_tool(
    name: str, ref: str, description: str = "", *, display_name: str = "", approval: bool = False
) -> AgentTool:
    """A tool that asks another agent."""
    return AgentTool(**_named(name, description, display_name, approval, "agent"), agent=AgentConfig(ref=ref))


def http_tool(
    name: str,
    url: str,
    description: str = "",
    params: Mapping[str, Param] | None = None,
    *,
    display_name: str = "",
    approval: bool = False,
    method: str = "POST",
    auth: Auth | None = None,
    headers: dict[str, str] | None = None,
) -> HttpTool:
    """A tool that sends an HTTP request; the official builders' `callTool` prints the same."""
    asked = None if method == "POST" else method
    config = HttpConfig(
        **_given(url=url, method=asked, auth=auth, headers=headers or None, input_schema=input_schema(params or {}))
    )
    return HttpTool(**_named(name, description, display_name, approval, "http"), http=config)


def webhook_tool(
    name: str,
    url: str,
    description: str = "",
    params: Mapping[str, Param] | None = None,
    *,
    display_name: str = "",
    approval: bool = False,
    secret: str | None = None,
) -> WebhookTool:
    """A tool that calls a webhook."""
    config = HookConfig(**_given(url=url, secret=secret, input_schema=input_schema(params or {})))
    return WebhookTool(**_named(name, description, display_name, approval, "hook"), hook=config)


def mcp_tool(
    name: str,
    tool_name: str,
    description: str = "",
    *,
    integration_id: str | None = None,
    server: str | None = None,
    display_name: str = "",
    approval: bool = False,
) -> McpTool:
    """A tool of a connected MCP server: by the connection's id, or in the newest form by the server's name."""
    config = McpConfig(**_given(integration_id=integration_id, server=server, tool_name=tool_name))
    return McpTool(**_named(name, description, display_name, approval, "mcp"), mcp=config)


def _named(name: str, description: str, display_name: str, approval: bool, kind: str) -> dict[str, Any]:
    told = {"name": name, "display_name": display_name or name, "description": description, "type": kind}
    return told | ({"require_approval": True} if approval else {})


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
