"""`/files`: records, signed uploads and downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from inferencesh_sandbox.files import LARGEST
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.wire import Json, Problem, answer, base_of, body_of, missing, objects_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from inferencesh_sandbox.files import StoredFile
    from inferencesh_sandbox.routes.context import Room
    from inferencesh_sandbox.tenants import Tenant

_SEARCHED = ("id", "filename", "content_type", "category", "path")


def files(room: Room) -> list[Route]:
    def asked_for(request: Request) -> StoredFile:
        stored = room.store.any(request.path_params["file"])
        if stored is None or stored.owner is not room.tenants.of(request):
            raise missing("file", request.path_params["file"])
        return stored

    async def create(request: Request) -> Response:
        tenant, asked = room.tenants.of(request), await body_of(request)
        wanted = objects_in(asked, "files")
        if not wanted:
            raise Problem(400, "validation_error", "files: must be a list of at least one file")
        made = [_made(room, tenant, one, asked) for one in wanted]
        base = base_of(request)
        return answer(request, [stored.told(base, room.store.signed(stored, base)) for stored in made])

    async def one(request: Request) -> Response:
        return answer(request, asked_for(request).told(base_of(request)))

    async def delete(request: Request) -> Response:
        room.tenants.of(request)
        room.store.remove(asked_for(request))
        return Response(status_code=204)

    async def listed(request: Request) -> Response:
        tenant, base = room.tenants.of(request), base_of(request)
        known = [stored.told(base) for stored in reversed(room.store.of(tenant))]
        return answer(request, page(known, await body_of(request), searched=_SEARCHED))

    async def upload(request: Request) -> Response:
        query = request.query_params
        stored = room.store.opened_by(request.path_params["file"], query.get("expires", ""), query.get("signature", ""))
        await _received(request, stored)
        room.store.make_room()
        return Response(status_code=200)

    async def download(request: Request) -> Response:
        stored = room.store.at(request.url.path)
        if stored is None or not stored.arrived:
            raise Problem(404, "not_found", "there is no file here")
        headers = {"content-length": str(stored.size), "accept-ranges": "none"}
        return StreamingResponse(_pieces(stored), media_type=stored.content_type, headers=headers)

    return [
        Route("/files", create, methods=["POST"]),
        Route("/files/list", listed, methods=["POST"]),
        Route("/files/{file}", one),
        Route("/files/{file}", delete, methods=["DELETE"]),
        Route("/upload/{file}", upload, methods=["PUT"]),
        Route("/app/files/u/{user}/{name}", download),
    ]


def _made(room: Room, tenant: Tenant, wanted: Json, asked: Json) -> StoredFile:
    return room.store.make(
        tenant,
        filename=str(wanted.get("filename") or "file"),
        content_type=str(wanted.get("content_type") or ""),
        path=str(wanted.get("path") or ""),
        category=str(asked.get("category") or "input"),
        public=bool(wanted.get("public")),
        declared=_size(wanted),
    )


def _size(wanted: Json) -> int:
    size = wanted.get("size") or 0
    if not isinstance(size, int) or size < 0:
        raise Problem(400, "validation_error", "files: size must be a whole number of bytes")
    return size


async def _received(request: Request, stored: StoredFile) -> None:
    """Take the bytes as they come. A connection that breaks leaves a file that never arrived."""
    stored.start_over()
    try:
        async for piece in request.stream():
            stored.write(piece)
            if stored.size > LARGEST:
                raise Problem(413, "limit_exceeded", f"the sandbox takes files up to {LARGEST} bytes")
    except ClientDisconnect:
        return
    stored.finish()


async def _pieces(stored: StoredFile) -> AsyncGenerator[bytes]:
    for piece in stored.pieces():
        yield piece
