"""Response envelopes, problems and request bodies."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.types import Scope

    from inferencesh_sandbox.facts import Facts

Json = dict[str, Any]
"""A JSON object on its way in or out."""

_OBJECTS = TypeAdapter(list[Json])


@dataclass(eq=False)
class Problem(Exception):
    """An error answer. Raise it anywhere; the handler in `app` sends it."""

    status: int
    code: str
    detail: str
    _: KW_ONLY
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return self.detail

    def body(self) -> Json:
        """The body, after RFC 9457. The code is the last part of `type`."""
        return {
            "type": f"https://api.inference.sh/errors/{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }


def answer(request: Request, data: object, *, after: BackgroundTask | None = None) -> Response:
    """Answer in the envelope. `after` runs once the answer has been sent."""
    body: object = {"data": data, "messages": []}
    if _facts(request.scope).versioned_answers:
        bare = request.headers.get("x-api-version") == "2"
        body = data if bare else {"success": True, "status": 200, "data": data, "messages": []}
    return JSONResponse(body, background=after)


def problem_response(problem: Problem, scope: Scope) -> Response:
    body = problem.body()
    if _facts(scope).versioned_answers:
        body["error"] = {"code": problem.code, "message": problem.detail, **problem.extra}
    return JSONResponse(
        body,
        status_code=problem.status,
        headers=dict(problem.headers),
        media_type="application/problem+json",
    )


def _facts(scope: Scope) -> Facts:
    facts: Facts = scope["sandbox.facts"]
    return facts


def base_of(request: Request) -> str:
    """The sandbox's URL as the caller sees it."""
    return f"{request.url.scheme}://{request.url.netloc}"


async def body_of(request: Request) -> Json:
    """Read a request's JSON object. A missing body is an empty object."""
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        data = await request.json()
    except ValueError as exc:
        raise Problem(400, "invalid_request", "the body is not JSON") from exc
    if not is_object(data):
        raise Problem(400, "invalid_request", "the body must be a JSON object")
    return data


def is_object(value: object) -> TypeGuard[Json]:
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def as_object(value: object, field: str) -> Json:
    """The value of a field, which must be an object."""
    if not is_object(value):
        raise invalid_field(field, "must be an object")
    return value


def objects_in(body: Json, field: str) -> list[Json]:
    """Read a list of objects. A missing field is an empty list."""
    try:
        return _OBJECTS.validate_python(body.get(field) or [])
    except ValidationError as exc:
        raise invalid_field(field, "must be a list of objects") from exc


def texts_in(value: Any) -> list[str]:
    """Every string in some JSON, however deep."""
    if isinstance(value, str):
        return [value]
    items = value.values() if is_object(value) else value if is_array(value) else ()
    return [text for item in items for text in texts_in(item)]


def invalid_field(field: str, why: str) -> Problem:
    """The 400 for a field of a body; `why` is the rest of a sentence."""
    return Problem(400, "validation_error", f"{field}: {why}", extra={"meta": {"field": field}})


def missing(kind: str, name: str, *, suggestions: list[str] | None = None) -> Problem:
    """The 404 for what does not exist or belongs to another tenant. Both look the same."""
    return Problem(404, "not_found", f"{kind} {name!r} not found", extra={"suggestions": suggestions or []})
