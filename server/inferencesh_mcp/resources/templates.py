"""Each resource: its template, the tool that tells the same, and what of it can be watched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from mcp.shared.uri_template import UriTemplate
from mcp_types import CallToolResult, ResourceTemplate

from inferencesh_mcp.api.enums import ENDED
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.context import Ctx, caller
from inferencesh_mcp.tools import agents, apps, sessions, tasks
from inferencesh_mcp.tools.files import shown_file

if TYPE_CHECKING:
    from inferencesh_mcp.flows.watch import Kind
    from inferencesh_mcp.settings import Settings, Toolset

SCHEME = "inference://"
FRESH = 300_000  # ms that a host may keep what does not change by itself (threat T-3: at most five minutes)

Tell = Callable[..., Awaitable[CallToolResult]]


@dataclass(frozen=True, kw_only=True)
class Template:
    """A kind of resource."""

    uri: str
    toolset: Toolset
    name: str
    title: str
    about: str
    tell: Tell
    """What the tool of this kind answers, for the values of the template."""
    lasts: Callable[[dict[str, Any]], bool]
    """Whether what was told stays as it is."""
    watched: Kind | None = None
    """What to watch for its changes."""

    @cached_property
    def _parsed(self) -> UriTemplate:
        return UriTemplate.parse(self.uri)

    def match(self, uri: str) -> dict[str, str] | None:
        """The values in an address of this kind; None for any other."""
        return cast("dict[str, str] | None", self._parsed.match(uri, max_uri_length=1_000))

    def address(self, **values: str) -> str:
        """The address for these values, in its one spelling."""
        return self._parsed.expand(values)

    def listed(self) -> ResourceTemplate:
        return ResourceTemplate(
            uri_template=self.uri, name=self.name, title=self.title, description=self.about, mime_type="text/plain"
        )


async def _app(ctx: Ctx, namespace: str, name: str) -> CallToolResult:
    path = AppRef(namespace=namespace, name=name).path  # both are names, and nothing else is in them (I-19)
    return cast("CallToolResult", await apps.app_get.function(path, ctx))


async def _task(ctx: Ctx, id: str) -> CallToolResult:  # noqa: A002 - the template's own word, here and below
    who = caller(ctx)
    return await tasks.shown_task(who, await who.api.task(id))


async def _logs(ctx: Ctx, id: str) -> CallToolResult:  # noqa: A002
    return cast("CallToolResult", await tasks.task_logs.function(id, ctx))


async def _file(ctx: Ctx, id: str) -> CallToolResult:  # noqa: A002
    return shown_file(await caller(ctx).api.file(id))


async def _session(ctx: Ctx, id: str) -> CallToolResult:  # noqa: A002
    return cast("CallToolResult", await sessions.session_get.function(id, ctx))


async def _chat(ctx: Ctx, id: str) -> CallToolResult:  # noqa: A002
    return cast("CallToolResult", await agents.chat_get.function(id, ctx))


def _ended(told: dict[str, Any]) -> bool:
    return told.get("status") in ENDED


APP = Template(
    uri=f"{SCHEME}apps/{{namespace}}/{{name}}",
    toolset="apps",
    name="app",
    title="App",
    about="What an app does and takes, as app_get tells it.",
    tell=_app,
    lasts=lambda _: True,
)
TASK = Template(
    uri=f"{SCHEME}tasks/{{id}}",
    toolset="tasks",
    name="task",
    title="Task",
    about="A run's status and output, as task_get tells it. Subscribe to hear of every change.",
    tell=_task,
    lasts=_ended,
    watched="task",
)
LOGS = Template(
    uri=f"{SCHEME}tasks/{{id}}/logs",
    toolset="tasks",
    name="task_logs",
    title="Logs of a task",
    about="What an app wrote while it ran, the last 100 lines. Subscribe to hear of new ones.",
    tell=_logs,
    lasts=_ended,
    watched="task",
)
FILE = Template(
    uri=f"{SCHEME}files/{{id}}",
    toolset="files",
    name="file",
    title="File",
    about="A stored file: its address, name, kind and size.",
    tell=_file,
    lasts=lambda _: False,  # it may be deleted
)
SESSION = Template(
    uri=f"{SCHEME}sessions/{{id}}",
    toolset="sessions",
    name="session",
    title="Session",
    about="A warm worker: whether it is active, and when it expires.",
    tell=_session,
    lasts=lambda _: False,
)
CHAT = Template(
    uri=f"{SCHEME}chats/{{id}}",
    toolset="agents",
    name="chat",
    title="Chat with an agent",
    about="Where a chat stands, as chat_get tells it. Subscribe to hear of every change.",
    tell=_chat,
    lasts=lambda _: False,
    watched="chat",
)
TEMPLATES = (APP, TASK, LOGS, FILE, SESSION, CHAT)


def offered(settings: Settings) -> list[Template]:
    """The kinds of resources that belong to the tools on offer. They only read: `read_only` takes none away."""
    return [template for template in TEMPLATES if template.toolset in settings.toolsets]


def found(settings: Settings, uri: str) -> tuple[Template, dict[str, str]] | None:
    """Which kind of resource an address is of, and the values in it."""
    for template in offered(settings):
        values = template.match(uri)
        if values is not None:
            return template, values
    return None
