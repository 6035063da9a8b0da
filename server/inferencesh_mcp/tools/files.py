"""Tools for files. Bytes go between disk and platform, never through the model.

The flows are imported inside the tools, because most sessions move no file.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from inferencesh_mcp.api.json import without_none
from inferencesh_mcp.api.models import File
from inferencesh_mcp.context import Ctx, caller_of, caller_with_roots
from inferencesh_mcp.errors import InvalidInput, NotFound
from inferencesh_mcp.sanitize import clean, quoted
from inferencesh_mcp.tools.apps import Cursor, Limit
from inferencesh_mcp.tools.define import tool
from inferencesh_mcp.tools.progress import progress
from inferencesh_mcp.tools.results import FileLink, build_result, list_result
from inferencesh_mcp.tools.units import size

if TYPE_CHECKING:
    from inferencesh_mcp.flows.upload import Ticket

_FILE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@tool("files", "Upload a file")
async def file_upload(
    ctx: Ctx,
    source: Annotated[str, Field(description="file to upload: path in an allowed folder, https URL or data URI")] = "",
    base64: Annotated[str, Field(description="instead of source: the file's bytes as base64")] = "",
    filename: Annotated[str, Field(description="name for the file; default: its own")] = "",
    content_type: Annotated[str, Field(description="media type such as image/png; default: taken from the file")] = "",
    public: Annotated[bool, Field(description="true: readable by anyone who has the address")] = False,
) -> CallToolResult:
    """Upload a file and get the uri to put into an input (app_run uploads files by itself). Without source or base64:
    an upload ticket, with a curl line that sends the bytes straight to the platform."""
    from inferencesh_mcp.flows import upload
    from inferencesh_mcp.flows.file_sources import decode_text, from_base64

    if source and base64:
        raise InvalidInput(message="Give `source` or `base64`, not both.", outcome="not_started")
    caller = await caller_with_roots(ctx) if source else caller_of(ctx)
    if not source and not base64:
        return _ticket(await upload.ticket(caller.api, name=filename, content_type=content_type, public=public))
    async with progress(ctx, in_bytes=True) as report:
        if base64:
            content = await decode_text(lambda text: from_base64(text, content_type), base64)
            file = await upload.upload(caller.api, content, report, name=filename, public=public)
        else:
            file = await upload.store(caller, source, report, name=filename, content_type=content_type, public=public)
    return file_result(file, "Uploaded ")


def _ticket(ticket: Ticket) -> CallToolResult:
    expiry = f"{ticket.expires_at:%Y-%m-%d %H:%M:%S %Z}" if ticket.expires_at else "soon"
    text = (
        f"Upload ticket. Send the bytes (replace FILE):\n{ticket.curl}\nOn Windows:\n{ticket.curl_windows}\n"
        f"Then use this uri in an input: {ticket.file.uri}\nThe address expires {expiry}; keep it to yourself."
    )
    fields = without_none(
        uri=ticket.file.uri,
        file_id=ticket.file.id,
        upload_url=ticket.file.upload_url,
        method="PUT",
        headers={"Content-Type": ticket.content_type},
        expires_at=ticket.expires_at.isoformat() if ticket.expires_at else None,
        curl=ticket.curl,
        curl_windows=ticket.curl_windows,
    )
    return build_result(text, fields)


@tool("files", "List files", reads=True)
async def file_list(ctx: Ctx, limit: Limit = 20, cursor: Cursor = "") -> CallToolResult:
    """List your files on the platform, with uri and id."""
    page = await caller_of(ctx).api.list_files(limit=limit, cursor=cursor)
    lines = [_line(file) for file in page.items] or ["No files."]
    return list_result("file_list", page, lines, {"files": [_file_fields(file) for file in page.items]})


@tool("files", "Delete a file", destroys=True, repeatable=True)
async def file_delete(
    file: Annotated[str, Field(description="file to delete: its file_id, or the uri of a recent one")], ctx: Ctx
) -> CallToolResult:
    """Delete a file from the platform. This cannot be undone."""
    api = caller_of(ctx).api
    file_id = file
    if not _FILE_ID.fullmatch(file):
        recent = (await api.list_files(limit=100)).items
        file_id = next((record.id for record in recent if record.uri == file), "")
    if not file_id:
        raise NotFound(
            message="None of your 100 newest files has that uri.", next_step="Give the file_id of file_list."
        )
    await api.delete_file(file_id)
    return build_result(f"Deleted file {file_id}.", {"file_id": file_id, "deleted": True})


@tool("files", "Save files to disk")
async def file_save(
    ctx: Ctx,
    uris: Annotated[list[str], Field(max_length=100, description="addresses of the files to save, at most 100")] = [],
    task_ids: Annotated[
        list[str],
        Field(max_length=100, description="instead of uris: tasks, at most 100, whose files or output to save"),
    ] = [],
    filename: Annotated[str, Field(description="name for a single file; default: its own")] = "",
    to: Annotated[str, Field(description="folder to save in, below the save folder")] = "",
    part: Annotated[int, Field(ge=1, description="which block of 100 files, from 1")] = 1,
) -> CallToolResult:
    """Save files, or what tasks returned, to the save folder: 100 files a call. Never overwrites."""
    from inferencesh_mcp.flows import download

    async with progress(ctx, in_bytes=True) as report:
        saved, remaining = await download.save_files(
            caller_of(ctx), report, uris=uris, task_ids=task_ids, filename=filename, to=to, part=part
        )
    lines = [f"{file.path} ({file.content_type}, {size(file.size)})" for file in saved]
    files = [
        {"path": str(file.path), "url": file.uri, "mime_type": file.content_type, "bytes": file.size} for file in saved
    ]
    if not remaining:
        return build_result("Saved:\n" + "\n".join(lines), {"files": files})
    next_step = (
        f"{remaining} files are left. Continue with file_save(task_ids={json.dumps(task_ids)}, part={part + 1})"
        f"{' and the same `to`' if to else ''}."
    )
    return build_result(
        "Saved:\n" + "\n".join([*lines, f"Next: {next_step}"]), {"files": files, "left": remaining, "next": next_step}
    )


def file_result(file: File, prefix: str = "") -> CallToolResult:
    """Build the result of a file: its address, name, type and size."""
    link = FileLink(url=file.uri, mime_type=file.content_type or None, bytes=file.size)
    return build_result(f"{prefix}{_line(file)}", _file_fields(file), [link])


def _line(file: File) -> str:
    kind = file.content_type or "of unknown type"
    return f"{quoted(file.filename, 255)} ({kind}, {size(file.size or 0)}): {file.uri} (file_id {file.id})"


def _file_fields(file: File) -> dict[str, Any]:
    return without_none(
        uri=file.uri,
        file_id=file.id,
        filename=clean(file.filename, 255),
        content_type=file.content_type,
        bytes=file.size,
        created_at=file.created_at.isoformat() if file.created_at else None,
    )


TOOLS = (file_upload, file_list, file_save, file_delete)
