"""All answers of one day of jobs as a page for people. What differs from run to run is written the same."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from tests.evaluation.host import Host
from tests.evaluation.jobs import Job

PAGE = Path(__file__).with_name("working_day.md")

_HEAD = """# A working day

What a person asks, what a model calls, and the text that it reads: all jobs of `tests/evaluation/jobs.py`, over stdio.
Written by `make evaluate`. Ids, addresses, times and sizes that differ from run to run are written the same.
"""

_SAME = (
    (r"http://127\.0\.0\.1:\d+", "https://sandbox.example"),
    (r"/\S*/pictures\b", "~/pictures"),
    (r"\b01[0-9a-hjkmnp-tv-z]{24}\b", "01ID"),
    (r"/u/[0-9a-z]{26}/", "/u/USER/"),
    (r"\b[0-9a-z]{26}\b", "ID"),
    (r"\bdata [0-9a-f]{8}\b", "data NONCE"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z)?", "TIME"),
    (r"\b\d\d:\d\d:\d\d UTC", "TIME UTC"),
    (r"\b\d+(\.\d+)? s\b", "N s"),
    (r"\bpartial \d+", "partial N"),
)


def page(jobs: Sequence[Job], hosts: Sequence[Host]) -> str:
    """The page of these jobs, as these hosts did them."""
    sections = [_section(job, host) for job, host in zip(jobs, hosts, strict=True)]
    return "\n".join([_HEAD, *sections])


def _section(job: Job, host: Host) -> str:
    lines = [f"## {job.request}", ""]
    for call in host.exchanges:
        arguments = ", ".join(f"{name}={_short(value)}" for name, value in call.arguments.items())
        lines += [f"`{_same(f'{call.tool}({arguments})')}`", "", "```text", _same(call.answer.content), "```", ""]
    lines += [f"The person was asked: {_same(question)}\n" for question in host.person.questions]
    return "\n".join(lines)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _same(text: str) -> str:
    for pattern, replacement in _SAME:
        text = re.sub(pattern, replacement, text)
    return text
