"""`/apps/run` and `/tasks`: start, read, cancel, delete and list tasks, and their files."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.routing import Route

from inferencesh_sandbox import streams
from inferencesh_sandbox.ids import stamp
from inferencesh_sandbox.ledger import CancelRequested
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.run_requests import parse_run_request
from inferencesh_sandbox.tasks import Status, Task
from inferencesh_sandbox.wire import (
    Json,
    Problem,
    answer,
    base_of,
    body_of,
    invalid_field,
    is_array,
    missing,
    objects_in,
    texts_in,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from inferencesh_sandbox.files import StoredFile
    from inferencesh_sandbox.routes import Context

_SEARCHED = ("id", "app_ref", "status_text", "error")
_VISIBILITIES = ("private", "team", "org", "public", "unlisted")


def runs(context: Context) -> list[Route]:
    def dto(task: Task) -> Json:
        return task.run_dto() if context.facts.slim_run_answers else task.dto()

    async def run(request: Request) -> Response:
        tenant = context.tenants.of(request)
        run_request = parse_run_request(
            await body_of(request), tenant=tenant, clock=context.clock, base=base_of(request)
        )
        task = await context.workers.take(run_request, tenant, context.ledger)
        # Start after the answer: an SDK that polls compares with the status in that answer.
        return answer(request, dto(task), after=BackgroundTask(context.workers.begin, task))

    return [Route("/apps/run", run, methods=["POST"]), Route("/run", run, methods=["POST"])]


def tasks(context: Context) -> list[Route]:
    async def listed(request: Request) -> Response:
        tenant, body = context.tenants.of(request), await body_of(request)
        dtos = [_list_dto(task) for task in reversed(list(tenant.tasks))]
        return answer(request, page(dtos, _with_plain_filters(body), searched=_SEARCHED))

    async def get(request: Request) -> Response:
        return answer(request, _requested(context, request).dto())

    async def status(request: Request) -> Response:
        task = _requested(context, request)
        return answer(request, {"id": task.id, "status": int(task.status), "updated_at": stamp(task.updated_at)})

    async def logs(request: Request) -> Response:
        task = _requested(context, request)
        return answer(
            request, {"task_id": task.id, "status": int(task.status), "events": task.events, "logs": task.logs}
        )

    async def timed(request: Request) -> Response:
        return answer(request, _requested(context, request).timings_dto())

    async def stream(request: Request) -> Response:
        return streams.response(request, streams.task_lines(_requested(context, request), context.clock))

    async def cancel(request: Request) -> Response:
        task = _requested(context, request)
        if task.ended:
            raise Problem(409, "invalid_transition", f"task {task.id} is already {task.status.name.lower()}")
        context.ledger.note(CancelRequested(task_id=task.id, caller=task.owner.caller))
        task.move(Status.CANCELLING)
        task.scope.cancel()
        return answer(request, {"id": task.id, "status": int(task.status), "cancelled": True})

    async def delete(request: Request) -> Response:
        task = _requested(context, request)
        if not task.ended:
            raise Problem(409, "invalid_transition", f"task {task.id} still runs; cancel it first")
        context.tenants.of(request).tasks.remove(task.id)
        if request.query_params.get("files") == "true":
            _drop(context, files_of(context, task, ""))
        return Response(status_code=204)

    async def featured(request: Request) -> Response:
        dtos = [_list_dto(task) for task in reversed(list(context.tenants.of(request).tasks)) if task.is_featured]
        return answer(request, page(dtos, {}, searched=_SEARCHED))

    async def set_visibility(request: Request) -> Response:
        task, body = _requested(context, request), await body_of(request)
        if body.get("visibility") not in _VISIBILITIES:
            raise invalid_field("visibility", f"must be one of {', '.join(_VISIBILITIES)}")
        task.visibility = body["visibility"]
        return answer(request, task.dto())

    async def set_featured(request: Request) -> Response:
        task = _requested(context, request)
        task.is_featured = bool((await body_of(request)).get("is_featured"))
        return answer(request, task.dto())

    return [
        Route("/tasks/list", listed, methods=["POST"]),
        Route("/tasks/featured", featured),
        Route("/tasks/{task}/visibility", set_visibility, methods=["POST"]),
        Route("/tasks/{task}/featured", set_featured, methods=["POST"]),
        Route("/tasks/{task}", get),
        Route("/tasks/{task}", delete, methods=["DELETE"]),
        Route("/tasks/{task}/status", status),
        Route("/tasks/{task}/logs", logs),
        Route("/tasks/{task}/timings", timed),
        Route("/tasks/{task}/stream", stream),
        Route("/tasks/{task}/cancel", cancel, methods=["POST"]),
    ]


def task_files(context: Context) -> list[Route]:
    """The files of a task."""

    async def files(request: Request) -> Response:
        task = _requested(context, request)
        stored_files = files_of(context, task, request.query_params.get("role", ""))
        return answer(request, [_file_dto(stored, role, base_of(request)) for stored, role in stored_files])

    async def drop_files(request: Request) -> Response:
        stored_files = files_of(context, _requested(context, request), request.query_params.get("role", ""))
        _drop(context, stored_files)
        return answer(request, {"deleted": [stored.id for stored, _ in stored_files], "skipped": []})

    return [
        Route("/tasks/{task}/files", files),
        Route("/tasks/{task}/files", drop_files, methods=["DELETE"]),
    ]


def _requested(context: Context, request: Request) -> Task:
    task = context.tenants.of(request).tasks.get(request.path_params["task"])
    if task is None:
        raise missing("task", request.path_params["task"])
    return task


def files_of(context: Context, task: Task, role: str) -> list[tuple[StoredFile, str]]:
    """The input and output files of a task, or those of one role."""
    input_files = [context.store.by_uri(text) for text in texts_in(task.request.input)]
    output_files = [context.store.any(file_id) for file_id in task.output_file_ids]
    files = [(stored, "input") for stored in input_files] + [(stored, "output") for stored in output_files]
    return [(stored, kind) for stored, kind in files if stored and stored.owner is task.owner and role in {"", kind}]


def _drop(context: Context, stored_files: list[tuple[StoredFile, str]]) -> None:
    for stored, _ in stored_files:
        context.store.remove(stored)


def _file_dto(stored: StoredFile, role: str, base: str) -> Json:
    dto = stored.dto(base)
    return {name: dto[name] for name in ("id", "created_at", "uri", "filename", "content_type", "size")} | {
        "role": role
    }


def _list_dto(task: Task) -> Json:
    return task.dto() | {"app_ref": task.request.app.ref, "status_text": task.status.name.lower()}


def _with_plain_filters(body: Json) -> Json:
    """Filters may name statuses by name, and times in any RFC 3339 spelling."""
    return body | {"filters": [_with_plain_value(condition) for condition in objects_in(body, "filters")]}


def _with_plain_value(condition: Json) -> Json:
    value = condition.get("value")
    if is_array(value):
        return condition | {"value": [_plain_value(condition, item) for item in value]}
    return condition | {"value": _plain_value(condition, value)}


def _plain_value(condition: Json, value: Any) -> Any:
    field = str(condition.get("field"))
    if field == "status" and isinstance(value, str) and value.upper() in Status.__members__:
        return int(Status[value.upper()])
    if field.endswith("_at") and isinstance(value, str):
        try:
            return stamp(datetime.fromisoformat(value))
        except ValueError as exc:
            raise Problem(400, "invalid_request", f"{value[:40]!r} is no RFC 3339 time") from exc
    return value
