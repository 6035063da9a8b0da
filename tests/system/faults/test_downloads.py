"""Downloads that go wrong on their way to a disk, and disks that do: row X-28."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from inferencesh_mcp.api import http_client
from inferencesh_sandbox.tenants import Tenant
from tests.conftest import Upstream, until
from tests.results import error, payload, text_of
from tests.support.faults import Drip, FinAfter, RstAfter, Stall, Status
from tests.support.systems import POSIX
from tests.system.faults.front import Front, Visit
from tests.system.faults.hosts import DISKS, MEMORY, STDIO, Host, Hosted, over

pytestmark = pytest.mark.anyio
if sys.platform != "win32":
    import resource

MIB = 1024 * 1024
NOBODY = 65534


@pytest.fixture
def large(upstream: Upstream) -> str:
    """The address of a file of 4 MiB."""
    file = upstream.sandbox.store.make(Tenant("inf_somebody"), filename="large.bin")
    file.write(b"x" * 4 * MIB)
    file.finish()
    return file.uri_at(upstream.url)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows further: what a quota or a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def refused_and_clean(my: Host, folder: Path, why: str, **arguments: Any) -> None:
    """The save fails in words, leaves nothing of its own, and what was there before is as it was."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    result = await my.call("file_save", **arguments)

    assert ("file_refused", True) == (error(result)["code"], why in text_of(result)), text_of(result)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@POSIX
