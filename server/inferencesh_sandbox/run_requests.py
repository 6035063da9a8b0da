"""Parse and validate the body of `POST /apps/run`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from inferencesh_sandbox.catalogue import Ref, find_app, function_of, pinned_function
from inferencesh_sandbox.lookup import version_of
from inferencesh_sandbox.sessions import session_for_run
from inferencesh_sandbox.tasks import RunRequest
from inferencesh_sandbox.wire import Json, Problem, as_object, invalid_field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.tenants import Tenant

_INFRA = ("cloud", "private", "private_first", "remote")


def parse_run_request(body: Json, *, tenant: Tenant, clock: Clock, base: str) -> RunRequest:
    """Validate a run request in the platform's order: app, requirements, input, session."""
    ref = Ref.read(_text(body, "app"))
    app = find_app(ref.name or _text(body, "app_id"))
    version = ref.version or _text(body, "version_id")
    version_id = version_of(app, version)
    function = function_of(app, _text(body, "function") or ref.function or pinned_function(ref.name))
    check_requirements(app.requirements)
    payload = as_object(body.get("input"), "input")
    inputs = validate(function.input_model, payload, "input")
    setup = as_object(body.get("setup") or {}, "setup")
    if app.setup:
        validate(app.setup, setup, "setup")
    session = session_for_run(
        body, app, version_id if version else None, owner=tenant, sessions=tenant.sessions, clock=clock
    )
    return RunRequest(
        app=app, version_id=session.version_id if session else version_id, function=function, inputs=inputs, input=payload,
        setup=setup, session=session, base=base, run_at=_run_at(body), echoed=_echoed_fields(body),
    )  # fmt: skip


def validate(model: type[BaseModel], payload: Json, label: str) -> Any:
    """Validate an object. The error names the first wrong field."""
    try:
        return model.model_validate(payload)
    except ValidationError as exc:
        wrong = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in (label, *wrong["loc"]))
        raise invalid_field(field, wrong["msg"]) from exc


def _text(body: Json, field: str) -> str:
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise Problem(400, "invalid_request", f"{field} must be a string")
    return value or ""


def check_requirements(requirements: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a run of an app or an agent that has requirements: the sandbox can meet none."""
    if requirements:
        extra = {"satisfied": False, "errors": list(requirements)}
        raise Problem(412, "requirements_not_met", f"requirements not met: {requirements[0]['message']}", extra=extra)


def _run_at(body: Json) -> datetime | None:
    text = _text(body, "run_at")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise invalid_field("run_at", f"{text[:40]!r} is not an RFC 3339 time") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _echoed_fields(body: Json) -> Json:
    infra = _text(body, "infra") or "cloud"
    if infra not in _INFRA:
        raise invalid_field("infra", f"{infra!r} is none of {', '.join(_INFRA)}")
    variant = _text(body, "variant") or "default"
    if variant != "default":
        raise invalid_field("variant", f"{variant!r} is unknown; the sandbox has only 'default'")
    return {
        "infra": infra,
        "workers": body.get("workers") or [],
        "webhook": _text(body, "webhook") or None,
        "app_variant": variant,
        "metadata": body.get("metadata"),
        "session_timeout": body.get("session_timeout"),
    }
