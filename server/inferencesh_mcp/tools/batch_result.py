"""The result of a batch: every id first, then the errors, then as many outputs as fit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.json import without_none
from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.flows.batch import Skipped
from inferencesh_mcp.flows.run import RunResult
from inferencesh_mcp.flows.run_details import status_of
from inferencesh_mcp.sanitize import fenced
from inferencesh_mcp.tools.error_results import error_data
from inferencesh_mcp.tools.results import (
    DATA,
    MAX_FILES_READ,
    NOTE,
    FileLink,
    assemble,
    failure_reason,
    file_links,
    links_that_fit,
    split_metering,
    uploaded_fields,
    uploaded_lines,
)
from inferencesh_mcp.tools.truncate import PART_TOKENS, SHOWN_TOKENS, as_json, show, tokens
from inferencesh_mcp.tools.units import charge_text, charged_text, total_price

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp_types import CallToolResult

    from inferencesh_mcp.flows.batch import End

Row = dict[str, Any]

MIN_ADDRESSES = 50  # of one output that are looked at
MIN_TOKENS = 10  # any value takes so many
START_NOTES = {"not_started": "(not started) ", "started": "(started) ", "unknown": "(may have started) "}


def batch_result(app: str, outcomes: list[End]) -> CallToolResult:
    """Build the result of a batch, in the order of the inputs. It is an error only if every input failed."""
    rows = [_row(number, outcome) for number, outcome in enumerate(outcomes, 1)]
    tokens_left = _fill(rows, "error", [_error(outcome) for outcome in outcomes], PART_TOKENS - tokens(as_json(rows)))
    outputs = [split_metering(outcome.task)[0] if isinstance(outcome, RunResult) else None for outcome in outcomes]
    each = max(MIN_ADDRESSES, MAX_FILES_READ // len(rows))
    files = [
        file_links(output, outcome.details.files, each) if isinstance(outcome, RunResult) else []
        for output, outcome in zip(outputs, outcomes, strict=True)
    ]
    shown = (None if output is None else show(output, SHOWN_TOKENS).value for output in outputs)
    tokens_left = _fill(rows, "output", shown, tokens_left)
    _fill(rows, "files", [[file.model_dump(exclude_none=True) for file in part] or None for part in files], tokens_left)
    counts = Counter(row["status"] for row in rows)
    next_steps = _next(rows)
    runs = [outcome for outcome in outcomes if isinstance(outcome, RunResult)]
    charged = charged_text([run.details.charge for run in runs if run.task.ended])
    running = total_price([run.details.estimate for run in runs if not run.task.ended])
    uploaded = uploaded_fields(file for run in runs for file in run.uploaded)
    fields = without_none(
        app=app,
        counts=dict(counts),
        charged=charged,
        estimate_of_running=running or None,
        uploaded=uploaded or None,
        note=NOTE if any("output" in row for row in rows) else None,
        results=rows,
        next=" ".join(next_steps) or None,
    )
    head = f"{app} on {len(rows)} input{'' if len(rows) == 1 else 's'}: " + ", ".join(
        f"{count} {status}" for status, count in counts.items()
    )
    lines = [head, f"Charged: {charged}", *([f"Estimate for what still runs: {running}"] if running else [])]
    lines += uploaded_lines(uploaded)
    lines += [*(f"Next: {step}" for step in next_steps), f"Results ({DATA}):", fenced("\n".join(map(_line, rows)))]
    failed = all("error" in row for row in rows)
    links = links_that_fit([file for part in files for file in part])
    return assemble("\n".join(lines), fields, links, failed=failed)


def _row(number: int, outcome: End) -> Row:
    """The fields that every input has, however many there are: its id, and the code of its error."""
    match outcome:
        case Skipped():
            return {"number": number, "status": "not_started"}
        case InferenceError():
            ids = {"task_id": outcome.task_id} if outcome.task_id else {}
            return {"number": number, "status": "error", **ids, "error": {"code": outcome.code}}
        case _:
            task, charge = outcome.task, outcome.details.charge
            failure = {"error": {"code": f"task_{status_of(task)}"}} if failure_reason(task) else {}
            charged = {"charge": charge_text(charge)} if task.ended else {}
            return {"number": number, "status": status_of(task), "task_id": task.id, **charged, **failure}


def _error(outcome: End) -> Row | None:
    if isinstance(outcome, InferenceError):
        return error_data(outcome)
    return failure_reason(outcome.task) if isinstance(outcome, RunResult) else None


def _fill(rows: list[Row], name: str, values: Iterable[Any], tokens_left: int) -> int:
    """Put each value into its row while it fits; return the tokens that are left."""
    for row, value in zip(rows, values, strict=False):
        if tokens_left < MIN_TOKENS:
            break
        cost = tokens(as_json(value)) + 8
        if value is not None and cost <= tokens_left:
            row[name] = value
            tokens_left -= cost
    return tokens_left


def _next(rows: list[Row]) -> list[str]:
    running = [
        row["task_id"]
        for row in rows
        if row["status"] not in {"error", "not_started", "completed"} and "error" not in row
    ]
    not_started = [str(row["number"]) for row in rows if row["status"] == "not_started"]
    has_hidden_outputs = any(row["status"] == "completed" and "output" not in row for row in rows)
    steps: list[str] = []
    if running:
        steps.append(
            f"Still running: {len(running)}. Follow each with task_get(task_id, wait_seconds=45); do not run them again."
        )
    if not_started:
        steps.append(f"Not started: inputs {not_started[0]} to {not_started[-1]}. Call app_run_many with these alone.")
    if has_hidden_outputs:
        steps.append("Outputs that are not shown here: task_get(task_id), or file_save.")
    return steps


def _line(row: Row) -> str:
    error = f": {row['error']['code']}: {row['error'].get('message', '')}" if "error" in row else ""
    output = f": {as_json(row['output'])}" if "output" in row else ""
    files = "; ".join(FileLink(**file).described() for file in row.get("files", ()))
    charge = f", charge {row['charge']}" if "charge" in row else ""
    note = START_NOTES.get(row["error"].get("outcome", ""), "") if row["status"] == "error" else ""
    head = f"{row['number']}. {row['status']} {note}{row.get('task_id', '')}".rstrip()
    return head + charge + error + output + (f" Files: {files}" if files else "")
