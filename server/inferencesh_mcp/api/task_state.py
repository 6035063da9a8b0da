"""Merges the lines of a task's stream into the task's record. Pure: no I/O.

A line may be: a heartbeat; a whole task; `{data, fields}`, of which only the named fields count; `{data}`;
`{event, data}`; a delta of text; anything else, which changes nothing. See `merge`.
"""

from __future__ import annotations

from typing import Any

from inferencesh_mcp.api.enums import ENDED, status_word
from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.api.models import Task

Record = dict[str, Any]

STREAMED = "streamed"
"""The record's field for accumulated deltas, in the form of an LLM's output (response, reasoning, tool_calls)."""

LONGEST = 4 * 1024 * 1024
"""Characters of one text made of deltas; of a longer one only the end is kept."""
FIELDS = frozenset(Task.model_fields) - {STREAMED}
"""The fields of a line that are kept; others would only use memory, without a limit."""


def is_heartbeat(line: Record) -> bool:
    return line.get("type") == "heartbeat"


def merge(record: Record, line: Record) -> Record:
    """The record after the line; the same object if nothing changes. A record that has ended does not change."""
    if is_heartbeat(line) or has_ended(record):
        return record
    if line.get("event") == "delta":
        return _with_delta(record, line.get("data"))
    return _with_news(record, _news(line))


def has_ended(record: Record) -> bool:
    return status_word(record.get("status")) in ENDED


def _news(line: Record) -> Record:
    """The fields in a line, wherever it keeps them."""
    data = line.get("data")
    if not is_object(data):
        return line if "status" in line or "id" in line else {}
    fields = line.get("fields")
    names = fields if is_array(fields) else []
    return {name: data[name] for name in names if isinstance(name, str) and name in data} or data


def _with_news(record: Record, news: Record) -> Record:
    if _is_other_object(record, news):
        return record
    fields = {name: news[name] for name in news.keys() & FIELDS if news[name] is not None or name != "status"}
    merged = {**record, **fields}
    return record if merged == record else merged


def _is_other_object(record: Record, news: Record) -> bool:
    """Whether the line is about another object: some events carry an object with its own id."""
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
    """The text and reasoning of an LLM's output after one more delta; the rest arrives with the record."""
    texts = {name: delta[name] for name in ("response", "reasoning") if delta.get(name) is not None}
    return {**so_far, **{name: _joined(so_far.get(name), value) for name, value in texts.items()}}


def _joined(so_far: Any, more: Any) -> str:
    return ((so_far if isinstance(so_far, str) else "") + (more if isinstance(more, str) else ""))[-LONGEST:]
