"""Local files: only in allowed folders, never by a link, never a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.local_files import Folders
from tests.flows.reading import content


@pytest.mark.parametrize("name", ["a.txt", "below/b.txt", "below/../a.txt", "./a.txt"])
def test_a_file_inside_an_allowed_folder_is_opened(world: Path, folders: Folders, name: str) -> None:
    assert Path(os.path.normpath(f"allowed/{name}")).as_posix().encode() == content(folders, f"{world}/allowed/{name}")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("allowed-not/private.txt", "outside the folders"),  # a sibling with the same beginning
        ("allowed/../allowed-not/private.txt", "outside the folders"),
        ("allowed", "outside the folders"),
        ("allowed/below", "is a folder"),
        ("allowed/gone.txt", "does not exist"),
        ("allowed/.env", "hidden"),
        ("allowed/server.pem", "secret"),
        ("allowed/a\0.txt", "NUL"),
    ],
)
def test_a_file_that_may_not_be_read_is_refused(world: Path, folders: Folders, name: str, why: str) -> None:
    with pytest.raises(FileRefused, match=why):
        folders.open(f"{world}/{name}")


def test_a_relative_path_is_refused_with_its_own_reason(folders: Folders) -> None:
    with pytest.raises(FileRefused, match="not an absolute path"):
        folders.open("below/a.txt")


@pytest.mark.parametrize("to", ["../elsewhere", "/etc", "a/../../b", "\0"])
def test_nothing_is_saved_outside_the_save_folder(folders: Folders, to: str) -> None:
    with pytest.raises(FileRefused, match="Files are saved in"):
        folders.writable(to)


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
        (world / "allowed" / name).write_text(name, encoding="utf-8")

    with pytest.raises(FileRefused, match=r"Several files match .*u202f"):
        folders.open(f"{world}/allowed/a b.png")
    (world / "allowed/a b.png").write_text("exact")
    assert b"exact" == content(folders, f"{world}/allowed/a b.png")


@pytest.mark.finding("S10", "B11")
def test_a_folder_with_a_similar_name_is_another_folder(world: Path, folders: Folders) -> None:
    if (world / "ALLOWED").exists():
        pytest.skip("this disk ignores case")
    (world / "ALLOWED").mkdir()
    (world / "ALLOWED/private.txt").write_text("x")

    with pytest.raises(FileRefused, match="outside the folders"):
        folders.open(f"{world}/ALLOWED/private.txt")


def test_a_name_alone_is_found_in_the_one_folder_that_has_it(folders: Folders) -> None:
    """M13: cat.png was "not an absolute path"."""
    (folders.allowed[0] / "only.txt").write_text("x")

    descriptor, name = folders.open("only.txt")
    os.close(descriptor)

    assert "only.txt" == name


def test_a_name_alone_that_several_folders_have_is_refused(folders: Folders) -> None:
    for folder in (folders.allowed[0], folders.saving):
        folder.mkdir(exist_ok=True)
        (folder / "twice.txt").write_text(str(folder))

    with pytest.raises(FileRefused) as refused:
        folders.open("twice.txt")

    assert str(folders.allowed[0] / "twice.txt") in str(refused.value) + refused.value.next_step


def test_a_name_alone_that_no_folder_has_is_said_so(folders: Folders) -> None:
    with pytest.raises(FileRefused, match=r"No readable folder has a file named none\.txt"):
        folders.open("none.txt")
