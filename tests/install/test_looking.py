"""What `doctor` finds on a machine, and that it never shows a secret."""

from __future__ import annotations

import io
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from inferencesh_mcp.api import http_client
from inferencesh_mcp.doctor import examine
from inferencesh_mcp.hosts import install
from inferencesh_mcp.hosts.catalogue import HOSTS, KEY, Local, Machine
from inferencesh_mcp.settings import Settings
from tests.support.systems import SYSTEM, program
from tests.test_cli import call
from tests.tls import Authority, in_front_of

BY_NAME = {host.name: host for host in HOSTS}
SECRET = "inf_test_CANARY_33ef"


def findings(check: str, home: Path, sandbox: str = "true", **variables: str) -> list[tuple[str, str, str]]:
    out = io.StringIO()
    settings = Settings.from_environ({
        "INFERENCE_SANDBOX": sandbox, "INFERENCE_SAVE_DIR": str(home / "saved"), KEY: SECRET,
        "INFERENCE_BASE_URL": "https://127.0.0.1:1",
    })  # fmt: skip
    examine(settings, Machine(SYSTEM, home, variables), out, as_json=True)
    assert SECRET not in out.getvalue()
    found: list[Any] = json.loads(out.getvalue())["findings"]
    return [(one["verdict"], one["found"], one["do"]) for one in found if one["check"] == check]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_host_is_told_with_what_it_starts(host: Any, tmp_path: Path) -> None:
    command = program(tmp_path, "inferencesh-mcp")
    machine = Machine(SYSTEM, tmp_path, {})
    install.install(host, "inference", Local(str(command)), machine=machine, key=SECRET)

    assert [("ok", f"{host.title}: inference starts {command}", "")] == findings("host", tmp_path)

    command.unlink()
    [(verdict, found, do)] = findings("host", tmp_path)
    assert ("warning", f"{host.title}: inference starts {command}, which does not exist") == (verdict, found)
    assert f"inferencesh-mcp install {host.name}" == do


def test_a_command_without_a_path_is_looked_for(tmp_path: Path) -> None:
    install.install(
        BY_NAME["cursor"], "mine", Local("uvx", ("inferencesh-mcp",)), machine=Machine(SYSTEM, tmp_path, {})
    )

    assert "warning" == findings("host", tmp_path, PATH="/nowhere")[0][0]
    program(tmp_path, "uvx")
    expected = ("ok", "Cursor: mine starts uvx inferencesh-mcp", "")
    assert [expected] == findings("host", tmp_path, PATH=str(tmp_path))


def test_a_host_without_it_and_one_without_a_key_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    machine = Machine(SYSTEM, tmp_path, {})
    for name, text in {"cursor": "{}", "windsurf": "{", "zed": "{}"}.items():
        path = install.place(BY_NAME[name], machine)
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "mcp").touch(0o755)
    install.install(BY_NAME["zed"], "inference", Local(str(tmp_path / "mcp"), ("inferencesh-mcp",)), machine=machine)

    cursor, windsurf, zed = findings("host", tmp_path)
    assert ("ok", "Cursor: is installed, without this server", "inferencesh-mcp install cursor") == cursor
    assert "warning" == windsurf[0]
    assert "is not valid JSON at line 1, column 2" in windsurf[1]
    assert ("warning", "Zed: inference has no key") == zed[:2]
    assert KEY in zed[2]


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("cursor", '{"mcpServers": {"inference": {"command": "inferencesh-mcp", "args": 5, "env": "none"}, "b": 7}}'),
        (
            "codex",
            '[mcp_servers.inference]\ncommand = "inferencesh-mcp"\nadded = 2026-11-01\n[mcp_servers.b]\nat = 07:00:00\n',
        ),
    ],
)
def test_an_entry_of_odd_kinds_is_told_like_any_other(host: str, text: str, tmp_path: Path) -> None:
    """It may be a person's own, or another program's; and it can be taken out."""
    machine = Machine(SYSTEM, tmp_path, {})
    path = install.place(BY_NAME[host], machine)
    path.parent.mkdir()
    path.write_text(text)
    program(tmp_path, "inferencesh-mcp")

    told = ("ok", f"{BY_NAME[host].title}: inference starts inferencesh-mcp", "")
    assert [told] == findings("host", tmp_path, PATH=str(tmp_path))
    assert "removed" == install.uninstall(BY_NAME[host], "inference", machine=machine).action


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        ({"INFERENCE_WAIT_SECONDS": "soon"}, 'INFERENCE_WAIT_SECONDS is "soon", but must be'),
        ({"INFERENCE_WAIT_SECOND": "9"}, "INFERENCE_WAIT_SECOND is not a setting"),
        ({"INFERENCE_ALLOWED_DIRS": "${workspaceFolder}", KEY: "${env:MY_KEY}"}, ""),  # the host puts those in
    ],
)
def test_settings_of_an_entry_with_which_the_server_does_not_start_are_told(
    variables: dict[str, str], wrong: str, tmp_path: Path
) -> None:
    path = install.place(BY_NAME["cursor"], Machine(SYSTEM, tmp_path, {}))
    path.parent.mkdir()
    entry = {"command": "inferencesh-mcp", "env": variables}
    path.write_text(json.dumps({"mcpServers": {"inference": entry}}))
    program(tmp_path, "inferencesh-mcp")

    [(verdict, found, do)] = findings("host", tmp_path, PATH=str(tmp_path))

    assert ("warning" if wrong else "ok") == verdict
    assert wrong in found
    assert (str(path) in do) == bool(wrong)


