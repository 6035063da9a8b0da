"""Turns the status, headers and body of an HTTP error into one typed error. Pure: no I/O.

Understood are `application/problem+json` (RFC 9457), the v1 envelope `{"success": false, "error": {…}}`, the oldest
`{"error": {…}}`, the 412's `{"errors": […]}` flat or nested, and a 2xx with `success: false`. Any other body is never shown:
it is a page of something between us and the API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.enums import plain_word
from inferencesh_mcp.api.headers import rate_limit_reset, retry_after
from inferencesh_mcp.api.json import NotJson, as_object, as_text, is_array, is_object, items, parse, texts
from inferencesh_mcp.errors import (
    Conflict,
    Forbidden,
    Gone,
    InferenceError,
    InvalidInput,
    KeyRefused,
    NotFound,
    PaymentRequired,
    RateLimited,
    Requirement,
    RequirementsNotMet,
    SessionEnded,
    SessionExpired,
    SessionNotFound,
    TimedOut,
    Unavailable,
    UpstreamError,
    WorkerLost,
)
from inferencesh_mcp.redaction import without_secrets
from inferencesh_mcp.sanitize import address, clean, label, quoted, token

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REQUIREMENTS = 20
MAX_DETAILS = 12
"""Lines that a requirement's provider may add: the meaning of scopes, instructions, a website."""
MAX_MESSAGE_LENGTH = 500
"""Longest message, in characters."""
DASHBOARD = "https://inference.sh"

_CLASSES: dict[int, type[InferenceError]] = {
    400: InvalidInput,
    401: KeyRefused,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    408: TimedOut,
    409: Conflict,
    410: Gone,
    412: RequirementsNotMet,
    413: InvalidInput,
    422: InvalidInput,
    429: RateLimited,
}
_NEXT_STEPS: dict[type[InferenceError], str] = {
    InvalidInput: "Correct this and call again; app_get shows what an app takes.",
    NotFound: "Check the name or id: app_list, task_list, file_list, session_list and agent_list show what there is.",
    Conflict: "Read its current state before you call again.",
    Gone: "It no longer exists: choose another.",
    Forbidden: f"Use a key with this permission; keys are made in the dashboard at {DASHBOARD}.",
    RequirementsNotMet: "A person has to do this; then call again.",
    UpstreamError: "Call again later; if it fails again, report it to inference.sh.",
    KeyRefused: f"Make a key in the dashboard at {DASHBOARD} and set it as INFERENCE_API_KEY.",
    PaymentRequired: f"Add credit or a way to pay at {DASHBOARD}, then call again.",
    RateLimited: "Wait, then call again.",
    Unavailable: "Call again in a minute.",
    TimedOut: "Call again in a minute.",
}
_CLASSES_BY_CODE: dict[str, type[InferenceError]] = {
    "SESSION_NOT_FOUND": SessionNotFound,
    "SESSION_EXPIRED": SessionExpired,
    "SESSION_ENDED": SessionEnded,
    "WORKER_LOST": WorkerLost,
}
_SIGN_IN = f"A person has to do this, signed in at {DASHBOARD}."
_WRITE_TO_SUPPORT = f"Only inference.sh can lift this: the account's owner writes to its support at {DASHBOARD}."
_STEPS_BY_CODE = {
    "account_banned": _WRITE_TO_SUPPORT,
    "account_deactivated": _WRITE_TO_SUPPORT,
    "admin_required": "Ask an administrator of the workspace to do this.",
    "agents_disabled": "Agents are switched off in this workspace; ask its owner to allow them.",
    "already_exists": "Choose another name, or use the existing one.",
    "app_maintenance": "The app is in maintenance: call again later, or choose another with app_list.",
    "app_retired": "The app no longer exists: find another with app_list.",
    "blocked_by_usage_policy": "Ask for something else, or ask the workspace's owner to change its usage policy.",
    "browser_session_required": _SIGN_IN,
    "cli_session_required": _SIGN_IN,
    "entitlement_unavailable": "The plan's limits could not be checked: call again in a minute.",
    "feature_not_available": f"The plan does not include this: a person can change it at {DASHBOARD}.",
    "harness_not_drivable": "Choose another agent: nothing can send messages to this one.",
    "harness_too_old": "A person has to update that agent's program on its machine.",
    "insufficient_scope": f"Use a key with that scope; keys are made in the dashboard at {DASHBOARD}.",
    "invalid_transition": "It has ended or changed: read its state with task_get.",
    "limit_exceeded": f"Use less, or wait; a person can raise the limit at {DASHBOARD}.",
    "mcp_auth_expired": f"A person has to connect that MCP server again at {DASHBOARD}.",
    "name_conflict": "Choose another name, or use the existing one.",
    "not_configured": f"A person has to set this up at {DASHBOARD}; then call again.",
    "otp_required": _SIGN_IN,
    "payment_method_required": f"A person has to add a way to pay at {DASHBOARD}; then call again.",
    "payment_required": f"Add credit at {DASHBOARD}, then call again.",
    "person_required": _SIGN_IN,
    "remote_offline": "Start the remote machine and its program, or run this elsewhere.",
    "remote_timeout": "The remote machine did not answer: check that it runs before you call again.",
    "requires_sign_in": _SIGN_IN,
    "team_role_required": "Ask a person with that role in the workspace, or ask for the role.",
    "SESSION_NOT_FOUND": 'Check the id with `session_list`, or start a new session with session="new".',
    "SESSION_EXPIRED": 'Its state is lost. Start a new one with session="new" and a longer session_timeout.',
    "SESSION_ENDED": 'Its state is lost. Start a new one with session="new".',
    "WORKER_LOST": 'Its state is lost. Start a new one with session="new"; the interrupted run may be charged.',
    "WORKER_LEASED": "Another run is using the session: wait for it, then call again.",
    "APP_MISMATCH": 'A session belongs to one app: use the app it was started with, or session="new".',
    "VERSION_MISMATCH": 'A session belongs to one version of its app: use that version, or session="new".',
}
LASTING = frozenset({"app_maintenance"})
"""Codes of states that outlast a call: such an answer is final, even if its status could be retried."""
_ENVELOPE = frozenset({"data", "messages", "success", "status", "error"})


