"""Files, in and out: bytes go between disk and platform, never through the model."""

from __future__ import annotations

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from inferencesh_mcp.caller import Ctx, caller
from inferencesh_mcp.flows import saving, uploading
from inferencesh_mcp.tools.offering import offer
from inferencesh_mcp.tools.showing import FileLink, answer
from inferencesh_mcp.tools.telling import progress, size


@offer("files", "Upload a file")
async def file_upload(
    source: Annotated[str, Field(description="path in an allowed folder, https URL or data URI")],
    ctx: Ctx,
    filename: str = "",
    content_type: str = "",
    public: Annotated[bool, Field(description="readable by anyone who has the address")] = False,
) -> CallToolResult:
    """Upload a file and get the uri to put into an input. app_run uploads files by itself; this is for using one often."""
    async with progress(ctx) as report:
        file = await uploading.store(
            caller(ctx), source, report, name=filename, content_type=content_type, public=public
        )
    told = {
        "uri": file.uri,
        "file_id": file.id,
        "filename": file.filename,
        "content_type": file.content_type,
        "bytes": file.size,
    }
    text = f"Uploaded {file.filename} ({file.content_type}, {size(file.size or 0)}): {file.uri}"
    return answer(text, told, [FileLink(url=file.uri, mime_type=file.content_type, bytes=file.size)])


@offer("files", "Save files to disk")
async def file_save(
    ctx: Ctx,
    uri: Annotated[str, Field(description="a file's address")] = "",
    task_id: Annotated[str, Field(description="or: all that a task made")] = "",
    to: Annotated[str, Field(description="folder below the save folder")] = "",
) -> CallToolResult:
    """Write a file, or everything a task made, to the save folder. Never overwrites."""
    async with progress(ctx) as report:
        saved = await saving.keep(caller(ctx), report, uri=uri, task_id=task_id, to=to)
    lines = [f"{file.path} ({file.content_type}, {size(file.size)})" for file in saved]
    files = [
        {"path": str(file.path), "url": file.uri, "mime_type": file.content_type, "bytes": file.size} for file in saved
    ]
    return answer("Saved:\n" + "\n".join(lines), {"files": files})


OFFERS = (file_upload, file_save)
