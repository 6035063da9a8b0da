"""Paths as people and hosts write them, and names as disks take them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.local_files import Folders
from inferencesh_mcp.paths import foreign, may_be_path, readings
from tests.flows.reading import content
from tests.support.systems import POSIX, WINDOWS


@pytest.mark.parametrize(
    "written",
    ["~/pics/a.png", "$HOME/pics/a.png", "${HOME}/pics/a.png", "%USERPROFILE%/pics/a.png", "%userprofile%\\pics\\a.png",
     "$env:USERPROFILE\\pics\\a.png", '"%USERPROFILE%/pics/a.png"', "'~/pics/a.png'"],
)  # fmt: skip
def test_what_a_shell_would_have_filled_in_is_the_home(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics/a.png").write_bytes(b"x")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    folders = Folders(allowed=(tmp_path / "pics",), saving=tmp_path / "saving")

    if "\\" in written and sys.platform != "win32":
        written = written.replace("\\", "/")
    assert b"x" == content(folders, *readings(written))
    assert may_be_path(written)


@pytest.mark.parametrize(
    "text",
    ["C:\\Users\\a.png", "c:/a.png", "file:///C:/a.png", "\\\\nas\\pics\\a.png", "'C:\\a b.png'", "/a", "~", "@/a"],
)
def test_the_host_is_asked_for_its_roots_for_every_kind_of_path(text: str) -> None:
    assert may_be_path(text)


@pytest.mark.parametrize(
    "text", ["a red house", "http://example.com/a.png", "https://x", "50% off", "$5", "c: drive", "data:,x"]
)
def test_the_host_is_not_asked_for_other_texts(text: str) -> None:
    assert not may_be_path(text)


@POSIX
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("C:\\Users\\Ada\\a.png", "/mnt/c/Users/Ada/a.png"),
        ("D:/a.png", "/mnt/d/a.png"),
        ("file:///C:/Users/a.png", "/mnt/c/Users/a.png"),
        ("file:///c%3A/a.png", "/mnt/c/a.png"),
        ("\\\\wsl$\\Ubuntu\\home\\ada\\a.png", "/home/ada/a.png"),
        ("\\\\wsl.localhost\\Ubuntu\\home\\ada\\a.png", "/home/ada/a.png"),
        ("//wsl$/Ubuntu/home/ada/a.png", "/home/ada/a.png"),
    ],
)
def test_a_path_of_another_system_is_answered_with_its_path_here(folders: Folders, written: str, meant: str) -> None:
    with pytest.raises(FileRefused, match="does not run there") as refused:
        folders.open(*readings(written))

    assert f"Try {meant}." == refused.value.next_step


@pytest.mark.parametrize("path", ["/home/ada/a.png", "a.png", "/mnt/data/a.png", "a:b.png", "", "C:"])
def test_other_paths_are_of_this_system(path: str) -> None:
    assert not foreign(path)


LOOSE_NAMES = [
    "server.pem.",
    "server.pem ",
    "server.pem. .",
    "server.pem::$DATA",
    "server.pem:x",
    ".env.",
    "credentialſ.json",
    "ｓecrets.yaml",
]


@POSIX
@pytest.mark.parametrize("name", LOOSE_NAMES)
def test_a_name_that_some_disks_take_for_a_secrets_is_refused(world: Path, folders: Folders, name: str) -> None:
    """Dots and spaces at the end, streams and letters of another width: a disk of Windows' or Apple's ignores them."""
    (world / "allowed" / name).write_text("x")

    with pytest.raises(FileRefused, match="looks like a secret"):
        folders.open(f"{world}/allowed/{name}")


@POSIX
@pytest.mark.parametrize(("secret", "short"), [(".env", "ENV~1"), ("server.pem", "SERVER~1.TXT")])
def test_a_short_name_of_a_secret_is_refused(
    world: Path, folders: Folders, secret: str, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on FAT, whose short names open a file and are not listed: here a hard link that is hidden from the listing."""
    (world / "allowed" / secret).chmod(0o644)
    (world / "allowed" / short).hardlink_to(world / "allowed" / secret)
    scandir = os.scandir

    @contextmanager
    def without_short_names(folder: Any) -> Iterator[Any]:
        with scandir(folder) as entries:
            yield [entry for entry in entries if "~" not in entry.name]

    monkeypatch.setattr(os, "scandir", without_short_names)

    with pytest.raises(FileRefused, match="looks like a secret"):
        folders.open(f"{world}/allowed/{short}")


