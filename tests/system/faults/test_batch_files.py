"""A file that many inputs of a batch use: it is sent once, for all of them or for none."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import anyio
import pytest

from inferencesh_sandbox.apps import png
from tests.conftest import Upstream
from tests.results import payload
from tests.support.faults import Status
from tests.system.faults.hosts import NEAR, PIPE, Host, Hosted, over

pytestmark = [pytest.mark.anyio, pytest.mark.finding("B7")]
SMALL = png.encode(png.Raster(2, 2, (b"\x00\x00\x00\xff\xff\xff",) * 2))
DATA = f"data:image/png;base64,{b64encode(SMALL).decode()}"
APP = "sandbox/picture-info"


@pytest.fixture
def picture(folder: Path) -> Path:
    path = folder / "picture.png"
    path.write_bytes(SMALL)
    return path


def upload_requests(upstream: Upstream) -> tuple[int, int]:
    """Records and bodies of files, without those that apps made."""
    ledger = upstream.sandbox.ledger
    return len(ledger.requests("POST", "/files")), len(ledger.requests("PUT"))


async def batch(my: Host, images: list[str], **more: Any) -> list[dict[str, Any]]:
    result = await my.call("app_run_many", app=APP, inputs=[{"image": image} for image in images], **more)
    return payload(result)["results"]


@over(*NEAR)
@pytest.mark.parametrize("most", [1, 8])
async def test_a_file_that_many_inputs_use_is_uploaded_once(
    host: Hosted, upstream: Upstream, picture: Path, most: int, way: Any
) -> None:
    """At the same time or one after another; another file is sent for itself."""
    image = DATA if way.transport == "http" else str(picture)
    other = "data:image/png;base64," + b64encode(SMALL + b"other").decode()
    async with host() as my:
        ends = await batch(my, [image] * 9 + [other], max_concurrency=most)

    assert ["completed"] * 10 == [end["status"] for end in ends]
    assert (2, 2) == upload_requests(upstream)
    images = [task.request.input["image"] for tenant in upstream.sandbox.tenants for task in tenant.tasks]
    assert (10, 2) == (len(images), len(set(images)))


@over(PIPE)
async def test_a_failed_upload_fails_each_input_that_needs_the_file(
    host: Hosted, upstream: Upstream, picture: Path
) -> None:
    """Tried once, not once for each; the inputs that need another file run."""
    upstream.sandbox.faults.add(Status(code=400), method="POST", path="/files")
    async with host() as my:
        ends = await batch(my, [str(picture)] * 5 + [DATA], max_concurrency=1)

    assert [("invalid_input", "not_started")] * 5 == [
        (end["error"]["code"], end["error"]["outcome"]) for end in ends[:5]
    ]
    assert "completed" == ends[5]["status"]
    assert (2, 1) == upload_requests(upstream)
    assert 1 == len(upstream.sandbox.ledger.starts)


@over(PIPE)
async def test_a_file_that_changes_during_a_batch_is_refused_for_later_inputs(
    host: Hosted, upstream: Upstream, picture: Path
) -> None:
    """What was sent is not what is on the disk any more, and nobody asked for either."""
    gate = upstream.sandbox.faults.hold("POST", "/apps/run")
    ends: list[dict[str, Any]] = []
    async with host() as my, anyio.create_task_group() as group:

        async def run() -> None:
            ends.extend(await batch(my, [str(picture)] * 3, max_concurrency=1))

        group.start_soon(run)
        await gate.reached.wait()
        picture.write_bytes(SMALL + b"changed")
        gate.release()

    assert ["completed", "error", "error"] == [end["status"] for end in ends]
    assert all("has changed since it was sent" in end["error"]["message"] for end in ends[1:])
    assert (1, 1) == upload_requests(upstream)
    assert 1 == len(upstream.sandbox.ledger.starts)
