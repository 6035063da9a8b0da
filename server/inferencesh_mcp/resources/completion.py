"""Completion of arguments: names of apps and agents from the platform's search, ids from recent lists.

A completion that takes long or fails is empty, never an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_types import Completion, ResourceTemplateReference

from inferencesh_mcp.flows.concurrency import optional_call
from inferencesh_mcp.resources.templates import APP, CHAT, FILE, LOGS, SESSION, TASK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from mcp_types import CompleteRequestParams

    from inferencesh_mcp.flows import Caller

MAX_VALUES = 100  # the maximum of the protocol
MAX_ARGUMENT_LENGTH = 200  # characters of an argument


async def complete_argument(caller: Caller, params: CompleteRequestParams) -> Completion:
    """Values that complete the argument, the best matches first."""
    prefix = params.argument.value[:MAX_ARGUMENT_LENGTH]
    arguments = (params.context.arguments if params.context else None) or {}
    name = params.argument.name
    ref = params.ref
    search = (
        _template_search(ref.uri, name, arguments)
        if isinstance(ref, ResourceTemplateReference)
        else _PROMPT_SEARCHES.get(name)
    )
    values: list[str] = []
    if search is not None:
        results = await optional_call(search(caller, prefix), f"values for {name}") or []
        values = [value for value in dict.fromkeys(results) if value.isprintable()]  # no hidden characters (T-17)
    return Completion(values=values[:MAX_VALUES], total=len(values), has_more=len(values) > MAX_VALUES)


def _template_search(
    uri: str, name: str, arguments: dict[str, str]
) -> Callable[[Caller, str], Awaitable[list[str]]] | None:
    match uri, name:
        case APP.uri, "namespace":
            return _namespaces
        case APP.uri, "name":
            return lambda caller, prefix: _names(caller, arguments.get("namespace", "")[:MAX_ARGUMENT_LENGTH], prefix)
        case _, "id":
            return _ID_SEARCHES.get(uri)
        case _:
            return None


async def _refs(caller: Caller, prefix: str) -> list[str]:
    """Apps from the platform's search; those that start with the prefix come first."""
    words = prefix.replace("/", " ")
    page = await caller.api.list_apps(query=words, limit=MAX_VALUES)
    return _matching((app.ref for app in page.items), prefix)


async def _namespaces(caller: Caller, prefix: str) -> list[str]:
    page = await caller.api.list_apps(query=prefix, limit=MAX_VALUES)
    return _starting_with((app.namespace for app in page.items), prefix)


async def _names(caller: Caller, namespace: str, prefix: str) -> list[str]:
    page = await caller.api.list_apps(query=f"{namespace} {prefix}".strip(), limit=MAX_VALUES)
    return _matching((app.name for app in page.items if namespace in {"", app.namespace}), prefix)


async def _comma_separated_refs(caller: Caller, prefix: str) -> list[str]:
    """For a comma-separated list: complete its last element."""
    earlier, comma, last = prefix.rpartition(",")
    return [f"{earlier}{comma} {ref}" if comma else ref for ref in await _refs(caller, last.strip())]


async def _agents(caller: Caller, prefix: str) -> list[str]:
    page = await caller.api.chats.list_agents(query=prefix.replace("/", " "), limit=MAX_VALUES)
    return _matching((agent.ref for agent in page.items), prefix)


async def _tasks(caller: Caller, prefix: str) -> list[str]:
    return _starting_with((task.id for task in (await caller.api.list_tasks(limit=MAX_VALUES)).items), prefix)


async def _files(caller: Caller, prefix: str) -> list[str]:
    return _starting_with((file.id for file in (await caller.api.list_files(limit=MAX_VALUES)).items), prefix)


async def _sessions(caller: Caller, prefix: str) -> list[str]:
    return _starting_with((session.id for session in await caller.api.sessions()), prefix)


async def _chats(caller: Caller, prefix: str) -> list[str]:
    return _starting_with((chat.id for chat in (await caller.api.chats.list_chats(limit=MAX_VALUES)).items), prefix)


_ID_SEARCHES = {TASK.uri: _tasks, LOGS.uri: _tasks, FILE.uri: _files, SESSION.uri: _sessions, CHAT.uri: _chats}
_PROMPT_SEARCHES = {"app": _refs, "apps": _comma_separated_refs, "agent": _agents}


def _starting_with(values: Iterable[str], prefix: str) -> list[str]:
    return [value for value in values if value and value.lower().startswith(prefix.lower())]


def _matching(values: Iterable[str], prefix: str) -> list[str]:
    """Values that contain the prefix; those that start with it come first."""
    matches = [value for value in values if prefix.lower() in value.lower()]
    return sorted(matches, key=lambda value: not value.lower().startswith(prefix.lower()))
