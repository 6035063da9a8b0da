"""`python -m tests.evaluation` prints how many calls each job took; with `--write` it also writes `working_day.md`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from inferencesh_sandbox import Facts, serving
from tests.conftest import KEY, Upstream, Way
from tests.evaluation.host import Form, Host
from tests.evaluation.jobs import JOBS, Job
from tests.evaluation.test_jobs import do
from tests.evaluation.transcript import PAGE, page
from tests.support.sandbox import Sandbox

COLUMNS: tuple[tuple[Way, Form], ...] = (
    (Way("stdio", "2026"), "text"),
    (Way("stdio", "2025"), "structured"),
    (Way("http", "2026"), "structured"),
    (Way("http", "2025"), "text"),
)
"""Each transport, each protocol version and each form of an answer twice."""


async def done(job: Job, way: Way, form: Form) -> Host:
    """Do a job in a world of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        sandbox = Sandbox(facts=Facts())
        async with serving(sandbox) as url:
            environ = {
                "INFERENCE_API_KEY": KEY,
                "INFERENCE_BASE_URL": url,
                "INFERENCE_SAVE_DIR": str(folder),
                "INFERENCE_CACHE_DIR": str(folder.parent / "cache"),
            }
            return await do(job, way, form, environ, folder, Upstream(sandbox, url))


async def main(*, write: bool) -> None:
    sys.stdout.write(f"{'job':46} fewest  " + "  ".join(f"{way} {form}" for way, form in COLUMNS) + "\n")
    fewest, hosts = 0, list[Host]()
    for job in JOBS:
        cells: list[str] = []
        for way, form in COLUMNS:
            if not job.can_do(way):
                cells.append("-")
                continue
            host = await done(job, way, form)
            cells.append(str(len(host.calls)))
            if (way, form) == COLUMNS[0]:
                hosts.append(host)
        fewest += job.calls
        widths = [len(f"{way} {form}") for way, form in COLUMNS]
        row = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        sys.stdout.write(f"{job.name:46} {job.calls:6}  {row}\n")
    total = sum(len(host.calls) for host in hosts)
    sys.stdout.write(f"{len(JOBS)} jobs: {total} calls over stdio; the fewest are {fewest}\n")
    if write:
        PAGE.write_text(page(JOBS, hosts), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.evaluation")
    parser.add_argument("--write", action="store_true", help="write the answers to working_day.md")
    options = parser.parse_args()
    anyio.run(lambda: main(write=options.write))