@pytest.mark.fault("X-28")
@over(*MEMORY)
async def test_a_file_size_limit_leaves_no_partial_file(host: Hosted, large: str, folder: Path) -> None:
    """A file-size limit is met half-way through; an older save of the same name stays whole."""
    async with host() as my:
        first = await my.call("file_save", uris=[large])
        with files_of_at_most(MIB):
            await refused_and_clean(my, folder, "no room left", uris=[large])
        second = await my.call("file_save", uris=[large])

    assert [4 * MIB] * 2 == [Path(payload(saved)["files"][0]["path"]).stat().st_size for saved in (first, second)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one mebibyte, where this machine lets one be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@POSIX
@pytest.mark.fault("X-28")
@over(*MEMORY)
async def test_a_full_disk_leaves_no_partial_file(host: Hosted, large: str, disk: Path) -> None:
    (disk / "mine.txt").write_bytes(b"mine")
    async with host(INFERENCE_SAVE_DIR=str(disk)) as my:
        await refused_and_clean(my, disk, "no room left", uris=[large])
        saved = await my.call("file_upload", source="data:,small")
        assert not (await my.call("file_save", uris=[payload(saved)["uri"]])).is_error


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's powers, for which no permission is missing."""
    mighty = os.geteuid() == 0
    if mighty:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if mighty:
            os.seteuid(0)


@pytest.fixture
def common(tmp_path: Path) -> Iterator[Path]:
    """A folder that anyone may write into, for now."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "common"
        folder.mkdir()
        folder.chmod(0o777)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, -1)
        yield folder


@POSIX
@pytest.mark.fault("X-28")
@over(*MEMORY)
async def test_a_read_only_folder_is_reported(host: Hosted, large: str, common: Path) -> None:
    async with host(INFERENCE_SAVE_DIR=str(common)) as my:
        await my.call("file_save", uris=[large])  # what is imported on the way may not be readable for everybody
        common.chmod(0o555)
        with nobody():
            await refused_and_clean(my, common, "Permission denied", uris=[large])
            await refused_and_clean(my, common, "Permission denied", uris=[large], to="new")


@POSIX
@pytest.mark.fault("X-28")
@over(*MEMORY)
@pytest.mark.parametrize("loss", ["permission", "folder"])
async def test_a_folder_that_disappears_during_a_download_is_reported(
    host: Hosted, upstream: Upstream, front: Front, large: str, common: Path, loss: str
) -> None:
    """Between the first byte and the last: no name appears for what cannot be finished."""

    async def losing(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
        await until(lambda: list(common.glob(".*")))
        common.chmod(0o555) if loss == "permission" else shutil.rmtree(common)
        await visit.say(b"llo")

    front.on("GET /app/files/", losing)
    async with host(INFERENCE_BASE_URL=front.url, INFERENCE_SAVE_DIR=str(common)) as my:
        await my.call("task_get", task_id="abc")  # as above
        await my.call("file_save", uris=[f"{front.url}/gone"], to="below")
        with nobody() if loss == "permission" else files_of_at_most(resource.RLIM_INFINITY):
            result = await my.call("file_save", uris=[f"{front.url}/app/files/u/a/b.txt"])

    assert ("file_refused", True) == (error(result)["code"], "cannot be written" in text_of(result))
    assert not common.exists() or not [path for path in common.iterdir() if not path.name.startswith(".")]


@pytest.mark.fault("X-28")
@over(*DISKS)
@pytest.mark.parametrize(
    "fault",
    [RstAfter(bytes=MIB), FinAfter(bytes=MIB, cut=True), RstAfter(bytes=0), Status(code=500), Status(code=404)],
    ids=["reset", "cut", "reset at once", "500", "404"],
)
async def test_a_broken_download_leaves_no_file(
    host: Hosted, upstream: Upstream, large: str, folder: Path, fault: Any
) -> None:
    """Half a file is no file, whatever ended it."""
    async with host() as my:
        first = await my.call("file_save", uris=[large])
        upstream.sandbox.faults.add(fault, path="/app/files/**", times=-1)
        result = await my.call("file_save", uris=[large])

    assert error(result)["code"] in {"unavailable", "not_found"}
    assert [Path(payload(first)["files"][0]["path"])] == list(folder.iterdir())


@pytest.mark.fault("X-28")
@over(*MEMORY)
async def test_a_stalled_download_times_out(
    host: Hosted, upstream: Upstream, large: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "READ_SECONDS", 0.2)
    upstream.sandbox.faults.add(Stall(lines=1), path="/app/files/**", times=-1)
    async with host() as my:
        result = await my.call("file_save", uris=[large])

    assert "timed_out" == error(result)["code"]
    assert [] == list(folder.iterdir())


@pytest.mark.fault("X-28")
@over(*DISKS)
async def test_a_cancelled_download_leaves_no_file(host: Hosted, upstream: Upstream, large: str, folder: Path) -> None:
    """The host cancels while the bytes come: no file, not even a hidden one."""
    upstream.sandbox.faults.add(Drip(size=1024, every=0.01), path="/app/files/**")
    async with host() as my:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(my.call, "file_save", uris=[large]))
            await until(lambda: list(folder.iterdir()))
            group.cancel_scope.cancel()
        await until(lambda: not list(folder.iterdir()))


@POSIX
@pytest.mark.fault("X-28")
@over(*MEMORY)
async def test_nothing_is_overwritten_on_a_disk_without_hard_links(
    host: Hosted, large: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT and some shares have none: the place is taken by an empty file first, and given back where that fails."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    first, second, third, fourth = (Path(large).stem + more + Path(large).suffix for more in ("", "-2", "-3", "-4"))
    (folder / first).write_bytes(b"old")
    (folder / second).symlink_to(folder / "nowhere")
    async with host() as my:
        saved = [Path(payload(await my.call("file_save", uris=[large]))["files"][0]["path"]) for _ in range(2)]
        monkeypatch.setattr(os, "replace", refused)
        failed = await my.call("file_save", uris=[large])

    assert [folder / third, folder / fourth] == saved
    assert saved[0].read_bytes() == saved[1].read_bytes() != b""
    assert "file_refused" == error(failed)["code"]
    assert {first, second, third, fourth} == {path.name for path in folder.iterdir()}
    assert b"old" == (folder / first).read_bytes()


NAMES = {
    "a%2Fb.png": "b.png",
    "..%2F..%2Fetc%2Fpasswd": "passwd",
    "%00x%00.png": "x.png",
    "a%5Cb.png": "a-b.png",
    "%2e%2e": "file",
}


@pytest.mark.fault("X-28")
@over(MEMORY[1], STDIO[0])
async def test_a_file_name_with_a_slash_or_nul_becomes_one_plain_name(
    host: Hosted, upstream: Upstream, folder: Path
) -> None:
    """Whatever the address says, the file lies in the save folder and nowhere else."""
    async with host() as my:
        for name, plain in NAMES.items():
            upstream.sandbox.faults.add(
                Status(code=200, body=b"x", headers={"content-type": "image/png"}), method="GET"
            )
            saved = Path(
                payload(await my.call("file_save", uris=[f"{upstream.url}/app/files/u/{name}"]))["files"][0]["path"]
            )
            assert (folder, True) == (saved.parent, saved.name.startswith(plain.partition(".")[0])), saved

    assert len(NAMES) == len(list(folder.iterdir()))