@dataclass(frozen=True, kw_only=True)
class Unwrapped:
    """A successful answer: its value, and the API's warnings."""

    value: Any
    warnings: tuple[str, ...] = ()


def problem(status: int, headers: Mapping[str, str], payload: dict[str, Any]) -> InferenceError:
    """The error for an answer with this status and body. `headers` have lower-case names."""
    code = _code(payload)
    kind = _CLASSES_BY_CODE.get(code) or _class(status, payload)
    missing = requirements(_listed(payload, "errors")) if kind is RequirementsNotMet else ()
    wait = _seconds_to_wait(status, headers)
    return kind(
        message=_message(status, payload, missing),
        next_step=_next_step(code, payload, wait) or _NEXT_STEPS.get(kind, ""),
        status=status,
        upstream_code=code,
        retry_after=wait,
        suggestions=_suggestions(payload),
        requirements=missing,
    )


def unwrap(value: Any) -> Unwrapped | InferenceError:
    """The value inside a 2xx in any of its three forms, or the error that the 2xx reports."""
    if not is_object(value):
        return Unwrapped(value=value)
    if value.get("success") is False and value.keys() <= _ENVELOPE | {"detail", "title", "type", "errors", "message"}:
        return problem(_status_of(value), {}, value)
    if "data" in value and value.keys() <= _ENVELOPE:
        return Unwrapped(value=value["data"], warnings=_warnings(value.get("messages")))
    return Unwrapped(value=value)


def error_payload(body: bytes) -> dict[str, Any]:
    """The object in an error's body; empty if there is none."""
    try:
        return as_object(parse(body))
    except NotJson:
        return {}