def test_a_remote_one_is_told_without_what_may_be_a_secret(tmp_path: Path) -> None:
    path = install.place(BY_NAME["cursor"], Machine(SYSTEM, tmp_path, {}))
    path.parent.mkdir()
    entry = {"url": f"https://mcp.example.com/mcp?key={SECRET}", "headers": {"X-Inference": f"{KEY} {SECRET}"}}
    path.write_text(json.dumps({"mcpServers": {"inference": entry}}))

    assert [("ok", "Cursor: inference reaches https://mcp.example.com/mcp", "")] == findings("host", tmp_path)


def test_a_remote_one_that_waits_for_its_key_is_told(tmp_path: Path) -> None:
    host = BY_NAME["zed"]
    server = install.remote("https://mcp.example.com/mcp", host)
    install.install(host, "inference", server, machine=Machine(SYSTEM, tmp_path, {}))

    assert [("warning", "Zed: inference has no key")] == [found[:2] for found in findings("host", tmp_path)]


def test_no_host_is_no_failure(tmp_path: Path) -> None:
    assert "ok" == findings("host", tmp_path)[0][0]


def test_what_the_official_sdks_read_is_told_to_mean_nothing_here(tmp_path: Path) -> None:
    _, (verdict, found, do) = findings("settings", tmp_path, INFERENCE_API_BASE_URL="https://x")

    assert ("warning", "INFERENCE_API_BASE_URL is set, but has no effect here") == (verdict, found)
    assert "INFERENCE_BASE_URL" in do


