"""Local files: only in allowed folders, never by a link, never a secret."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.folders import Folders

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of folders are POSIX")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for name in ("allowed", "allowed-not", "allowed/below", "saving"):
        (tmp_path / name).mkdir()
    for name in (
        "allowed/a.txt",
        "allowed/below/b.txt",
        "allowed-not/private.txt",
        "allowed/.env",
        "allowed/server.pem",
    ):
        (tmp_path / name).write_text(name)
    (tmp_path / "allowed/link.txt").symlink_to(tmp_path / "allowed-not/private.txt")
    (tmp_path / "allowed/through").symlink_to(tmp_path / "allowed-not")
    os.mkfifo(tmp_path / "allowed/pipe")
    return tmp_path


@pytest.fixture
def folders(world: Path) -> Folders:
    return Folders(allowed=(world / "allowed",), saving=world / "saving")


@pytest.mark.parametrize("name", ["a.txt", "below/b.txt", "below/../a.txt", "./a.txt"])
def test_what_is_inside_is_opened(world: Path, folders: Folders, name: str) -> None:
    descriptor = folders.open(f"{world}/allowed/{name}")

    assert os.path.normpath(f"allowed/{name}").encode() == os.read(descriptor, 99)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("allowed-not/private.txt", "outside the folders"),  # a sibling with the same beginning
        ("allowed/../allowed-not/private.txt", "outside the folders"),
        ("allowed", "outside the folders"),
        ("allowed/below", "is a folder"),
        ("allowed/pipe", "not a regular file"),
        ("allowed/gone.txt", "does not exist"),
        ("allowed/link.txt", "is a link, or lies behind"),
        ("allowed/through/private.txt", "is a link, or lies behind"),
        ("allowed/.env", "hidden"),
        ("allowed/server.pem", "secret"),
        ("allowed/a.txt/b", "is a link, or lies behind"),
        ("allowed/a\0.txt", "NUL"),
    ],
)
def test_what_may_not_be_read_is_refused(world: Path, folders: Folders, name: str, why: str) -> None:
    with pytest.raises(FileRefused, match=why):
        folders.open(f"{world}/{name}")


def test_a_relative_path_is_told_apart(folders: Folders) -> None:
    with pytest.raises(FileRefused, match="not an absolute path"):
        folders.open("a.txt")


def test_a_folder_that_is_reached_by_a_link_may_itself_be_allowed(world: Path) -> None:
    """On some systems the temporary folder is one."""
    (world / "alias").symlink_to(world / "allowed")
    folders = Folders(allowed=(world / "alias",), saving=world / "saving")

    for name in ("alias", "allowed"):
        os.close(folders.open(f"{world}/{name}/a.txt"))


def test_no_race_opens_what_lies_behind_a_link(world: Path, folders: Folders) -> None:
    """A folder is swapped for a link and back while a file in it is opened: what was checked is what is opened."""
    (world / "allowed/flip").mkdir()
    (world / "allowed/flip/private.txt").write_text("harmless")
    (world / "spare").symlink_to(world / "allowed-not")
    done = threading.Event()

    def flip() -> None:
        while not done.is_set():
            os.rename(world / "allowed/flip", world / "kept")
            os.rename(world / "spare", world / "allowed/flip")
            os.rename(world / "allowed/flip", world / "spare")
            os.rename(world / "kept", world / "allowed/flip")

    flipping = threading.Thread(target=flip)
    flipping.start()
    read: set[bytes] = set()
    try:
        for _ in range(20_000):
            try:
                descriptor = folders.open(f"{world}/allowed/flip/private.txt")
            except FileRefused:
                continue
            read.add(os.read(descriptor, 99))
            os.close(descriptor)
    finally:
        done.set()
        flipping.join()

    assert {b"harmless"} == read


@pytest.mark.parametrize("to", ["../elsewhere", "/etc", "a/../../b", "\0"])
def test_nothing_is_saved_elsewhere(folders: Folders, to: str) -> None:
    with pytest.raises(FileRefused, match="Files are saved in"):
        folders.writable(to)
