"""Tools for sessions: warm workers that keep an app's state between runs, until they are idle for too long."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from inferencesh_mcp.api.models import Session
from inferencesh_mcp.context import Ctx, caller_of
from inferencesh_mcp.tools.define import tool
from inferencesh_mcp.tools.results import build_result
from inferencesh_mcp.tools.units import moment, span

SessionId = Annotated[str, Field(description="session_id of an answer of app_run or session_list")]


@tool("sessions", "List sessions", reads=True)
async def session_list(
    ctx: Ctx,
    active: Annotated[bool, Field(description="true: only sessions that a run can still use")] = False,
) -> CallToolResult:
    """List your sessions and when each expires."""
    api = caller_of(ctx).api
    sessions, now = [session for session in await api.sessions() if not (active and session.over)], api.now()
    lines = [_line(session, now) for session in sessions] or ['No sessions. app_run(session="new") starts one.']
    return build_result("\n".join(lines), {"sessions": [_session_fields(session, now) for session in sessions]})


@tool("sessions", "Get a session", reads=True)
async def session_get(session_id: SessionId, ctx: Ctx) -> CallToolResult:
    """Read whether a session is active and when it expires."""
    api = caller_of(ctx).api
    return _session_result(await api.session(session_id), api.now())


@tool("sessions", "Keep a session alive", repeatable=True)
async def session_keepalive(session_id: SessionId, ctx: Ctx) -> CallToolResult:
    """Reset a session's idle timer. Holding a worker may cost credits."""
    api = caller_of(ctx).api
    return _session_result(await api.keepalive(session_id), api.now())


@tool("sessions", "End a session", destroys=True, repeatable=True)
async def session_end(session_id: SessionId, ctx: Ctx) -> CallToolResult:
    """End a session. Its worker is released and its state is lost."""
    await caller_of(ctx).api.end_session(session_id)
    return build_result(f"Session {session_id} has ended.", {"session_id": session_id, "status": "ended"})


def _session_result(session: Session, now: datetime) -> CallToolResult:
    next_step = f'Continue with app_run(session="{session.id}").' if session.status == "active" else None
    fields = _session_fields(session, now) | ({"next": next_step} if next_step else {})
    return build_result(_line(session, now) + (f"\nNext: {next_step}" if next_step else ""), fields)


def _line(session: Session, now: datetime) -> str:
    expiry = f", expires {moment(session.expires_at, now)} if idle" if session.expires_at and not session.over else ""
    timeout = f", idle time-out {span(session.idle_timeout)}" if session.idle_timeout else ""
    return f"Session {session.id}: {session.status}{expiry}{timeout}, {session.call_count} runs"


def _session_fields(session: Session, now: datetime) -> dict[str, Any]:
    expires_at = session.expires_at if not session.over else None
    fields = {
        "session_id": session.id,
        "status": session.status,
        "session_expires_in": max(round((expires_at - now).total_seconds()), 0) if expires_at else None,
        "session_expires_at": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}" if expires_at else None,
        "idle_timeout_seconds": session.idle_timeout,
        "runs": session.call_count,
        "last_task_id": session.task_id,
    }
    return {name: value for name, value in fields.items() if value not in {None, ""}}


TOOLS = (session_list, session_get, session_keepalive, session_end)
