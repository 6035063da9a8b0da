"""Links, pipes and races on POSIX systems: what was checked is what is opened."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.local_files import Folders
from tests.flows.reading import content

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("allowed/pipe", "not a regular file"),
        ("allowed/link.txt", "is a link, or a part of it is not a folder"),
        ("allowed/through/private.txt", "is a link, or a part of it is not a folder"),
        ("allowed/a.txt/b", "is a link, or a part of it is not a folder"),
    ],
)
def test_links_and_special_files_are_refused(world: Path, folders: Folders, name: str, why: str) -> None:
    (world / "allowed/link.txt").symlink_to(world / "allowed-not/private.txt")
    (world / "allowed/through").symlink_to(world / "allowed-not")
    os.mkfifo(world / "allowed/pipe")

    with pytest.raises(FileRefused, match=why):
        folders.open(f"{world}/{name}")


def test_an_allowed_folder_may_itself_be_a_link(world: Path) -> None:
    """On some systems the temporary folder is one."""
    (world / "alias").symlink_to(world / "allowed")
    folders = Folders(allowed=(world / "alias",), saving=world / "saving")

    for name in ("alias", "allowed"):
        assert b"allowed/a.txt" == content(folders, f"{world}/{name}/a.txt")


def test_no_race_opens_a_file_behind_a_link(world: Path, folders: Folders) -> None:
    """A folder is swapped for a link and back while a file in it is opened: what was checked is what is opened."""
    (world / "allowed/flip").mkdir()
    (world / "allowed/flip/private.txt").write_text("harmless")
    (world / "spare").symlink_to(world / "allowed-not")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            os.rename(world / "allowed/flip", world / "kept")
            os.rename(world / "spare", world / "allowed/flip")
            os.rename(world / "allowed/flip", world / "spare")
            os.rename(world / "kept", world / "allowed/flip")

    flipping = threading.Thread(target=flip)
    flipping.start()
    contents: set[bytes] = set()
    try:
        for _ in range(5_000):
            with suppress(FileRefused):
                contents.add(content(folders, f"{world}/allowed/flip/private.txt"))
    finally:
        stop.set()
        flipping.join()

    assert {b"harmless"} == contents


@pytest.mark.finding("S10")
def test_a_private_file_with_a_second_name_is_refused(world: Path, folders: Folders) -> None:
    """What everybody may read gives nothing away by a hard link: packages and backups are full of them."""
    private, public = world / "allowed-not/private.txt", world / "allowed-not/public.txt"
    public.write_text("public")
    private.chmod(0o600)
    public.chmod(0o644)
    for file in (private, public):
        (world / "allowed" / file.name).hardlink_to(file)
    own = world / "allowed/own.txt"
    own.write_text("own")
    own.chmod(0o600)

    with pytest.raises(FileRefused, match="second hard link"):
        folders.open(f"{world}/allowed/private.txt")
    assert b"public" == content(folders, f"{world}/allowed/public.txt")
    assert b"own" == content(folders, str(own))


@pytest.mark.finding("F12")
def test_a_name_in_another_unicode_form_opens_no_secret_and_no_link(world: Path, folders: Folders) -> None:
    (world / "allowed/secrets\u00a0.txt").symlink_to(world / "allowed-not/private.txt")

    with pytest.raises(FileRefused, match="is a link"):
        folders.open(f"{world}/allowed/secrets .txt")


@pytest.mark.finding("S10", "B11")
def test_a_folder_is_recognised_under_another_name(world: Path) -> None:
    """As on disks that ignore case or normal form; here links stand for the folder's other names."""
    café = world / "café"
    café.mkdir()
    (café / "b.txt").write_text("b")
    for other, folder in {"other-name": "allowed", "ALLOWED": "allowed", "Café": "café"}.items():
        (world / other).symlink_to(world / folder)
    folders = Folders(allowed=(world / "other-name", café), saving=world / "saving")

    for path in ("/allowed/a.txt", "/ALLOWED/a.txt", "/other-name/a.txt"):
        assert b"allowed/a.txt" == content(folders, f"{world}{path}") == content(folders, f"/{world}{path}")
    for path in ("/café/b.txt", "/Café/b.txt"):
        assert b"b" == content(folders, f"{world}{path}")


def test_a_path_on_another_disk_is_not_looked_up(
    world: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lie on a share that does not answer, and then the whole server would wait."""
    looked_up: list[str] = []
    for call in ("stat", "lstat", "open"):
        original = getattr(os, call)

        def noted(path: Any, *more: Any, original: Any = original, **named: Any) -> Any:
            looked_up.append(str(path))
            return original(path, *more, **named)

        monkeypatch.setattr(os, call, noted)

    for path in ("/net/elsewhere.example/share/x.png", f"/proc/self/root{world}/allowed/a.txt"):
        with pytest.raises(FileRefused, match="outside the folders"):
            folders.open(path)
    assert [] == [path for path in looked_up if path.startswith(("/net/", "/proc/"))]


@pytest.mark.finding("S10", "B11")
@pytest.mark.parametrize(
    "root", ["{home}", "{home}/..", "/", "//", "/proc/self/root", "{world}/alias", "{world}/above"]
)
def test_a_root_that_is_or_holds_a_home_allows_nothing(
    world: Path, folders: Folders, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared by device and inode, walked upwards from the home."""
    home = world / "homes/ada"
    home.mkdir(parents=True)
    (home / "note.txt").write_text("x")
    monkeypatch.setenv("HOME", str(home))
    (world / "alias").symlink_to(home)
    (world / "above").symlink_to(world / "homes")

    opened = folders.with_roots([Path(root.format(home=home, world=world))])

    assert folders.allowed == opened.allowed
    assert (*folders.allowed, home / "below") == folders.with_roots([home / "below"]).allowed


@pytest.mark.finding("B11")
def test_a_root_is_allowed_for_a_user_without_a_home(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)

    assert folders.allowed == folders.with_roots([Path("/"), Path("//")]).allowed


@pytest.mark.finding("S10")
def test_a_folder_that_became_a_link_is_not_written(world: Path, folders: Folders) -> None:
    (world / "saving/out").mkdir()
    target = folders.writable("out/deep")
    (world / "saving/out").rmdir()
    (world / "saving/out").symlink_to(world / "allowed-not")

    with pytest.raises(FileRefused, match="was replaced by a link"), target.opened():
        pass
    assert ["private.txt"] == [path.name for path in (world / "allowed-not").iterdir()]
