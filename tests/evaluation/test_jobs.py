"""Each job is done in the fewest calls, over both transports and protocol versions, whichever form of an answer is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from tests.conftest import Upstream, Way, connected
from tests.evaluation.host import Form, Host, Person
from tests.evaluation.jobs import JOBS, Job

pytestmark = pytest.mark.anyio

WAYS = [Way(transport, version) for transport in ("stdio", "http") for version in ("2026", "2025")]
CASES = [(job, way) for job in JOBS for way in WAYS if job.can_do(way)]


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize(("job", "way"), CASES, ids=[f"{job.name}-{way}" for job, way in CASES])
async def test_a_job_takes_the_fewest_calls(
    job: Job, way: Way, form: Form, environ: dict[str, str], folder: Path, upstream: Upstream
):
    host = await do(job, way, form, environ, folder, upstream)

    assert job.calls == len(host.calls)
    assert job.failures == host.failures


async def do(job: Job, way: Way, form: Form, environ: dict[str, str], folder: Path, upstream: Upstream) -> Host:
    """Do a job with a server of its own."""
    person = job.person() if job.person else None
    callback: dict[str, Any] = {"elicitation_callback": person} if person else {}
    async with connected(way, {**environ, **job.settings}, **callback) as client:
        host = Host(client, form, folder, person or Person(), upstream.sandbox.ledger)
        await job.script(host)
    return host
