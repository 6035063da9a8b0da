"""A disk that ignores case and has no hard links or permissions: exFAT by FUSE, mounted for real.

It gives each spelling of a name its own inode number, as other file systems in user space do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.local_files import Folders
from tests.flows.reading import content
from tests.test_cli import call

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="only root mounts disks"
    ),
]
SIZE = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("exfat")
    image, mounted = folder / "image", folder / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.exfat", image], check=True, stdout=subprocess.DEVNULL)
    attached = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=False)
    if attached.returncode:
        pytest.skip(f"no loop device: {attached.stderr}")
    device = attached.stdout.strip()
    try:
        program = shutil.which("mount.exfat-fuse") or "/sbin/mount.exfat-fuse"
        tried = subprocess.run([program, device, mounted], capture_output=True, text=True, check=False)
        if not mounted.is_mount():
            pytest.skip(f"no FUSE: {tried.stdout}{tried.stderr}")
        yield mounted
        subprocess.run(["umount", mounted], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=False)


@pytest.fixture
def world(disk: Path) -> Iterator[Path]:
    """The disk with an allowed folder and a home in it."""
    for name in ("Pictures/Cat.PNG", "Pictures/Café.txt", "Pictures/ID_RSA", "Pictures/.Env", "Home/.ssh/key"):
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).write_text(name)
    yield disk
    for path in disk.iterdir():
        shutil.rmtree(path)


@pytest.mark.parametrize("root", ["Pictures", "PICTURES"])
@pytest.mark.parametrize("name", ["Pictures/Cat.PNG", "pictures/cat.png", "PICTURES/../Pictures/CAT.png"])
def test_a_file_is_opened_by_each_spelling_of_its_path(world: Path, root: str, name: str) -> None:
    folders = Folders(allowed=(world / root,), saving=world / "Saved")

    assert b"Pictures/Cat.PNG" == content(folders, f"{world}/{name}")


def test_a_name_in_another_unicode_form_opens_the_file(world: Path) -> None:
    folders = Folders(allowed=(world / "Pictures",), saving=world / "Saved")

    assert "Pictures/Café.txt".encode() == content(folders, f"{world}/Pictures/Cafe\u0301.txt")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pictures/id_rsa", "secret"),
        ("PICTURES/Id_Rsa", "secret"),
        ("pictures/.ENV", "hidden"),
        ("home/.ssh/key", "outside the folders"),
        ("PICTURES/../HOME/.SSH/KEY", "outside the folders"),
    ],
)
def test_a_secret_is_refused_by_each_spelling_of_its_path(world: Path, name: str, why: str) -> None:
    folders = Folders(allowed=(world / "Pictures",), saving=world / "Saved")

    with pytest.raises(FileRefused, match=why):
        folders.open(f"{world}/{name}")


@pytest.mark.parametrize("spelling", ["Home", "HOME", "home"])
def test_the_home_folder_is_not_allowed_by_any_spelling(world: Path, spelling: str) -> None:
    refused = call("--allowed-dirs", f"{world}/{spelling}", "--sandbox", "doctor", HOME=f"{world}/Home")

    assert (2, "") == (refused.returncode, refused.stdout)
    assert "not your home folder" in refused.stderr


def test_a_saved_file_never_replaces_one_that_differs_in_case(world: Path) -> None:
    """Without hard links the name is reserved by an empty file."""
    (world / "Saved").mkdir()
    (world / "Saved/DRAWING.PNG").write_text("mine")

    shown = call("demo", "--to", f"{world}/saved")

    assert (0, "") == (shown.returncode, shown.stderr)
    assert "mine" == (world / "Saved/DRAWING.PNG").read_text()
    assert f"{world}/saved/drawing-2.png" == shown.stdout.splitlines()[-1]
    assert {"DRAWING.PNG", "drawing-2.png", "thumbnail.png"} == set(os.listdir(world / "Saved"))


def test_a_hosts_file_is_restored_to_the_byte(world: Path) -> None:
    path = world / "Home/.cursor/mcp.json"
    path.parent.mkdir()
    before = b'{\r\n  // mine\r\n  "mcpServers": {"other": {"command": "x"}}\r\n}\r\n'
    path.write_bytes(before)

    added = call("install", "cursor", HOME=f"{world}/HOME")
    removed = call("uninstall", "cursor", HOME=f"{world}/home")

    assert (0, 0) == (added.returncode, removed.returncode), added.stderr + removed.stderr
    assert before == path.read_bytes()