def test_a_name_with_a_tilde_is_a_name(world: Path, folders: Folders) -> None:
    (world / "allowed/draft~1.txt").write_text("x")

    assert b"x" == content(folders, f"{world}/allowed/draft~1.txt")


def short_path(path: Path) -> str:
    import ctypes

    name = ctypes.create_unicode_buffer(1024)
    assert ctypes.WinDLL("kernel32").GetShortPathNameW(str(path), name, 1024)
    return name.value


@WINDOWS
@pytest.mark.parametrize(
    "written",
    [
        "{path}", "{slashes}", "file:///{slashes}", "file:///{escaped}", "file://localhost/{slashes}", "file:/{slashes}", '"{path}"',
        "\\\\?\\{path}", "{upper}", "{lower}", "{short}", "{dotted}", "'{path}'", "@{path}",
    ],
)  # fmt: skip
def test_every_way_to_write_a_path_of_windows_names_the_file(world: Path, folders: Folders, written: str) -> None:
    (world / "allowed/a long name of a picture.png").write_bytes(b"x")
    path = str(world / "allowed/a long name of a picture.png")
    slashes = path.replace("\\", "/")
    forms = {
        "path": path, "slashes": slashes, "escaped": slashes.replace(":", "%3A").lower(), "upper": path.upper(), "lower": path.lower(),
        "short": short_path(Path(path)), "dotted": f"{world}\\allowed.\\.\\a long name of a picture.png",
    }  # fmt: skip

    assert b"x" == content(folders, *readings(written.format(**forms)))


@WINDOWS
@pytest.mark.parametrize("name", [".env", "server.pem"])
def test_a_secret_of_windows_is_refused_by_whatever_name(world: Path, folders: Folders, name: str) -> None:
    path = world / "allowed" / name
    for written in (
        str(path),
        f"{path}.",
        f"{path} ",
        f"{path}. .",
        f"{path}::$DATA",
        f"\\\\?\\{path}",
        short_path(path),
        str(path).upper(),
    ):
        with pytest.raises(FileRefused, match="looks like a secret"):
            folders.open(written)


@WINDOWS
@pytest.mark.parametrize("name", ["CON", "nul", "nul.txt", "COM1.png", "a.txt:stream", "conin$", "lpt1", "aux .txt"])
def test_devices_and_streams_are_refused(world: Path, folders: Folders, name: str) -> None:
    with pytest.raises(FileRefused, match="reserves"):
        folders.open(f"{world}\\allowed\\{name}")
    with pytest.raises(FileRefused, match="Files are saved in"):
        folders.writable(name)


@WINDOWS
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("C:a.txt", "not an absolute path"),
        ("\\a.txt", "not an absolute path"),
        ("/home/ada/a.txt", "not an absolute path"),
        ("\\\\evil.example\\share\\a.txt", "outside the folders"),
        ("file://evil.example/share/a.txt", "names another machine"),
        ("\\\\.\\PhysicalDrive0", "outside the folders"),
        ("\\\\?\\GLOBALROOT\\Device\\x", "(outside the folders|not an absolute path)"),
        ("\\\\wsl$\\Ubuntu\\home\\ada\\a.png", "outside the folders"),
        ("/mnt/c/Users/ada/a.png", "as WSL writes it"),
    ],
)
def test_other_places_are_refused_untouched(
    folders: Folders, path: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Touching a share sends the user's name and a hash of the password to its machine."""
    touched: list[str] = []
    for call in ("stat", "lstat", "open"):
        kept = getattr(os, call)
        monkeypatch.setattr(
            os, call, lambda name, *more, kept=kept, **named: (touched.append(str(name)), kept(name, *more, **named))[1]
        )

    with pytest.raises(FileRefused, match=why):
        folders.open(*readings(path))
    assert [] == [name for name in touched if "evil" in name or "wsl" in name]
    if why == "outside the folders":
        with pytest.raises(FileRefused, match="Files are saved in"):
            folders.writable(path)


@WINDOWS
def test_a_path_that_is_too_long_is_said_so(world: Path, folders: Folders) -> None:
    with pytest.raises(FileRefused, match="longer than Windows allows"):
        folders.open(f"{world}\\allowed\\{'x' * 250}.txt")
