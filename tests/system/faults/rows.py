"""The faults X-1 to X-50: what each is, and on which wires it can happen at all.

A test names its rows with a marker, `@pytest.mark.fault("X-8", "X-11")`, or by an id of its parameters that begins with `X-8`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TypeVar

import pytest

_Number = TypeVar("_Number", int, float)
ALL = os.environ.get("TEST_FAULTS") == "all"
"""What is done by the thousand is done in full, as `make faults` does, and not in part, as the tests do every time."""


def many(whole: _Number, part: _Number) -> _Number:
    return whole if ALL else part


@dataclass(frozen=True)
class Row:
    title: str
    wires: frozenset[str] = frozenset({"pipe", "HTTP"})


def _pipe(title: str) -> Row:
    return Row(title, frozenset({"pipe"}))


def _http(title: str) -> Row:
    return Row(title, frozenset({"HTTP"}))


_ROWS = [
    Row("a start whose connection is refused"),
    Row("a connect or a TLS handshake that hangs"),
    Row("a start whose reply is lost"),
    Row("the same, and no list shows the task"),
    Row("the same, and two tasks fit, or another call's"),
    Row("a stream that is reset: before, amid and at its end"),
    Row("a stream that ends early, as if all were well"),
    Row("bad, cut, blank and odd lines"),
    Row("a line of 10 MB, a line without end"),
    Row("a status that nobody knows"),
    Row("lines twice, out of order, out of date"),
    Row("a task that is over in the reply to its start"),
    Row("429 with Retry-After, once"),
    Row("429 for ever"),
    Row("a page of something in between: 502"),
    Row("500 and 503 without a promise"),
    Row("every refusal: 401 to 422"),
    Row("an answer that drips; an error without end"),
    Row("an answer that is packed: a bomb"),
    Row("a head without end, a thousand interim answers"),
    Row("a session that expired, was ended, is not there"),
    Row("a worker that is lost"),
    Row("an upload's address that ran out"),
    Row("an upload that is slow, stalls or breaks"),
    Row("an upload's success before its end"),
    _pipe("a file that changes while it is sent"),
    Row("a caller who leaves amid an upload"),
    _pipe("a download: full disk, no permission, odd names"),
    Row("a caller who leaves amid a run"),
    Row("a caller who leaves amid a start"),
    Row("a cancel that fails"),
    Row("a cancel that crosses the end"),
    _pipe("the end of input amid runs"),
    Row("SIGTERM amid runs"),
    Row("SIGKILL amid a run, and the call made again"),
    Row("a call made again because its answer was lost"),
    Row("a stream that is silent, or only beats"),
    Row("1,000 runs at once, 5 % of them with such faults"),
    _http("a caller at its limits beside one who is not"),
    Row("a platform that takes calls and never answers"),
    _http("connections that are opened and not used"),
    Row("clocks that are wrong, here or there"),
    Row("messages that are none"),
    _pipe("prints, writes and children on the way of frames"),
    Row("arguments that are nearly right"),
    Row("JSON from upstream that is none, or another"),
    Row("the older envelope, and success that is none"),
    Row("a name whose address changes after the check"),
    Row("approvals: twice, at once, too late"),
    Row("lists without end"),
]
ROWS = {f"X-{number}": row for number, row in enumerate(_ROWS, 1)}
"""A server that listens has no disk for its callers and no stdout of its own; a pipe has one caller, with one connection."""


def rows_of(item: pytest.Item) -> list[str]:
    """The rows that a test is of."""
    marked = {row for marker in item.iter_markers("fault") for row in marker.args}
    parameters = item.nodeid.partition("[")[2]
    return sorted(marked | {f"X-{number}" for number in re.findall(r"\bX-(\d+)\b", parameters)})


def wire_of(nodeid: str) -> str:
    """Where it is tried: on a `pipe` (in memory or as a process), over `HTTP`, or beneath either."""
    file, _, test = nodeid.partition("::")
    if file.startswith("tests/http/") or re.search(r"\bhttp-20|over_http", test):
        return "HTTP"
    if file.endswith("/test_process.py") or re.search(r"\b(memory|stdio)-20|on_a_pipe", test):
        return "pipe"
    return "beneath"
