"""`/files`: records, signed uploads and downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from inferencesh_sandbox.files import MAX_FILE_BYTES
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.wire import Json, Problem, answer, base_of, body_of, missing, objects_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from inferencesh_sandbox.files import StoredFile
    from inferencesh_sandbox.routes import Context
    from inferencesh_sandbox.tenants import Tenant

_SEARCHED = ("id", "filename", "content_type", "category", "path")


def files(context: Context) -> list[Route]:
    def requested(request: Request) -> StoredFile:
        stored = context.store.any(request.path_params["file"])
        if stored is None or stored.owner is not context.tenants.of(request):
            raise missing("file", request.path_params["file"])
        return stored

    async def create(request: Request) -> Response:
        tenant, body = context.tenants.of(request), await body_of(request)
        records = objects_in(body, "files")
        if not records:
            raise Problem(400, "validation_error", "files: must be a list of at least one file")
        stored_files = [_create_record(context, tenant, record, body) for record in records]
        base = base_of(request)
        return answer(request, [stored.dto(base, context.store.signed(stored, base)) for stored in stored_files])

    async def get(request: Request) -> Response:
        return answer(request, requested(request).dto(base_of(request)))

    async def delete(request: Request) -> Response:
        context.tenants.of(request)
        context.store.remove(requested(request))
        return Response(status_code=204)

    async def listed(request: Request) -> Response:
        tenant, base = context.tenants.of(request), base_of(request)
        records = [stored.dto(base) for stored in reversed(context.store.of(tenant))]
        return answer(request, page(records, await body_of(request), searched=_SEARCHED))

    async def upload(request: Request) -> Response:
        query = request.query_params
        stored = context.store.opened_by(
            request.path_params["file"], query.get("expires", ""), query.get("signature", "")
        )
        await _store_body(request, stored)
        context.store.make_room()
        return Response(status_code=200)

    async def download(request: Request) -> Response:
        stored = context.store.at(request.url.path)
        if stored is None or not stored.arrived:
            raise Problem(404, "not_found", "there is no file here")
        headers = {"content-length": str(stored.size), "accept-ranges": "none"}
        return StreamingResponse(_pieces(stored), media_type=stored.content_type, headers=headers)

    return [
        Route("/files", create, methods=["POST"]),
        Route("/files/list", listed, methods=["POST"]),
        Route("/files/{file}", get),
        Route("/files/{file}", delete, methods=["DELETE"]),
        Route("/upload/{file}", upload, methods=["PUT"]),
        Route("/app/files/u/{user}/{name}", download),
    ]


def _create_record(context: Context, tenant: Tenant, record: Json, body: Json) -> StoredFile:
    return context.store.make(
        tenant,
        filename=str(record.get("filename") or "file"),
        content_type=str(record.get("content_type") or ""),
        path=str(record.get("path") or ""),
        category=str(body.get("category") or "input"),
        public=bool(record.get("public")),
        declared=_size(record),
    )


def _size(record: Json) -> int:
    size = record.get("size") or 0
    if not isinstance(size, int) or size < 0:
        raise Problem(400, "validation_error", "files: size must be a whole number of bytes")
    return size


async def _store_body(request: Request, stored: StoredFile) -> None:
    """Store the bytes as they arrive. A broken upload leaves the file without bytes."""
    stored.start_over()
    try:
        async for piece in request.stream():
            stored.write(piece)
            if stored.size > MAX_FILE_BYTES:
                raise Problem(413, "limit_exceeded", f"the sandbox takes files up to {MAX_FILE_BYTES} bytes")
    except ClientDisconnect:
        return
    stored.finish()


async def _pieces(stored: StoredFile) -> AsyncGenerator[bytes]:
    for piece in stored.pieces():
        yield piece