def is_api_error(payload: dict[str, Any]) -> bool:
    """Whether a body has the form of the API's own errors, so the API itself refused."""
    return bool(payload) and (
        isinstance(payload.get("error"), dict | str) or {"type", "title", "detail"} & payload.keys() != set()
    )


def requirements(errors: Any) -> tuple[Requirement, ...]:
    """Each `{type, key, message, action}` as a Requirement whose action is a sentence."""
    return tuple(_requirement(error) for error in items(errors)[:MAX_REQUIREMENTS] if is_object(error))


def _safe(text: str) -> str:
    """Text of the API as it may be shown in an error: one short line without keys and signatures."""
    return clean(without_secrets(text[: MAX_MESSAGE_LENGTH * 4]), MAX_MESSAGE_LENGTH - 100)


def _next_step(code: str, payload: dict[str, Any], wait: float | None) -> str:
    """The next step for a code, with details from the error's `meta` and headers."""
    step = _STEPS_BY_CODE.get(code, "")
    meta = next((place["meta"] for place in _places(payload) if is_object(place.get("meta"))), payload)
    wait_text = f"It asks to wait {wait:.0f} s." if wait and code in LASTING else ""
    return " ".join(filter(None, (step, wait_text, _meta_details(code, meta)))) if step else ""


def _meta_details(code: str, meta: dict[str, Any]) -> str:
    if code in {"insufficient_scope", "requires_sign_in"}:
        return _labelled("Scope", meta.get("required_scope"))
    if code == "team_role_required":
        return _labelled("Role", meta.get("required_role"))
    if code in {"limit_exceeded", "feature_not_available"}:
        return _entitlement(meta)
    return ""


def _labelled(label: str, value: Any) -> str:
    text = _short(value)
    return f"{label}: {text}." if text else ""


def _entitlement(meta: dict[str, Any]) -> str:
    """What a plan allows and how much of it is used, as far as `meta` says."""
    resource = _short(meta.get("resource_label")) or _short(meta.get("resource"))
    counts = [count for name in ("current", "limit") if isinstance(count := meta.get(name), int)]
    used = f", {counts[0]} of {counts[1]} used" if len(counts) == 2 else ""
    addon = _short(meta.get("addon_plan_name")) if meta.get("upgrade_available") is True else ""
    return " ".join(filter(None, (f"Limit: {resource}{used}." if resource else "", _labelled("Offered plan", addon))))


def _seconds_to_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that the API asks to wait; for a rate limit without `Retry-After`, until it resets."""
    seconds = retry_after(headers)
    return rate_limit_reset(headers) if seconds is None and status == 429 else seconds


def _class(status: int, payload: dict[str, Any]) -> type[InferenceError]:
    if status >= 500:
        return Unavailable
    if status == 412 and _listed(payload, "errors") is None:
        return UpstreamError
    return _CLASSES.get(status, UpstreamError)


def _message(status: int, payload: dict[str, Any], missing: tuple[Requirement, ...]) -> str:
    if missing:
        details = "; ".join(requirement.message for requirement in missing)
    else:
        details = "; ".join(filter(None, (_detail(payload), _field_errors(payload))))
    if 300 <= status < 400:
        details = "it points elsewhere, which is never followed; check the base URL"
    return clean(f"inference.sh answered {status}" + (f": {_safe(details)}" if details else ""), MAX_MESSAGE_LENGTH)


def _status_of(payload: dict[str, Any]) -> int:
    """The status inside a body; 500 if that is not an error's status."""
    status = payload.get("status")
    return status if isinstance(status, int) and 300 <= status < 600 else 500


def _detail(payload: dict[str, Any]) -> str:
    error = as_object(payload.get("error"))
    return _first_text(
        payload.get("detail"),
        error.get("message"),
        payload.get("message"),
        payload.get("error"),
        payload.get("title"),
    )


def _first_text(*values: Any) -> str:
    return next((value for value in values if isinstance(value, str) and value), "")


