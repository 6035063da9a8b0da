"""Merges the lines of a task's stream into the task's record. Pure: no I/O.

A line may be: a heartbeat; a whole task; `{data, fields}`, of which only the named fields count; `{data}`;
`{event, data}`; a delta of text; anything else, which changes nothing. See `merge`.
"""

from __future__ import annotations

from typing import Any

from inferencesh_mcp.api.enums import ENDED, status_word
from inferencesh_mcp.api.json import as_object, as_text, is_object, texts
from inferencesh_mcp.api.models import Task

Record = dict[str, Any]

STREAMED = "streamed"
"""The record's field for the text from deltas."""
LONGEST = 4 * 1024 * 1024
"""Characters of one text made of deltas; of a longer one only the end is kept."""
FIELDS = frozenset(Task.model_fields) - {STREAMED}
"""The fields of a line that are kept; others would only use memory, without a limit."""


def merge(record: Record, line: Record) -> Record:
    """The record after the line; the same object if nothing changes. A record that has ended does not change."""
    if has_ended(record):
        return record
    if line.get("event") == "delta":
        text = delta_text(line.get("data"))
        return {**record, STREAMED: appended(record.get(STREAMED, ""), text)} if text else record
    return _with_news(record, _news(line))


def has_ended(record: Record) -> bool:
    return status_word(record.get("status")) in ENDED


def delta_text(data: Any) -> str | None:
    """The text of a delta, which is a string or an object with `response`; None if there is no delta."""
    delta = as_object(data).get("delta")
    if not is_object(delta):
        return delta if isinstance(delta, str) else None
    return as_text(delta.get("response"))


def appended(text: str, more: str) -> str:
    """The text with one more delta; at most the last `LONGEST` characters."""
    return (text + more)[-LONGEST:]


def named_fields(data: Record, names: object) -> Record:
    """The fields that a line names; all of them if it names none that is there."""
    return {name: data[name] for name in texts(names) if name in data} or data


def _news(line: Record) -> Record:
    """The fields in a line, wherever it keeps them."""
    data = line.get("data")
    if is_object(data):
        return named_fields(data, line.get("fields"))
    return line if "status" in line or "id" in line else {}


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
