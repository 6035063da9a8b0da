"""Errors as answers: the code, what failed, what was started, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import without_none
from inferencesh_mcp.errors import InferenceError, InternalError, PaymentRequired
from inferencesh_mcp.sanitize import clean, quoted, with_full_stop
from inferencesh_mcp.tools.results import build_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_types import CallToolResult

    from inferencesh_mcp.errors import Requirement


def error_result(exc: InferenceError) -> CallToolResult:
    """Build the result of a failed call: the code, what was started, and what to do."""
    ids = {"task_id": exc.task_id} if exc.task_id else {}
    return build_result(error_text(exc), {**ids, "error": error_data(exc)}, failed=True)


def error_data(exc: InferenceError) -> dict[str, Any]:
    """An error as a JSON object. Fields that do not apply are left out."""
    return without_none(
        code=exc.code,
        message=_sentence(exc.message),
        outcome=exc.outcome,
        task_id=exc.task_id,
        error_id=exc.error_id if isinstance(exc, InternalError) else None,
        retry_safe=exc.retry_safe,
        upstream_code=exc.upstream_code or None,
        retry_after_seconds=exc.retry_after or None,  # zero seconds is no advice
        candidates=list(exc.candidates) or None,
        suggestions=list(exc.suggestions) or None,
        requirements=[requirement_data(requirement) for requirement in exc.requirements] or None,
        next=exc.next_step or None,
    )


def requirement_data(requirement: Requirement) -> dict[str, Any]:
    """A missing requirement as a JSON object."""
    return without_none(
        type=requirement.kind,
        key=requirement.key,
        message=requirement.message,
        action=requirement.action,
        details=list(requirement.details) or None,
    )


def requirement_lines(requirements: Sequence[Requirement]) -> list[str]:
    """A line for each missing requirement, and below it the details from the provider."""
    lines: list[str] = []
    for requirement in requirements:
        lines.append(f"- {quoted(requirement.message, 200)}{f' → {requirement.action}' if requirement.action else ''}")
        lines += [f"  {detail}" for detail in requirement.details]
    return lines


def _sentence(text: str) -> str:
    """A message as a sentence. Only a plain word gets a capital letter; names stay as they are."""
    sentence = with_full_stop(clean(text, 2000))
    return sentence[0].upper() + sentence[1:] if sentence.split()[0].isalpha() else sentence


def _consequence(exc: InferenceError) -> str:
    match exc.outcome:
        case "not_started":  # only the API can say whether a refused payment was charged
            return "Nothing was started." if isinstance(exc, PaymentRequired) else "Nothing was started or charged."
        case "started":
            detail = f" and may go on. Task: {exc.task_id}" if exc.task_id else "; it may be charged."
            return f"The run was started{detail}"
        case _:
            return "Whether a run was started is unknown."


def error_text(exc: InferenceError) -> str:
    """An error as text: the code, what failed, what was started, and what to do next."""
    lines = [f"{exc.code}: {_sentence(exc.message)}"]
    lines += requirement_lines(exc.requirements)
    if exc.suggestions:
        lines.append(f"Did you mean {', '.join(exc.suggestions)}?")
    if exc.outcome:
        lines.append(_consequence(exc))
    if exc.next_step:
        lines.append(f"Next: {exc.next_step}")
    return "\n".join(lines)