def _code(payload: dict[str, Any]) -> str:
    """The code: of `error`, else of the problem itself, else the last segment of its `type`."""
    kind = as_text(payload.get("type"))
    tail = "" if kind == "about:blank" else kind.rstrip("/").rpartition("/")[2]
    return token(_first_text(as_object(payload.get("error")).get("code"), payload.get("code"), tail), 64)


def _places(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects in which newer and older forms keep an error's fields, likeliest first."""
    error = as_object(payload.get("error"))
    places = (payload, error, payload.get("data"), payload.get("meta"), error.get("meta"))
    return [place for place in places if is_object(place)]


def _listed(payload: dict[str, Any], name: str) -> list[Any] | None:
    return next((place[name] for place in _places(payload) if is_array(place.get(name))), None)


def _suggestions(payload: dict[str, Any]) -> tuple[str, ...]:
    return tuple(token(without_secrets(text), 160) for text in texts(_listed(payload, "suggestions"))[:10])


def _field_errors(payload: dict[str, Any]) -> str:
    """The first few `{field, message}` of an error that lists invalid fields."""
    return "; ".join(text for error in items(_listed(payload, "errors"))[:5] if (text := _field_error(error)))


def _field_error(error: Any) -> str:
    if not is_object(error):
        return as_text(error)
    name = error.get("field") or error.get("key") or error.get("path")
    text = error.get("message") or error.get("detail")
    return ": ".join(part for part in (name, text) if isinstance(part, str))


def _requirement(error: dict[str, Any]) -> Requirement:
    kind, key, message = (_short(error.get(name)) for name in ("type", "key", "message"))
    action = as_object(error.get("action"))
    return Requirement(
        kind=kind or "requirement",
        key=key,
        message=message or f"{kind or 'requirement'} {key} is missing".replace("  ", " "),
        action=_action(action, key),
        details=_details(action),
    )


def _action(action: dict[str, Any], key: str) -> str:
    provider = label(_short(action.get("provider_name")) or _short(action.get("provider")) or key)
    scopes = ", ".join(map(label, _short_texts(action.get("scopes"))))
    secrets = [label(name) for name in _short_texts(action.get("secrets")) or [key]]
    sentences = {
        "add_secret": f"Add the secret{'s' if len(secrets) > 1 else ''} {', '.join(secrets)} at {DASHBOARD}.",
        "connect": f"Connect {provider} at {DASHBOARD}.",
        "add_scopes": f"Connect {provider} again at {DASHBOARD} and grant {scopes or 'the missing scopes'}.",
    }
    kind = plain_word(_short(action.get("type")))
    return sentences.get(kind, f"Do this at {DASHBOARD}: {kind.replace('_', ' ')}." if kind else "")


def _details(action: dict[str, Any]) -> tuple[str, ...]:
    """What the provider adds to an action, one line each, quoted because it is foreign text."""
    scopes = list(as_object(action.get("scope_descriptions")).items())[:10]
    lines = [f"Scope {label(_short(name))}: {quoted(_short(text), 300)}" for name, text in scopes if _short(text)]
    if instructions := _short(action.get("instructions")):
        lines.append(f"The provider's instructions: {quoted(instructions, 1000)}")
    if (website := _short(action.get("provider_website"))).startswith("https://"):
        lines.append(f"The provider's website: {address(website)}")
    return tuple(lines[:MAX_DETAILS])


def _short_texts(value: Any) -> list[str]:
    return [text for item in items(value)[:10] if (text := _short(item))]


def _warnings(messages: Any) -> tuple[str, ...]:
    warnings = (
        as_object(message).get("message")
        for message in items(messages)[:10]
        if as_object(message).get("level") in ("warning", "warn", "error")
    )
    return tuple(_safe(text) for text in warnings if isinstance(text, str))


def _short(value: Any) -> str:
    return clean(without_secrets(as_text(value)[:1000]), 200)
