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


ROWS = {
    "X-1": Row("a start whose connection is refused"),
    "X-2": Row("a connect or a TLS handshake that hangs"),
    "X-3": Row("a start whose reply is lost"),
    "X-4": Row("the same, and no list shows the task"),
    "X-5": Row("the same, and two tasks fit, or another call's"),
    "X-6": Row("a stream that is reset: before, amid and at its end"),
    "X-7": Row("a stream that ends early, as if all were well"),
    "X-8": Row("bad, cut, blank and odd lines"),
    "X-9": Row("a line of 10 MB, a line without end"),
    "X-10": Row("a status that nobody knows"),
    "X-11": Row("lines twice, out of order, out of date"),
    "X-12": Row("a task that is over in the reply to its start"),
    "X-13": Row("429 with Retry-After, once"),
    "X-14": Row("429 for ever"),
    "X-15": Row("a page of something in between: 502"),
    "X-16": Row("500 and 503 without a promise"),
    "X-17": Row("every refusal: 401 to 422"),
    "X-18": Row("an answer that drips; an error without end"),
    "X-19": Row("an answer that is packed: a bomb"),
    "X-20": Row("a head without end, a thousand interim answers"),
    "X-21": Row("a session that expired, was ended, is not there"),
    "X-22": Row("a worker that is lost"),
    "X-23": Row("an upload's address that ran out"),
    "X-24": Row("an upload that is slow, stalls or breaks"),
    "X-25": Row("an upload's success before its end"),
    "X-26": _pipe("a file that changes while it is sent"),
    "X-27": Row("a caller who leaves amid an upload"),
    "X-28": _pipe("a download: full disk, no permission, odd names"),
    "X-29": Row("a caller who leaves amid a run"),
    "X-30": Row("a caller who leaves amid a start"),
    "X-31": Row("a cancel that fails"),
    "X-32": Row("a cancel that crosses the end"),
    "X-33": _pipe("the end of input amid runs"),
    "X-34": Row("SIGTERM amid runs"),
    "X-35": Row("SIGKILL amid a run, and the call made again"),
    "X-36": Row("a call made again because its answer was lost"),
    "X-37": Row("a stream that is silent, or only beats"),
    "X-38": Row("1,000 runs at once, 5 % of them with such faults"),
    "X-39": _http("a caller at its limits beside one who is not"),
    "X-40": Row("a platform that takes calls and never answers"),
    "X-41": _http("connections that are opened and not used"),
    "X-42": Row("clocks that are wrong, here or there"),
    "X-43": Row("messages that are none"),
    "X-44": _pipe("prints, writes and children on the way of frames"),
    "X-45": Row("arguments that are nearly right"),
    "X-46": Row("JSON from upstream that is none, or another"),
    "X-47": Row("the older envelope, and success that is none"),
    "X-48": Row("a name whose address changes after the check"),
    "X-49": Row("approvals: twice, at once, too late"),
    "X-50": Row("lists without end"),
}
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
