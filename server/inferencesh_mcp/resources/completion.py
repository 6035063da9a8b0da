"""What a person may be about to write: names of apps and agents from the platform's search, ids from recent lists.

Quick or nothing: a completion is never worth waiting for, and never an error.
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

MOST = 100  # what the protocol allows
LONGEST = 200  # characters of what was written so far


async def completed(caller: Caller, params: CompleteRequestParams) -> Completion:
    """The values that go on from what was written, the likeliest first."""
    written = params.argument.value[:LONGEST]
    known = (params.context.arguments if params.context else None) or {}
    name = params.argument.name
    ref = params.ref
    ask = _of_template(ref.uri, name, known) if isinstance(ref, ResourceTemplateReference) else _OF_PROMPTS.get(name)
    values: list[str] = []
    if ask is not None:
        found = await optional_call(ask(caller, written), f"values for {name}") or []
        values = [value for value in dict.fromkeys(found) if value.isprintable()]  # nothing that hides (T-17)
    return Completion(values=values[:MOST], total=len(values), has_more=len(values) > MOST)


def _of_template(uri: str, name: str, known: dict[str, str]) -> Callable[[Caller, str], Awaitable[list[str]]] | None:
    match uri, name:
        case APP.uri, "namespace":
            return _namespaces
        case APP.uri, "name":
            return lambda caller, written: _names(caller, known.get("namespace", "")[:LONGEST], written)
        case _, "id":
            return _IDS.get(uri)
        case _:
            return None


async def _refs(caller: Caller, written: str) -> list[str]:
    """Apps that the platform's search finds; those that begin as written come first."""
    words = written.replace("/", " ")
    page = await caller.api.list_apps(query=words, limit=MOST)
    return _nearest((app.ref for app in page.items), written)


async def _namespaces(caller: Caller, written: str) -> list[str]:
    page = await caller.api.list_apps(query=written, limit=MOST)
    return _beginning((app.namespace for app in page.items), written)


async def _names(caller: Caller, namespace: str, written: str) -> list[str]:
    page = await caller.api.list_apps(query=f"{namespace} {written}".strip(), limit=MOST)
    return _nearest((app.name for app in page.items if namespace in {"", app.namespace}), written)


async def _several_refs(caller: Caller, written: str) -> list[str]:
    """For a list with commas: the last of them is the one that is being written."""
    before, comma, last = written.rpartition(",")
    return [f"{before}{comma} {ref}" if comma else ref for ref in await _refs(caller, last.strip())]


async def _agents(caller: Caller, written: str) -> list[str]:
    page = await caller.api.agents.list_agents(query=written.replace("/", " "), limit=MOST)
    return _nearest((agent.ref for agent in page.items), written)


async def _tasks(caller: Caller, written: str) -> list[str]:
    return _beginning((task.id for task in (await caller.api.list_tasks(limit=MOST)).items), written)


async def _files(caller: Caller, written: str) -> list[str]:
    return _beginning((file.id for file in (await caller.api.list_files(limit=MOST)).items), written)


async def _sessions(caller: Caller, written: str) -> list[str]:
    return _beginning((session.id for session in await caller.api.sessions()), written)


async def _chats(caller: Caller, written: str) -> list[str]:
    return _beginning((chat.id for chat in (await caller.api.chats.list_chats(limit=MOST)).items), written)


_IDS = {TASK.uri: _tasks, LOGS.uri: _tasks, FILE.uri: _files, SESSION.uri: _sessions, CHAT.uri: _chats}
_OF_PROMPTS = {"app": _refs, "apps": _several_refs, "agent": _agents}


def _beginning(values: Iterable[str], written: str) -> list[str]:
    return [value for value in values if value and value.lower().startswith(written.lower())]


def _nearest(values: Iterable[str], written: str) -> list[str]:
    """What contains what was written, and first what begins with it."""
    fits = [value for value in values if written.lower() in value.lower()]
    return sorted(fits, key=lambda value: not value.lower().startswith(written.lower()))
