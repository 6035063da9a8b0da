"""The result of a batch: every id first, then the errors, then as many outputs as fit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.flows.batch import Skipped
from inferencesh_mcp.flows.output_files import output_files
from inferencesh_mcp.sanitize import framed
from inferencesh_mcp.tools.results import DATA, MAX_LINKS, NOTE, FileLink, build_result, error_data, failure_reason
from inferencesh_mcp.tools.truncate import MAX_OUTPUT_TOKENS, as_json, fit, tokens

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from inferencesh_mcp.flows.batch import End

Row = dict[str, Any]

BEGAN = {"not_started": "(not started) ", "started": "(started) ", "unknown": "(may have started) "}


def batch(app: str, ends: list[End]) -> CallToolResult:
    """Build the result of a batch, in the order of the inputs. It is an error only if every input failed."""
    rows = [_row(number, end) for number, end in enumerate(ends)]
    room = _filled(rows, "error", [_error(end) for end in ends], MAX_OUTPUT_TOKENS - tokens(as_json(rows)))
    _filled(rows, "output", [fit(_output(end), MAX_OUTPUT_TOKENS // 4).value for end in ends], room)
    counts = Counter(row["status"] for row in rows)
    told: dict[str, Any] = {"app": app, "counts": dict(counts)}
    if any("output" in row for row in rows):
        told["note"] = NOTE
    told["results"] = rows
    following = _next(rows)
    head = f"{app} on {len(rows)} input{'' if len(rows) == 1 else 's'}: " + ", ".join(
        f"{count} {status}" for status, count in counts.items()
    )
    lines = [head, *(f"Next: {step}" for step in following), DATA, framed("\n".join(map(_line, rows)))]
    links = [FileLink.of(file) for end in ends for file in output_files(_output(end), MAX_LINKS)]
    if following:
        told["next"] = " ".join(following)
    return build_result("\n".join(lines), told, links, failed=all("error" in row for row in rows))


def _row(number: int, end: End) -> Row:
    """The fields that every input has, however many there are: its id, and the code of its error."""
    match end:
        case Skipped():
            return {"index": number, "status": "not_started"}
        case InferenceError():
            known = {"task_id": end.task_id} if end.task_id else {}
            return {"index": number, "status": "error", **known, "error": {"code": end.code}}
        case _:
            failure = {"error": {"code": f"task_{end.task.status}"}} if failure_reason(end.task) else {}
            return {"index": number, "status": end.task.status, "task_id": end.task.id, **failure}


def _error(end: End) -> Row | None:
    if isinstance(end, InferenceError):
        return error_data(end)
    return None if isinstance(end, Skipped) else failure_reason(end.task)


def _output(end: End) -> Any:
    return None if isinstance(end, (Skipped, InferenceError)) else end.task.output


def _filled(rows: list[Row], name: str, values: list[Any], room: int) -> int:
    """Put each value into its row while it fits; return the tokens that are left."""
    for row, value in zip(rows, values, strict=True):
        cost = tokens(as_json(value)) + 8
        if value is not None and cost <= room:
            row[name] = value
            room -= cost
    return room


def _next(rows: list[Row]) -> list[str]:
    live = [
        row["task_id"]
        for row in rows
        if row["status"] not in {"error", "not_started", "completed"} and "error" not in row
    ]
    late = [str(row["index"]) for row in rows if row["status"] == "not_started"]
    short = any(row["status"] == "completed" and "output" not in row for row in rows)
    steps = (
        [f"Still running: {len(live)}. Follow each with task_get(task_id, wait_seconds=45); do not run them again."]
        if live
        else []
    )
    if late:
        steps.append(f"Not started: inputs {late[0]} to {late[-1]}. Call app_run_many with these alone.")
    return [*steps, "Outputs that are not shown here: task_get(task_id), or file_save(task_id)."] if short else steps


def _line(row: Row) -> str:
    error = f": {row['error']['code']}: {row['error'].get('message', '')}" if "error" in row else ""
    output = f": {as_json(row['output'])}" if "output" in row else ""
    began = BEGAN.get(row["error"].get("outcome", ""), "") if row["status"] == "error" else ""
    return f"{row['index']}. {row['status']} {began}{row.get('task_id', '')}".rstrip() + error + output
