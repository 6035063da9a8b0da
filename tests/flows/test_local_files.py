"""Local files: only in allowed folders, never by a link, never a secret."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.local_files import Folders

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
def test_a_file_inside_an_allowed_folder_is_opened(world: Path, folders: Folders, name: str) -> None:
    file = folders.open(f"{world}/allowed/{name}")

    assert os.path.normpath(f"allowed/{name}").encode() == os.read(file.descriptor, 99)
    os.close(file.descriptor)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("allowed-not/private.txt", "outside the folders"),  # a sibling with the same beginning
        ("allowed/../allowed-not/private.txt", "outside the folders"),
        ("allowed", "outside the folders"),
        ("allowed/below", "is a folder"),
        ("allowed/pipe", "not a regular file"),
        ("allowed/gone.txt", "does not exist"),
        ("allowed/link.txt", "is a link, or a part of it is not a folder"),
        ("allowed/through/private.txt", "is a link, or a part of it is not a folder"),
        ("allowed/.env", "hidden"),
        ("allowed/server.pem", "secret"),
        ("allowed/a.txt/b", "is a link, or a part of it is not a folder"),
        ("allowed/a\0.txt", "NUL"),
    ],
)
def test_a_file_that_may_not_be_read_is_refused(world: Path, folders: Folders, name: str, why: str) -> None:
    with pytest.raises(FileRefused, match=why):
        folders.open(f"{world}/{name}")


def test_a_relative_path_is_refused_with_its_own_reason(folders: Folders) -> None:
    with pytest.raises(FileRefused, match="not an absolute path"):
        folders.open("a.txt")


def test_an_allowed_folder_may_itself_be_a_link(world: Path) -> None:
    """On some systems the temporary folder is one."""
    (world / "alias").symlink_to(world / "allowed")
    folders = Folders(allowed=(world / "alias",), saving=world / "saving")

    for name in ("alias", "allowed"):
        os.close(folders.open(f"{world}/{name}/a.txt").descriptor)


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
            try:
                file = folders.open(f"{world}/allowed/flip/private.txt")
            except FileRefused:
                continue
            contents.add(os.read(file.descriptor, 99))
            os.close(file.descriptor)
    finally:
        stop.set()
        flipping.join()

    assert {b"harmless"} == contents


@pytest.mark.parametrize("to", ["../elsewhere", "/etc", "a/../../b", "\0"])
def test_nothing_is_saved_outside_the_save_folder(folders: Folders, to: str) -> None:
    with pytest.raises(FileRefused, match="Files are saved in"):
        folders.writable(to)


def content(folders: Folders, *paths: str) -> bytes:
    file = folders.open(*paths)
    try:
        return os.read(file.descriptor, 99)
    finally:
        os.close(file.descriptor)


SECRETS = [
    "id_rsa", "id_ed25519_sk", "ID_ECDSA_SK.bak", "kubeconfig", "kubeconfig.yaml", "prod.kubeconfig", "service-account.json",
    "service_account_key.json", "my@project.iam.json.pem", "client_secret_1-a.apps.json", "credentials", "credentials.json",
    "credential.csv", "secrets.yaml", "secret.txt", "secrets.env.bak", "ada_accessKeys.csv", "rootkey.csv", "wallet.dat", "a.kdbx",
    "application_default_credentials.json", "prod.tfvars", "terraform.tfstate.backup", "putty.ppk", "logins.json", "id_rs\u200ba",
]  # fmt: skip
NO_SECRETS = [
    "secret.png", "secrets.jpeg", "credentials.jpg", "credentials.mp4", "secret garden.pdf", "keys.png", "id_card.png", "monkey.txt",
    "secretary.json", "my-secret.png", "kubernetes.yaml", "tokens.csv", "pem.txt",
]  # fmt: skip


@pytest.mark.finding("S14")
@pytest.mark.parametrize("name", SECRETS)
def test_a_file_with_a_secrets_name_is_refused(world: Path, folders: Folders, name: str) -> None:
    (world / "allowed" / name).write_text("x")

    with pytest.raises(FileRefused, match="looks like a secret"):
        folders.open(f"{world}/allowed/{name}")


@pytest.mark.finding("B14")
@pytest.mark.parametrize("name", NO_SECRETS)
def test_a_name_that_only_resembles_a_secret_is_accepted(world: Path, folders: Folders, name: str) -> None:
    (world / "allowed" / name).write_text("x")

    assert b"x" == content(folders, f"{world}/allowed/{name}")


@pytest.mark.finding("B14")
def test_a_key_file_is_judged_by_its_content(world: Path, folders: Folders) -> None:
    (world / "allowed/deck.key").write_bytes(b"PK\x03\x04 a presentation")
    (world / "allowed/server.key").write_bytes(b"\x30\x82 a key in DER")
    for name in ("notes.txt", "deploy"):
        (world / "allowed" / name).write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA")

    assert content(folders, f"{world}/allowed/deck.key")
    for name in ("server.key", "notes.txt", "deploy"):
        with pytest.raises(FileRefused, match="looks like a secret"):
            folders.open(f"{world}/allowed/{name}")


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

    with pytest.raises(FileRefused, match="second name"):
        folders.open(f"{world}/allowed/private.txt")
    assert b"public" == content(folders, f"{world}/allowed/public.txt")
    assert b"own" == content(folders, str(own))


@pytest.mark.finding("F12")
@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("Screenshot at 1.30.07\u202fPM.png", "Screenshot at 1.30.07 PM.png"),
        ("a\u00a0b.png", "a b.png"),
        ("a b.png", "a\u00a0b.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("M\u202fy/de\u0301ck.png", "M y/d\u00e9ck.png"),
    ],
)
def test_a_name_in_another_unicode_form_opens_the_file(world: Path, folders: Folders, there: str, name: str) -> None:
    path = world / "allowed" / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")

    assert b"x" == content(folders, f"{world}/allowed/{name}")


@pytest.mark.finding("F12")
def test_several_names_that_look_the_same_are_refused(world: Path, folders: Folders) -> None:
    for name in ("a\u202fb.png", "a\u00a0b.png"):
        (world / "allowed" / name).write_text(name)

    with pytest.raises(FileRefused, match=r"Several files fit .*u202f"):
        folders.open(f"{world}/allowed/a b.png")
    (world / "allowed/a b.png").write_text("exact")
    assert b"exact" == content(folders, f"{world}/allowed/a b.png")


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


@pytest.mark.finding("S10", "B11")
def test_a_folder_with_a_similar_name_is_another_folder(world: Path, folders: Folders) -> None:
    if (world / "ALLOWED").exists():
        pytest.skip("this disk ignores case")
    (world / "ALLOWED").mkdir()
    (world / "ALLOWED/private.txt").write_text("x")

    with pytest.raises(FileRefused, match="outside the folders"):
        folders.open(f"{world}/ALLOWED/private.txt")


def test_a_path_outside_by_its_text_is_not_looked_up(
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

    with pytest.raises(FileRefused, match="outside the folders"):
        folders.open("/net/elsewhere.example/share/x.png")
    assert [] == [path for path in looked_up if "/net" in path]


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