def test_certificates_that_are_named_and_not_there_stop_a_run(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pem")

    [(verdict, found, do)] = findings("trust store", tmp_path, "false", SSL_CERT_FILE=gone)
    assert ("failure", f"SSL_CERT_FILE is {gone}, which does not exist") == (verdict, found)
    assert do
    assert "ok" == findings("trust store", tmp_path, "false")[0][0]


def test_certificates_that_cannot_be_read_are_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads the variable by itself, when the first address with https is asked."""
    (tmp_path / "no.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no.pem"))
    http_client._trusted.cache_clear()

    [(verdict, found, do)] = findings("api", tmp_path, "false")

    assert ("failure", True) == (verdict, "the certificates to trust cannot be read" in found)
    assert "SSL_CERT_FILE" in do


@pytest.mark.finding("F33")
def test_the_entry_of_a_host_is_started_and_judged_by_its_own_settings(tmp_path: Path) -> None:
    """What is missing in this shell stops nobody whose host has it."""
    home = {"HOME": str(tmp_path)}
    assert 1 == call("doctor", **home).returncode, "no key here, and no host"
    call("install", "cursor", "--sandbox", **home)

    page = call("doctor", **home)

    assert 0 == page.returncode
    assert re.search(r"host starts: Cursor: it starts with \d+ tools", page.stdout)


@pytest.mark.finding("F33")
def test_an_entry_that_does_not_start_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"mcpServers": {"inference": {
        "command": sys.executable, "args": ["-c", "exit(3)", "inferencesh"], "env": {"INFERENCE_SANDBOX": "true"}}}}))  # fmt: skip

    page = call("doctor", HOME=str(tmp_path))

    assert (1, True) == (page.returncode, "Cursor: it does not start" in page.stdout)


@pytest.mark.parametrize("host", ["opencode", "copilot", "cline", "codex"])
def test_doctor_starts_an_entry_with_the_key_that_its_host_passes_on(host: str, tmp_path: Path) -> None:
    """By a reference in the host's own form, by a list of variables, or with its whole environment."""
    environ = {"HOME": str(tmp_path), KEY: SECRET, "INFERENCE_BASE_URL": "https://127.0.0.1:1"}
    call("install", host, **environ)

    result = call("doctor", **environ)

    [started] = [line for line in result.stdout.splitlines() if " host starts: " in line]
    assert re.search(r"it starts with \d+ tools; api: ", started), started
    assert SECRET not in result.stdout


@pytest.mark.finding("F34")
def test_wrong_pins_are_named_with_the_sandbox_too(tmp_path: Path) -> None:
    page = call("doctor", "--sandbox", "--pin", "sandbox/memory:get,sandbox/nope", HOME=str(tmp_path))

    assert 2 == page.stdout.count("warning  pin: ")


@pytest.mark.finding("B4")
def test_doctor_names_a_folder_that_the_system_does_not_let_it_look_at(tmp_path: Path) -> None:
    """As below a folder of another user; a name too long is refused by the system likewise."""
    closed = tmp_path / ("a" * 300)
    page = call(
        "doctor", "--sandbox", "--save-dir", str(closed / "b"), "--allowed-dirs", str(closed), HOME=str(tmp_path)
    )

    assert "" == page.stderr
    assert "allowed folder" in page.stdout


@pytest.mark.finding("F23")
@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"HTTPS_PROXY": "http://me:CANARY@proxy.example:3128"}, "proxy.example:3128 on the way to https://api.example, by HTTPS_PROXY"),
        ({"all_proxy": "proxy.example:3128"}, "proxy.example:3128 on the way to https://api.example, by ALL_PROXY"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": ".example"}, "none on the way to https://api.example, by HTTPS_PROXY, NO_PROXY"),
        ({"https_proxy": "http://first:1", "HTTPS_PROXY": "http://p:1"}, "first:1 on the way to https://api.example, by HTTPS_PROXY"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://p:1"}, None),
        ({"HTTPS_PROXY": "${HTTPS_PROXY}"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_proxy_on_the_way_is_told_without_its_password(
    variables: dict[str, str], told: str | None, tmp_path: Path
) -> None:
    environ = {"INFERENCE_BASE_URL": "https://api.example", "INFERENCE_SAVE_DIR": str(tmp_path), **variables}
    out = io.StringIO()

    examine(Settings.from_environ(environ), Machine(SYSTEM, tmp_path, environ), out)

    assert "CANARY" not in out.getvalue() + repr(Settings.from_environ(environ))
    assert [f"ok       proxy: {told}"] * (told is not None) == re.findall(
        "^.* proxy: .*$", out.getvalue(), re.MULTILINE
    )


@pytest.mark.finding("F23")
def test_a_proxy_that_cannot_be_used_stops_a_run(tmp_path: Path) -> None:
    environ = {"INFERENCE_BASE_URL": "https://api.example", "INFERENCE_SAVE_DIR": str(tmp_path)}
    settings = Settings.from_environ(environ | {"ALL_PROXY": "socks5://127.0.0.1:1"})
    out = io.StringIO()

    assert examine(settings, Machine(SYSTEM, tmp_path, environ), out) == 1
    assert "failure  proxy: ALL_PROXY is not the address of an HTTP proxy" in out.getvalue()
    assert "Write ALL_PROXY as http://host:port, or unset it." in out.getvalue()


@pytest.mark.anyio
@pytest.mark.finding("F24")
async def test_a_certificate_that_is_not_trusted_is_told_as_such(tmp_path: Path) -> None:
    http_client._trusted.cache_clear()
    async with in_front_of(1, Authority(tmp_path).context("localhost")) as port:
        environ = {"INFERENCE_BASE_URL": f"https://localhost:{port}", "INFERENCE_SAVE_DIR": str(tmp_path), KEY: SECRET}
        out, machine = io.StringIO(), Machine(SYSTEM, tmp_path, environ)
        await to_thread.run_sync(partial(examine, Settings.from_environ(environ), machine, out))

    assert "the certificate of localhost is not trusted: set SSL_CERT_FILE" in out.getvalue()
    assert "Let it name a file with your network's certificates" in out.getvalue()
    assert "Check the network" not in out.getvalue()
