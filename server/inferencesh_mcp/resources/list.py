"""The list of resources: the caller's recent tasks, files and chats, and the active sessions.

A kind that cannot be listed (no key, no answer in time) is left out, because hosts ask for this list when they start and
must not fail for it.
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
from inferencesh_mcp.flows.run_details import status_of
from inferencesh_mcp.redaction import without_credentials
from inferencesh_mcp.resources.templates import CHAT, FILE, SESSION, TASK, Template
from inferencesh_mcp.sanitize import clean
from inferencesh_mcp.tools.tasks import app_of, error_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from inferencesh_mcp.api.chat_models import Chat
    from inferencesh_mcp.api.models import File, Page, Session, Task
    from inferencesh_mcp.flows import Caller

ENTRIES_PER_KIND = 20  # entries of a kind on a page
MAX_PAGES = 5  # some hosts read all pages; older tasks are found with task_list
LIST_TIMEOUT = 5.0  # seconds
TTL_MS = 10_000  # ms

logger = logging.getLogger(__name__)


async def list_recent(caller: Caller, enabled: list[Template], cursor: str | None) -> ListResourcesResult:
    """A page of recent resources: the next few of each kind.

    Raises:
        MCPError: the cursor is invalid.
    """
    page, cursors = _parse_cursor(cursor, {template.name for template in enabled})
    results: dict[str, tuple[list[Resource], str]] = {}

    async def read_section(name: str) -> None:
        try:
            results[name] = await SECTIONS[name](caller, cursors[name])
        except InferenceError as exc:
            logger.info("the list of resources lacks each %s: %s", name, exc.code)

    with anyio.move_on_after(LIST_TIMEOUT):
        async with anyio.create_task_group() as group:
            for name in cursors:
                group.start_soon(read_section, name)
    entries = [entry for name in cursors if name in results for entry in results[name][0]]
    next_cursors = {name: next_cursor for name, (_, next_cursor) in results.items() if next_cursor}
    return ListResourcesResult(
        resources=entries,
        next_cursor=_make_cursor(page + 1, next_cursors) if next_cursors and page < MAX_PAGES else None,
        ttl_ms=TTL_MS,
        cache_scope="private",
    )


async def _tasks(caller: Caller, cursor: str) -> tuple[list[Resource], str]:
    page = await caller.api.list_tasks(limit=ENTRIES_PER_KIND, cursor=cursor)
    return [_task(caller, task) for task in page.items], _next_cursor(page)


def _task(caller: Caller, task: Task) -> Resource:
    app = clean(app_of(caller, task), 120) or "a task"
    return _entry(TASK, task.id, f"{app} ({status_of(task)})", error_line(task), task.updated_at or task.created_at)


async def _files(caller: Caller, cursor: str) -> tuple[list[Resource], str]:
    page = await caller.api.list_files(limit=ENTRIES_PER_KIND, cursor=cursor)
    return [_file(file) for file in page.items if file.id], _next_cursor(page)


def _file(file: File) -> Resource:
    return _entry(FILE, file.id, clean(file.filename, 120), clean(file.content_type, 120), file.created_at)


async def _sessions(caller: Caller, _: str) -> tuple[list[Resource], str]:
    active = [session for session in await caller.api.sessions() if session.status == "active"]
    return [_session(session) for session in active[:ENTRIES_PER_KIND]], ""


def _session(session: Session) -> Resource:
    return _entry(SESSION, session.id, f"session, {session.call_count} runs", "", None)


async def _chats(caller: Caller, cursor: str) -> tuple[list[Resource], str]:
    page = await caller.api.chats.list_chats(limit=ENTRIES_PER_KIND, cursor=cursor)
    return [_chat(chat) for chat in page.items], _next_cursor(page)


def _chat(chat: Chat) -> Resource:
    agent = clean(chat.agent.ref, 120) if chat.agent else ""
    return _entry(CHAT, chat.id, clean(chat.name, 120) or agent or "a chat", agent, chat.updated_at)


SECTIONS: dict[str, Callable[[Caller, str], Awaitable[tuple[list[Resource], str]]]] = {
    TASK.name: _tasks,
    FILE.name: _files,
    SESSION.name: _sessions,
    CHAT.name: _chats,
}


def _entry(template: Template, upstream_id: str, title: str, description: str, changed_at: datetime | None) -> Resource:
    return Resource(
        uri=template.address(id=upstream_id),
        name=f"{template.name} {clean(upstream_id, 128)}",
        title=f"{template.title}: {title}",
        description=description or None,
        mime_type="text/plain",
        annotations=Annotations(last_modified=changed_at.isoformat()) if changed_at else None,
    )


def _next_cursor(page: Page[Any]) -> str:
    return page.next_cursor if page.has_next else ""


def _make_cursor(page: int, after: dict[str, str]) -> str:
    # Redacted before it is encoded: what is hex within base64 is not recognized afterwards.
    return base64.urlsafe_b64encode(json.dumps([page, without_credentials(after)]).encode()).decode()


def _parse_cursor(cursor: str | None, enabled: set[str]) -> tuple[int, dict[str, str]]:
    """The page number, and the platform's cursor for each kind. It needs no signature: it grants no access (I-10)."""
    if not cursor:
        return 1, {name: "" for name in SECTIONS if name in enabled}
    try:
        page, raw_cursors = parse(base64.urlsafe_b64decode(cursor[:10_000]))
        cursors = {str(name): str(value) for name, value in raw_cursors.items() if name in SECTIONS and name in enabled}
        return min(max(int(page), 1), MAX_PAGES), cursors
    except (ValueError, TypeError, AttributeError) as exc:
        raise MCPError(
            code=INVALID_PARAMS, message="The cursor is invalid. Ask for the first page without a cursor."
        ) from exc
