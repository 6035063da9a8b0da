"""`install` and `uninstall` as a person types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inferencesh_mcp.cli import HOSTS as NAMES
from inferencesh_mcp.hosts.catalogue import HOSTS, KEY
from inferencesh_mcp.hosts.command import NETWORK_VARIABLES, PASSED_SETTINGS
from inferencesh_mcp.settings import FIELDS
from tests.install.test_keys_on_disk import place
from tests.support.systems import program
from tests.test_cli import call

SECRET = "inf_test_CANARY_91ab"
CURSOR = Path(".cursor/mcp.json")


def test_every_host_of_the_table_can_be_named() -> None:
    assert tuple(host.name for host in HOSTS) == NAMES


def test_in_and_out(tmp_path: Path) -> None:
    """It says what it did and what is left to do; a flag of this start is a variable of the server's."""
    path = tmp_path / CURSOR
    put_in = call("install", "cursor", "--wait-seconds", "50", HOME=str(tmp_path), INFERENCE_API_KEY=SECRET,
                  INFERENCE_HTTP_TOKENS="ada:" + "0" * 64)  # fmt: skip

    assert (0, "") == (put_in.returncode, put_in.stderr)
    assert f"Cursor: created inference in {path}." in put_in.stdout
    assert f"Set {KEY} in the environment" in put_in.stdout
    assert f"{KEY} is not set here" not in put_in.stdout
    entry = json.loads(path.read_text("utf-8"))["mcpServers"]["inference"]
    carried = {name: value for name, value in entry["env"].items() if name.upper() not in NETWORK_VARIABLES}
    assert {KEY: "${env:INFERENCE_API_KEY}", "INFERENCE_WAIT_SECONDS": "50"} == carried
    assert SECRET not in put_in.stdout + path.read_text("utf-8")
    version = subprocess.run(
        [entry["command"], *entry["args"], "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("inferencesh-mcp ")

    taken_out = call("uninstall", "cursor", HOME=str(tmp_path))
    assert (0, f"Cursor: removed inference from {path}.\n") == (taken_out.returncode, taken_out.stdout)
    assert not path.exists()


def test_a_second_install_keeps_the_settings_that_it_does_not_name(tmp_path: Path) -> None:
    """A limit that was set once holds until somebody removes it; a trial in the sandbox does not go on."""
    path = tmp_path / CURSOR
    first = {"INFERENCE_READ_ONLY": "true", "INFERENCE_WAIT_SECONDS": "50", "INFERENCE_SANDBOX": "true", KEY: SECRET}
    path.parent.mkdir()
    old_entry = {"command": "inferencesh-mcp", "args": [], "env": first}
    path.write_text(json.dumps({"mcpServers": {"inference": old_entry}}), "utf-8")

    told = call("install", "cursor", "--wait-seconds", "60", HOME=str(tmp_path))

    assert 0 == told.returncode
    assert "Cursor: kept from the old entry: INFERENCE_READ_ONLY." in told.stdout
    assert "The key that was in the old entry is no longer there." in told.stdout
    assert f"{KEY} is not set here. Get a key at" in told.stdout
    entry = json.loads(path.read_text("utf-8"))["mcpServers"]["inference"]
    carried = {name: value for name, value in entry["env"].items() if name.upper() not in NETWORK_VARIABLES}
    new = {KEY: "${env:INFERENCE_API_KEY}", "INFERENCE_READ_ONLY": "true", "INFERENCE_WAIT_SECONDS": "60"}
    assert new == carried
    assert SECRET not in told.stdout


def test_every_setting_of_a_local_server_goes_along_but_those_of_a_process() -> None:
    """A limit of cost that is given to `install` must hold in the host."""
    local = {name for name, field in FIELDS.items() if not field.metadata["http"]}

    assert {"api_key", "traces", "refuse_root"} == local - PASSED_SETTINGS


def test_no_secret_of_a_gateway_goes_along() -> None:
    """What goes along is named; every name is a setting, and none is a secret or for HTTP alone."""
    assert set(FIELDS) >= PASSED_SETTINGS
    assert "api_key" not in PASSED_SETTINGS
    assert not [name for name in PASSED_SETTINGS if re.match("http_|oauth_|allowed_hosts|trusted", name)]


def test_print_only_shows_and_shows_no_key(tmp_path: Path) -> None:
    told = call("install", "zed", "--print", "--name", "mine", HOME=str(tmp_path), INFERENCE_API_KEY=SECRET)

    assert 0 == told.returncode
    assert {"mine"} == json.loads(told.stdout)["context_servers"].keys()
    assert str(place("zed", tmp_path)) in told.stderr
    assert SECRET not in told.stdout + told.stderr
    assert [] == list(tmp_path.iterdir())


def test_what_cannot_be_done_is_said_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / CURSOR
    path.parent.mkdir()
    path.write_text('{"mcpServers": {,}}')

    told = call("install", "cursor", HOME=str(tmp_path))

    assert (1, "") == (told.returncode, told.stdout)
    assert f"inferencesh-mcp: {path} is not valid JSON at line 1, column 17" in told.stderr
    assert '{"mcpServers": {,}}' == path.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal")
def test_a_key_that_must_stand_in_the_file_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    """And not asked for again: the second time it is taken from there."""
    ours, theirs = os.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERENCE_")}
    command = [sys.executable, "-m", "inferencesh_mcp", "install", "claude-desktop"]
    with subprocess.Popen(
        command, env=clean | {"HOME": str(tmp_path)}, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        asked = b""
        while b"later)" not in asked:
            asked += process.stderr.read(1)
        os.write(ours, f"{SECRET}\n".encode())
        out, err = process.communicate(timeout=20)
    shown = os.read(ours, 1000) if _readable(ours) else b""
    os.close(ours)
    os.close(theirs)

    assert 0 == process.returncode, err
    path = place("claude-desktop", tmp_path)
    assert SECRET == json.loads(path.read_text("utf-8"))["mcpServers"]["inference"]["env"][KEY]
    assert b"Your key is in the file" in out
    assert SECRET.encode() not in out + asked + err + shown
    assert "nothing to do" in call("install", "claude-desktop", HOME=str(tmp_path)).stdout


def test_install_alone_lists_the_hosts_of_this_machine(tmp_path: Path) -> None:
    """By their file, their folder or their command. Nothing is written without a terminal to ask at."""
    (tmp_path / ".cursor").mkdir()
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "codex")

    page = call("install", HOME=str(tmp_path), PATH=str(tmp_path / "bin"))

    assert (0, "") == (page.returncode, page.stderr)
    assert page.stdout == "Cursor: inferencesh-mcp install cursor\nCodex: inferencesh-mcp install codex\n"
    assert [] == [*(tmp_path / ".cursor").iterdir()]
    assert "No known host was found" in call("install", HOME=str(tmp_path / "bin"), PATH="/nowhere").stdout
    assert 2 == call("install", "--print").returncode


def test_uninstall_alone_lists_the_hosts_that_have_the_entry(tmp_path: Path) -> None:
    """A file that cannot be read is listed too: removing says why."""
    for host in ("cursor", "zed"):
        call("install", host, HOME=str(tmp_path), INFERENCE_API_KEY=SECRET)
    (tmp_path / ".cursor/mcp.json").write_text("{")
    (tmp_path / ".codex").mkdir()
    before = place("zed", tmp_path).read_bytes()

    page = call("uninstall", HOME=str(tmp_path))

    assert (0, "") == (page.returncode, page.stderr)
    assert "Cursor: inferencesh-mcp uninstall cursor\nZed: inferencesh-mcp uninstall zed\n" == page.stdout
    assert before == place("zed", tmp_path).read_bytes()
    assert "has an entry named mine." in call("uninstall", "--name", "mine", HOME=str(tmp_path / ".codex")).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal")
def test_install_alone_asks_about_each_host_and_goes_on_after_a_refused_file(tmp_path: Path) -> None:
    (tmp_path / ".cursor").mkdir()
    (tmp_path / CURSOR).write_text("{")
    for folder in (".codex", ".codeium/windsurf"):
        (tmp_path / folder).mkdir(parents=True)
    ours, theirs = os.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERENCE_")}
    command = [sys.executable, "-m", "inferencesh_mcp", "--sandbox", "install"]
    with subprocess.Popen(
        command, env=clean | {"HOME": str(tmp_path), "PATH": "/nowhere"}, stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        os.write(ours, b"y\nn\ny\n")
        out, err = process.communicate(timeout=20)
    os.close(ours)
    os.close(theirs)

    assert 1 == process.returncode
    assert "Cursor: " in err
    assert "is not valid JSON" in err
    assert "Codex" not in out
    assert "Windsurf: created inference" in out


def _readable(handle: int) -> bool:
    import select

    return bool(select.select([handle], [], [], 0)[0])


def test_a_key_that_can_be_none_is_refused_unseen(tmp_path: Path) -> None:
    told = call("install", "zed", HOME=str(tmp_path), INFERENCE_API_KEY=f"{SECRET} and more")

    assert (2, "") == (told.returncode, told.stdout)
    assert SECRET not in told.stderr
    assert [] == list(tmp_path.iterdir())
