"""The templates of our resources, each with the tool that reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mcp.shared.uri_template import UriTemplate
from mcp_types import CallToolResult, ResourceTemplate

from inferencesh_mcp.api.enums import ENDED
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.context import Ctx, caller_of
from inferencesh_mcp.tools import agents, apps, sessions, tasks
from inferencesh_mcp.tools.files import file_result

if TYPE_CHECKING:
    from inferencesh_mcp.flows.subscription_watches import Kind
    from inferencesh_mcp.settings import Settings, Toolset

SCHEME = "inference://"
STABLE_TTL_MS = 300_000  # ms that a host may cache what does not change by itself: at most five minutes (T-3)

Read = Callable[[Ctx, dict[str, str]], Awaitable[CallToolResult]]


@dataclass(frozen=True, kw_only=True)
class Template:
    """A kind of resource."""

    uri: str
    toolset: Toolset
    name: str
    title: str
    description: str
    read: Read
    """Calls the tool of this kind with the values of the template."""
    is_final: Callable[[dict[str, Any]], bool] = lambda _: False
    """Whether this structured content can no longer change."""
    watched: Kind | None = None
    """The kind of upstream object to watch for changes; None if it cannot be watched."""

    @cached_property
    def _parsed(self) -> UriTemplate:
        return UriTemplate.parse(self.uri)

    def match(self, uri: str) -> dict[str, str] | None:
        """The values in a URI of this kind; None for any other URI."""
        values = self._parsed.match(uri, max_uri_length=1_000)
        return None if values is None else {name: str(value) for name, value in values.items()}

    def address(self, **values: str) -> str:
        """The canonical URI for these values."""
        return self._parsed.expand(values)

    def listed(self) -> ResourceTemplate:
        return ResourceTemplate(
            uri_template=self.uri,
            name=self.name,
            title=self.title,
            description=self.description,
            mime_type="text/plain",
        )


async def _read_app(ctx: Ctx, values: dict[str, str]) -> CallToolResult:
    path = AppRef(namespace=values["namespace"], name=values["name"]).path  # checks that both are plain names (I-19)
    return await apps.app_get.function(path, ctx)


async def _read_task(ctx: Ctx, values: dict[str, str]) -> CallToolResult:
    caller = caller_of(ctx)
    return await tasks.task_result(caller, await caller.api.task(values["id"]))


async def _read_file(ctx: Ctx, values: dict[str, str]) -> CallToolResult:
    return file_result(await caller_of(ctx).api.file(values["id"]))


def _has_ended(structured_content: dict[str, Any]) -> bool:
    return structured_content.get("status") in ENDED


APP = Template(
    uri=f"{SCHEME}apps/{{namespace}}/{{name}}",
    toolset="apps",
    name="app",
    title="App",
    description="An app's description and input fields, as app_get returns them.",
    read=_read_app,
    is_final=lambda _: True,
)
TASK = Template(
    uri=f"{SCHEME}tasks/{{id}}",
    toolset="tasks",
    name="task",
    title="Task",
    description="A run's status and output, as task_get returns them. Subscribe to get every change.",
    read=_read_task,
    is_final=_has_ended,
    watched="task",
)
LOGS = Template(
    uri=f"{SCHEME}tasks/{{id}}/logs",
    toolset="tasks",
    name="task_logs",
    title="Logs of a task",
    description="The last 100 lines that an app wrote while it ran. Subscribe to get new ones.",
    read=lambda ctx, values: tasks.task_logs.function(values["id"], ctx),
    is_final=_has_ended,
    watched="task",
)
FILE = Template(
    uri=f"{SCHEME}files/{{id}}",
    toolset="files",
    name="file",
    title="File",
    description="A stored file: its address, name, type and size.",
    read=_read_file,
)
SESSION = Template(
    uri=f"{SCHEME}sessions/{{id}}",
    toolset="sessions",
    name="session",
    title="Session",
    description="A session: whether it is active, and when it expires.",
    read=lambda ctx, values: sessions.session_get.function(values["id"], ctx),
)
CHAT = Template(
    uri=f"{SCHEME}chats/{{id}}",
    toolset="agents",
    name="chat",
    title="Chat with an agent",
    description="A chat's state, as chat_get returns it. Subscribe to get every change.",
    read=lambda ctx, values: agents.chat_get.function(values["id"], ctx),
    watched="chat",
)
TEMPLATES = (APP, TASK, LOGS, FILE, SESSION, CHAT)


def enabled_templates(settings: Settings) -> list[Template]:
    """The templates of the enabled toolsets. Resources only read, so `read_only` removes none."""
    return [template for template in TEMPLATES if template.toolset in settings.toolsets]


def match_uri(settings: Settings, uri: str) -> tuple[Template, dict[str, str]] | None:
    """The template that matches a URI, and the values in it."""
    for template in enabled_templates(settings):
        values = template.match(uri)
        if values is not None:
            return template, values
    return None
