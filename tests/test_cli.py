"""The commands, as a person types them."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
import pytest

from inferencesh_mcp import __version__
from tests import stdio_fork
from tests.benchmarks.processes import sandbox
from tests.support.systems import home_variables


def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with nothing of ours in its environment but what is given. Without a HOME it is empty."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERENCE_")}
    with tempfile.TemporaryDirectory() as empty:
        home = home_variables(Path(environ.get("HOME", empty)))
        return subprocess.run(
            stdio_fork.command(*arguments),
            env=clean | home | environ, capture_output=True, text=True, timeout=50, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip


@pytest.mark.usefixtures("fresh")
def test_version() -> None:
    assert f"inferencesh-mcp {__version__}\n" == call("--version").stdout


def test_the_help_is_complete() -> None:
    """It says what the command is for, how to try it, and every option with its variable."""
    result = call("--help")

    assert (0, "") == (result.returncode, result.stderr)
    assert "inferencesh-mcp demo" in result.stdout
    assert {"sandbox", "demo", "doctor", "install", "uninstall"} <= set(
        re.findall(r"^  (\w+)  ", result.stdout, re.MULTILINE)
    )
    assert "129, 130, 143" in result.stdout, "the exit codes"
    assert result.stdout.count("\n") <= 40, "it fits a screen"


@pytest.mark.finding("B13")
@pytest.mark.parametrize(
    ("command", "own", "others"),
    [
        ("stdio", ("--wait-seconds", "--allowed-dirs", "--on-cancel [cancel|keep]"), ("--http-auth", "--port")),
        ("http", ("--wait-seconds", "--http-auth [caller|tokens|oauth]", "--port"), ("--allowed-dirs",)),
        ("install", ("--wait-seconds", "--sandbox", "--name"), ("--http-auth",)),
        ("doctor", ("--wait-seconds", "--http-auth", "--json"), ("--port",)),
        ("sandbox", ("--log-level", "--port"), ("--on-cancel",)),
    ],
)
def test_the_help_of_a_command_has_the_options_that_work_on_it(
    command: str, own: tuple[str, ...], others: tuple[str, ...]
) -> None:
    result = call(command, "--help").stdout

    assert [] == [option for option in own if option not in result]
    assert [] == [option for option in (*others, "--api-key") if option in result]
    assert "--wait-seconds is INFERENCE_WAIT_SECONDS" in result
    assert result.count("\n") <= 90, "two screens, for the longest"


@pytest.mark.finding("B13", "F36")
def test_an_option_may_stand_before_or_after_its_command() -> None:
    assert 0 == call("doctor", "--sandbox").returncode
    assert 0 == call("--sandbox", "doctor").returncode
    assert "No such option" not in call("http", "--sandbox", "--http-auth", "nobody").stderr


@pytest.mark.finding("B12", "F26")
def test_an_unknown_variable_is_warned_of_once() -> None:
    """And the start goes on: it may belong to another program."""
    result = call(INFERENCE_MODEL="llama", INFERENCE_SANDBOX="true")

    assert 0 == result.returncode
    assert 1 == result.stderr.count("INFERENCE_MODEL")


@pytest.mark.finding("B3")
@pytest.mark.parametrize("home", [None, "/root/" + "a" * 300], ids=["unset", "cannot be looked at"])
def test_the_server_starts_without_a_readable_home(home: str | None) -> None:
    """A service without HOME, or with the home of another user: a name too long is refused by the system likewise."""
    environ = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    environ |= {"INFERENCE_SANDBOX": "true"} | ({"HOME": home, "USERPROFILE": home} if home else {})
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}  # fmt: skip
    result = subprocess.run([sys.executable, "-m", "inferencesh_mcp"], env=environ, input=json.dumps(hello) + "\n",
                          capture_output=True, text=True, timeout=50, check=False)  # fmt: skip

    assert "Traceback" not in result.stderr
    assert json.loads(result.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "inference"


def test_a_wrong_setting_stops_the_start() -> None:
    result = call("--wait-seconds", "soon")

    expected = 'inferencesh-mcp: INFERENCE_WAIT_SECONDS is "soon", but must be a number from 1 to 3600.\n'
    assert (2, "", expected) == (result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sandbox", "--host", "192.0.2.1"), "Cannot listen on 192.0.2.1, port 8787: "),
        (("install", "cursor", "--name", "Mine"), '--name is "Mine", but must be up to 24 of a-z, 0-9 and -'),
        (("install", "cursor", "--sign-in"), "--sign-in needs --http"),
        (("install", "cursor", "--http", "ftp://mcp.example.com"), "--http must be an https:// address"),
        (
            ("install", "claude-desktop", "--http", "https://mcp.example.com"),
            "Claude Desktop cannot use a remote server",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    result = call(*arguments, HOME=str(tmp_path))

    assert (2, "", 1) == (result.returncode, result.stdout, result.stderr.count("\n"))
    assert result.stderr.startswith(f"inferencesh-mcp: {sentence}")


def test_an_option_overrides_its_variable() -> None:
    result = call("--wait-seconds", "9", "doctor", INFERENCE_WAIT_SECONDS="soon", INFERENCE_SANDBOX="true")

    assert 0 == result.returncode


def test_root_is_refused_if_the_operator_says_so() -> None:
    """As the image does (threat T-25); whoever is not root is not bothered."""
    result = call("--sandbox", "doctor", INFERENCE_REFUSE_ROOT="true")

    if sys.platform != "win32" and os.geteuid() == 0:
        assert (2, True) == (result.returncode, "INFERENCE_REFUSE_ROOT" in result.stderr)
    else:
        assert (0, "") == (result.returncode, result.stderr)


def test_an_unknown_command_is_named() -> None:
    result = call("demmo")

    assert 2 == result.returncode
    assert "demmo" in result.stderr


def test_the_demo_refuses_a_folder_it_may_not_write_to() -> None:
    result = call("demo", "--to", "/")

    assert (2, "") == (result.returncode, result.stdout)
    assert f'is "{os.path.abspath("/")}", but must be the absolute path of a folder' in result.stderr


def test_the_demo_may_be_written_to_the_null_device(tmp_path: Path) -> None:
    """On Windows that counts as a terminal for `isatty`, and has no width."""
    command = [sys.executable, "-m", "inferencesh_mcp", "demo", "--to", str(tmp_path)]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, timeout=50
    )

    assert (0, b"") == (result.returncode, result.stderr)


def test_the_demo_ends_with_a_picture(tmp_path: Path) -> None:
    """Progress is told in plain lines where there is no terminal, and the last line is the path of what was drawn."""
    result = call("demo", "--to", str(tmp_path))

    assert (0, "") == (result.returncode, result.stderr)
    assert re.search(r"· \d+ s · task \w+", result.stdout), "progress is told"
    assert "A person is asked: The agent asks to use" in result.stdout
    assert tmp_path / "drawing.png" == Path(result.stdout.splitlines()[-1])
    picture = (tmp_path / "drawing.png").read_bytes()
    assert b"\x89PNG\r\n\x1a\n" == picture[:8]
    assert min(struct.unpack(">II", picture[16:24])) > 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_sandbox_says_when_it_is_ready_and_ends_on_a_signal() -> None:
    command = [sys.executable, "-m", "inferencesh_mcp", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)

    assert re.fullmatch(r"sandbox ready at http://127\.0\.0\.1:\d+\n", line)
    assert ("", "") == (out, err)


def test_the_served_sandbox_ignores_the_fault_header() -> None:
    """The tests' sandbox takes faults from this header; the one that we ship does not know it."""
    with sandbox() as url, httpx2.Client(base_url=url, headers={"authorization": "Bearer inf_me"}) as http:
        usual = http.get("/me")
        faults = [{"kind": "status", "code": 503}, {"kind": "drop"}, {"kind": "no such fault"}]
        answers = [http.get("/me", headers={"x-sandbox-fault": json.dumps(fault)}) for fault in faults]

    assert 200 == usual.status_code
    assert [(200, usual.content)] * 3 == [(answer.status_code, answer.content) for answer in answers]
