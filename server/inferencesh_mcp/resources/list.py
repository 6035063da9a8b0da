"""What a host's picker shows: the caller's recent tasks, files and chats, and the sessions that are warm.

An entry says enough to be chosen by. What cannot be listed (no key, no answer in time) is left out: hosts ask for this list
when they start, and a start that fails for it would help nobody.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp_types import INVALID_PARAMS, Annotations, ListResourcesResult, Resource

from inferencesh_mcp.api.json import parse
from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.resources.templates import CHAT, FILE, SESSION, TASK, Template
from inferencesh_mcp.sanitize import clean
from inferencesh_mcp.tools.tasks import line_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.api.models import File, Page, Session, Task
    from inferencesh_mcp.flows import Caller

EACH = 20  # entries of a kind on a page
MOST_PAGES = 5  # some hosts read all there are: what is older is found by task_list and its like
PATIENCE = 5.0  # seconds
FRESH = 10_000  # ms

logger = logging.getLogger(__name__)


async def listed(caller: Caller, offered: list[Template], cursor: str | None) -> ListResourcesResult:
    """A page of what is recent: of each kind the next few.

    Raises:
        MCPError: a cursor that is none of ours.
    """
    page, after = _position(cursor, {template.name for template in offered})
    found: dict[str, tuple[list[Resource], str]] = {}

    async def ask(name: str) -> None:
        try:
            found[name] = await SECTIONS[name](caller, after[name])
        except InferenceError as exc:
            logger.info("the list of resources lacks each %s: %s", name, exc.code)

    with anyio.move_on_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for name in after:
                group.start_soon(ask, name)
    entries = [entry for name in after if name in found for entry in found[name][0]]
    more = {name: following for name, (_, following) in found.items() if following}
    return ListResourcesResult(
        resources=entries,
        next_cursor=_cursor(page + 1, more) if more and page < MOST_PAGES else None,
        ttl_ms=FRESH,
        cache_scope="private",
    )


async def _tasks(caller: Caller, cursor: str) -> tuple[list[Resource], str]:
    page = await caller.api.list_tasks(limit=EACH, cursor=cursor)
    return [_task(caller, task) for task in page.items], _following(page)


def _task(caller: Caller, task: Task) -> Resource:
    line = line_of(caller, task)
    app = clean(line.get("app", ""), 120) or "a task"
    return _entry(TASK, task.id, f"{app} ({task.status})", line.get("error", ""), task.updated_at or task.created_at)


async def _files(caller: Caller, cursor: str) -> tuple[list[Resource], str]:
    page = await caller.api.list_files(limit=EACH, cursor=cursor)
    return [_file(file) for file in page.items if file.id], _following(page)


def _file(file: File) -> Resource:
    return _entry(FILE, file.id, clean(file.filename, 120), clean(file.content_type, 120), file.created_at)


async def _sessions(caller: Caller, _: str) -> tuple[list[Resource], str]:
    active = [session for session in await caller.api.sessions() if session.status == "active"]
    return [_session(session) for session in active[:EACH]], ""


def _session(session: Session) -> Resource:
    return _entry(SESSION, session.id, f"warm session, {session.call_count} runs", "", None)


async def _chats(caller: Caller, cursor: str) -> tuple[list[Resource], str]:
    page = await caller.api.chats.list_chats(limit=EACH, cursor=cursor)
    return [_chat(chat) for chat in page.items], _following(page)


def _chat(chat: Chat) -> Resource:
    agent = clean(chat.agent.ref, 120) if chat.agent else ""
    return _entry(CHAT, chat.id, clean(chat.name, 120) or agent or "a chat", agent, chat.updated_at)


SECTIONS: dict[str, Callable[[Caller, str], Awaitable[tuple[list[Resource], str]]]] = {
    TASK.name: _tasks,
    FILE.name: _files,
    SESSION.name: _sessions,
    CHAT.name: _chats,
}


def _entry(template: Template, thing: str, title: str, about: str, at: datetime | None) -> Resource:
    return Resource(
        uri=template.address(id=thing),
        name=f"{template.name} {clean(thing, 128)}",
        title=f"{template.title}: {title}",
        description=about or None,
        mime_type="text/plain",
        annotations=Annotations(last_modified=at.isoformat()) if at else None,
    )


def _following(page: Page[Any]) -> str:
    return page.next_cursor if page.has_next else ""


def _cursor(page: int, after: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([page, after]).encode()).decode()


def _position(cursor: str | None, offered: set[str]) -> tuple[int, dict[str, str]]:
    """Which page it is, and after what each kind goes on. The platform's own cursors, so it needs no seal (I-10)."""
    if not cursor:
        return 1, {name: "" for name in SECTIONS if name in offered}
    try:
        page, after = parse(base64.urlsafe_b64decode(cursor[:10_000]))
        known = {str(name): str(text) for name, text in after.items() if name in SECTIONS and name in offered}
        return min(max(int(page), 1), MOST_PAGES), known
    except (ValueError, TypeError, AttributeError) as exc:
        raise MCPError(
            code=INVALID_PARAMS, message="That cursor is none of this server's. Ask for the first page."
        ) from exc
