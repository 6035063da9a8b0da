"""What is not found as one kind may be of another: an agent taken for an app, a chat's id for a task's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.flows.concurrency import optional_call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferencesh_mcp.errors import NotFound
    from inferencesh_mcp.flows import Caller

Reads = Callable[["Caller", str], Awaitable[bool]]
Kind = Literal["app", "agent", "task", "chat", "file", "session"]

MAX_NAME_LENGTH = 200  # characters; longer ones are not looked up
_KINDS: dict[str, Kind] = {
    "app": "app",
    "agent": "agent",
    "task_id": "task",
    "chat_id": "chat",
    "file": "file",
    "session_id": "session",
}
"""The arguments of the tools that name something, and the kind of it."""


async def with_other_kind(caller: Caller, exc: NotFound, arguments: Mapping[str, Any]) -> NotFound:
    """The error of a tool call; if an argument names something of another kind, its next step says so."""
    for argument, kind in _KINDS.items():
        name = arguments.get(argument)
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH and not _is_known(caller, kind, name):
            for other, (reads, next_step) in (_BY_NAME if kind in _BY_NAME else _BY_ID).items():
                if other != kind and await optional_call(reads(caller, name), f"{other} of this name"):
                    return exc.replace(next_step=next_step.format(name=name), suggestions=())
    return exc


def _is_known(caller: Caller, kind: Kind, name: str) -> bool:
    """Whether it is the app that was read before: then something else was not found, for example the session of a run."""
    return kind == "app" and caller.app_cache.knows(caller.principal, AppRef.parse(name))


async def _is_agent(caller: Caller, name: str) -> bool:
    page = await caller.api.chats.list_agents(query=name.partition("@")[0].rpartition("/")[2], limit=50)
    return any(agent.ref == name.partition("@")[0] for agent in page.items)


async def _is_app(caller: Caller, name: str) -> bool:
    return bool((await caller.api.app(AppRef.parse(name))).id)


async def _is_task(caller: Caller, name: str) -> bool:
    return bool((await caller.api.task(name)).id)


async def _is_chat(caller: Caller, name: str) -> bool:
    return bool((await caller.api.chats.chat(name)).id)


async def _is_file(caller: Caller, name: str) -> bool:
    return bool((await caller.api.file(name)).id)


async def _is_session(caller: Caller, name: str) -> bool:
    return bool((await caller.api.session(name)).id)


_BY_NAME: dict[Kind, tuple[Reads, str]] = {
    "app": (_is_app, 'It is an app: run it with app_run(app="{name}", input=…).'),
    "agent": (_is_agent, 'It is an agent: talk to it with agent_chat(agent="{name}", message=…).'),
}
_BY_ID: dict[Kind, tuple[Reads, str]] = {
    "task": (_is_task, 'It is a task: read it with task_get(task_id="{name}").'),
    "chat": (_is_chat, 'It is a chat: read it with chat_get(chat_id="{name}").'),
    "file": (_is_file, "It is a file: file_list shows its uri."),
    "session": (_is_session, 'It is a session: read it with session_get(session_id="{name}").'),
}
