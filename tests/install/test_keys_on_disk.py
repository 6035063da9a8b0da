"""What `install` and `uninstall` leave on disk of a key, and what they carry along."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from inferencesh_mcp.hosts import install
from inferencesh_mcp.hosts.catalogue import Machine
from tests.support.systems import SYSTEM
from tests.test_cli import call

FIRST, SECOND = "inf_test_CANARY_first", "inf_test_CANARY_second"


def place(host: str, home: Path) -> Path:
    """The file of a host on this system."""
    return install.place(install.host_named(host), Machine(SYSTEM, home, {}))


def files_with(text: str, home: Path) -> list[str]:
    return [
        path.name for path in home.rglob("*") if path.is_file() and text in path.read_text("utf-8", errors="replace")
    ]


@pytest.mark.finding("F30")
def test_the_key_that_is_given_now_replaces_the_one_that_stands_there(tmp_path: Path) -> None:
    call("install", "zed", HOME=str(tmp_path), INFERENCE_API_KEY=FIRST)
    call("install", "zed", HOME=str(tmp_path), INFERENCE_API_KEY=SECOND)

    assert SECOND in place("zed", tmp_path).read_text("utf-8")
    assert [] == files_with(FIRST, tmp_path)


@pytest.mark.finding("F31")
def test_no_copy_of_the_key_is_left_when_the_host_has_rewritten_its_file(tmp_path: Path) -> None:
    path = place("claude-desktop", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(before := json.dumps({"theme": "dark"}))
    path.chmod(0o644)
    call("install", "claude-desktop", HOME=str(tmp_path), INFERENCE_API_KEY=FIRST)
    [backup] = path.parent.glob("*.before-*")
    assert before == backup.read_text()
    assert sys.platform == "win32" or stat.S_IMODE(backup.stat().st_mode) == 0o600
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scale": 2}))  # the host saves its settings its own way

    call("uninstall", "claude-desktop", HOME=str(tmp_path))

    assert [] == files_with(FIRST, tmp_path)
    assert {"theme": "dark", "scale": 2} == json.loads(path.read_text())


@pytest.mark.finding("F31")
def test_the_first_backup_is_kept(tmp_path: Path) -> None:
    path = place("claude-desktop", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(before := json.dumps({"theme": "dark"}))
    for seconds in ("50", "51", "52"):
        call("install", "claude-desktop", "--wait-seconds", seconds, HOME=str(tmp_path), INFERENCE_API_KEY=FIRST)

    assert [before] == [backup.read_text() for backup in path.parent.glob("*.before-*")]


@pytest.mark.finding("F32")
def test_installed_twice_and_taken_out_nothing_remains(tmp_path: Path) -> None:
    call("install", "zed", HOME=str(tmp_path), INFERENCE_API_KEY=FIRST)
    call("install", "zed", "--wait-seconds", "50", HOME=str(tmp_path), INFERENCE_API_KEY=FIRST)
    call("uninstall", "zed", HOME=str(tmp_path))

    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.finding("S10")
def test_a_personal_key_does_not_become_the_token_of_a_server_elsewhere(tmp_path: Path) -> None:
    page = call("install", "zed", "--http", "https://team.example/mcp", HOME=str(tmp_path), INFERENCE_API_KEY=FIRST)

    assert 0 == page.returncode
    assert [] == files_with(FIRST, tmp_path)


@pytest.mark.finding("F25")
def test_certificates_and_proxies_are_carried_along(tmp_path: Path) -> None:
    """Hosts clear the environment: without them the server reaches nothing."""
    call(
        "install",
        "codex",
        HOME=str(tmp_path),
        SSL_CERT_FILE="/etc/corp.pem",
        HTTPS_PROXY="http://proxy.corp:3128",
        no_proxy="a.corp",
    )
    text = (tmp_path / ".codex" / "config.toml").read_text("utf-8")

    assert [] == [value for value in ("/etc/corp.pem", "http://proxy.corp:3128", "a.corp") if value not in text]


@pytest.mark.finding("F25")
def test_the_password_of_a_proxy_is_not_written_down(tmp_path: Path) -> None:
    call("install", "codex", HOME=str(tmp_path), HTTPS_PROXY="http://ada:hunter2@proxy.corp:3128")

    assert [] == files_with("hunter2", tmp_path)


@pytest.mark.finding("F35")
def test_gemini_says_what_to_do_in_a_folder_that_is_not_trusted(tmp_path: Path) -> None:
    assert "trust the folder" in call("install", "gemini", HOME=str(tmp_path)).stdout
