"""A task's record and one line of its stream make the task's next record. Pure: no I/O.

What a line may be: a heartbeat; a whole task; `{data, fields}`, of which only the named fields count; `{data}`;
`{event, data}`; a delta of text; anything else, which changes nothing. See `merge`.
"""

from __future__ import annotations

from typing import Any

from inferencesh_mcp.api.enums import ENDED, status_word
from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.api.models import Task

Record = dict[str, Any]

STREAMED = "streamed"
"""Where the record keeps what deltas made so far: the shape of an LLM's output (response, reasoning, tool_calls)."""

LONGEST = 4 * 1024 * 1024  # characters of one text that deltas make: of a longer one, the newest are kept
FIELDS = frozenset(Task.model_fields) - {STREAMED}
"""What is kept of a line: what else it names would be held for nothing, and there is no end to names."""


def is_heartbeat(line: Record) -> bool:
    return line.get("type") == "heartbeat"


def merge(record: Record, line: Record) -> Record:
    """The record after the line; the same object when the line changes nothing. A record that has ended stays."""
    if is_heartbeat(line) or has_ended(record):
        return record
    if line.get("event") == "delta":
        return _with_delta(record, line.get("data"))
    return _with_news(record, _news(line))


def has_ended(record: Record) -> bool:
    return status_word(record.get("status")) in ENDED


def _news(line: Record) -> Record:
    """The fields that a line tells, wherever it keeps them."""
    data = line.get("data")
    if not is_object(data):
        return line if "status" in line or "id" in line else {}
    fields = line.get("fields")
    names = fields if is_array(fields) else []
    return {name: data[name] for name in names if isinstance(name, str) and name in data} or data


def _with_news(record: Record, news: Record) -> Record:
    if _another_id(record, news):
        return record
    kept = {name: news[name] for name in news.keys() & FIELDS if news[name] is not None or name != "status"}
    merged = {**record, **kept}
    return record if merged == record else merged


def _another_id(record: Record, news: Record) -> bool:
    """Whether the news are of something else: some events carry an object of their own, with an id."""
    mine = (record.get("id"), record.get("short_id"))
    return news.get("id") is not None and record.get("id") is not None and news["id"] not in mine


def _with_delta(record: Record, data: Any) -> Record:
    delta = data.get("delta") if is_object(data) else None
    more = {"response": delta} if isinstance(delta, str) else delta
    if not is_object(more) or not more:
        return record
    so_far = record.get(STREAMED)
    return {**record, STREAMED: merge_delta(so_far if is_object(so_far) else {}, more)}


def merge_delta(so_far: Record, delta: Record) -> Record:
    """The text of an LLM's output with one delta more, as far as a person sees it grow; the rest comes with the record."""
    told = {name: delta[name] for name in ("response", "reasoning") if delta.get(name) is not None}
    return {**so_far, **{name: _joined(so_far.get(name), value) for name, value in told.items()}}


def _joined(so_far: Any, more: Any) -> str:
    return ((so_far if isinstance(so_far, str) else "") + (more if isinstance(more, str) else ""))[-LONGEST:]
