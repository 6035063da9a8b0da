"""`/tasks`: what became of the runs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from inferencesh_sandbox.ids import stamp
from inferencesh_sandbox.ledger import CancelAsked
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.streams import as_events, as_ndjson, lines
from inferencesh_sandbox.tasks import Status, Task
from inferencesh_sandbox.timestamps import timings
from inferencesh_sandbox.wire import Json, Problem, answer, base_of, body_of, missing, objects_in, texts_in

if TYPE_CHECKING:
    from starlette.requests import Request

    from inferencesh_sandbox.files import StoredFile
    from inferencesh_sandbox.routes.context import Room

_SEARCHED = ("id", "app_ref", "status_text", "error")
_VISIBILITIES = ("private", "team", "org", "public", "unlisted")


def tasks(room: Room) -> list[Route]:
    def asked_for(request: Request) -> Task:
        task = room.tenants.of(request).tasks.get(request.path_params["task"])
        if task is None:
            raise missing("task", request.path_params["task"])
        return task

    async def one(request: Request) -> Response:
        return answer(request, asked_for(request).told())

    async def status(request: Request) -> Response:
        task = asked_for(request)
        return answer(request, {"id": task.id, "status": int(task.status), "updated_at": stamp(task.updated_at)})

    async def logs(request: Request) -> Response:
        task = asked_for(request)
        return answer(
            request, {"task_id": task.id, "status": int(task.status), "events": task.events, "logs": task.logs}
        )

    async def timed(request: Request) -> Response:
        return answer(request, timings(asked_for(request)))

    async def stream(request: Request) -> Response:
        told = lines(asked_for(request), room.clock)
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(as_events(told), media_type="text/event-stream")
        return StreamingResponse(as_ndjson(told), media_type="application/x-ndjson")

    async def cancel(request: Request) -> Response:
        task = asked_for(request)
        if task.ended:
            raise Problem(409, "invalid_transition", f"task {task.id} is already {task.status.name.lower()}")
        room.ledger.note(CancelAsked(at=room.clock.now(), task_id=task.id, caller=task.owner.caller))
        task.move(Status.CANCELLING)
        task.scope.cancel()
        return answer(request, {"id": task.id, "status": int(task.status), "cancelled": True})

    async def delete(request: Request) -> Response:
        task = asked_for(request)
        if not task.ended:
            raise Problem(409, "invalid_transition", f"task {task.id} still runs; cancel it first")
        task.owner.tasks.take(task.id)
        if request.query_params.get("files") == "true":
            _drop(room, files_of(room, task, ""))
        return Response(status_code=204)

    async def listed(request: Request) -> Response:
        tenant, asked = room.tenants.of(request), await body_of(request)
        known = [_listed(task) for task in reversed(list(tenant.tasks))]
        return answer(request, page(known, _with_numbers(asked), searched=_SEARCHED))

    async def featured(request: Request) -> Response:
        shown = [_listed(task) for task in reversed(list(room.tenants.of(request).tasks)) if task.is_featured]
        return answer(request, page(shown, {}, searched=_SEARCHED))

    async def set_visibility(request: Request) -> Response:
        task, asked = asked_for(request), await body_of(request)
        if asked.get("visibility") not in _VISIBILITIES:
            raise Problem(400, "validation_error", f"visibility: must be one of {', '.join(_VISIBILITIES)}")
        task.visibility = asked["visibility"]
        return answer(request, task.told())

    async def set_featured(request: Request) -> Response:
        task = asked_for(request)
        task.is_featured = bool((await body_of(request)).get("is_featured"))
        return answer(request, task.told())

    async def files(request: Request) -> Response:
        task = asked_for(request)
        found = files_of(room, task, request.query_params.get("role", ""))
        return answer(request, [_file_told(stored, role, base_of(request)) for stored, role in found])

    async def drop_files(request: Request) -> Response:
        found = files_of(room, asked_for(request), request.query_params.get("role", ""))
        _drop(room, found)
        return answer(request, {"deleted": [stored.id for stored, _ in found], "skipped": []})

    return [
        Route("/tasks/list", listed, methods=["POST"]),
        Route("/tasks/featured", featured),
        Route("/tasks/{task}", one),
        Route("/tasks/{task}", delete, methods=["DELETE"]),
        Route("/tasks/{task}/status", status),
        Route("/tasks/{task}/logs", logs),
        Route("/tasks/{task}/timings", timed),
        Route("/tasks/{task}/stream", stream),
        Route("/tasks/{task}/cancel", cancel, methods=["POST"]),
        Route("/tasks/{task}/visibility", set_visibility, methods=["POST"]),
        Route("/tasks/{task}/featured", set_featured, methods=["POST"]),
        Route("/tasks/{task}/files", files),
        Route("/tasks/{task}/files", drop_files, methods=["DELETE"]),
    ]


def files_of(room: Room, task: Task, role: str) -> list[tuple[StoredFile, str]]:
    """The files that went into a task and came out of it; of one role, if one is named."""
    went_in = [room.store.by_uri(text) for text in texts_in(task.order.input)]
    came_out = [room.store.any(file_id) for file_id in task.made_files]
    both = [(stored, "input") for stored in went_in] + [(stored, "output") for stored in came_out]
    return [(stored, kind) for stored, kind in both if stored and stored.owner is task.owner and role in {"", kind}]


def _drop(room: Room, found: list[tuple[StoredFile, str]]) -> None:
    for stored, _ in found:
        room.store.remove(stored)


def _file_told(stored: StoredFile, role: str, base: str) -> Json:
    whole = stored.told(base)
    return {name: whole[name] for name in ("id", "created_at", "uri", "filename", "content_type", "size")} | {
        "role": role
    }


def _listed(task: Task) -> Json:
    return task.told() | {"app_ref": task.order.app.ref, "status_text": task.status.name.lower()}


def _with_numbers(asked: Json) -> Json:
    """Filters may name statuses by name, and times in any RFC 3339 spelling."""
    return asked | {"filters": [_plain(one) for one in objects_in(asked, "filters")]}


def _plain(one: Json) -> Json:
    value: Any = one.get("value")
    if isinstance(value, list):
        return one | {"value": [_valued(one, each) for each in cast("list[object]", value)]}
    return one | {"value": _valued(one, value)}


def _valued(one: Json, value: Any) -> Any:
    field = str(one.get("field"))
    if field == "status" and isinstance(value, str) and value.upper() in Status.__members__:
        return int(Status[value.upper()])
    if field.endswith("_at") and isinstance(value, str):
        try:
            return stamp(datetime.fromisoformat(value))
        except ValueError as exc:
            raise Problem(400, "invalid_request", f"{value[:40]!r} is no RFC 3339 time") from exc
    return value
