"""The commands, as a person types them."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx2
import pytest

from inferencesh_mcp import __version__
from tests.benchmarks.processes import sandbox
from tests.conftest import KEY, Upstream
from tests.support.faults import Status


def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with nothing of ours in its environment but what is given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERENCE_")}
    return subprocess.run(
        [sys.executable, "-m", "inferencesh_mcp", *arguments],
        env=clean | environ, capture_output=True, timeout=50, errors="replace",
        encoding=environ.get("PYTHONIOENCODING", "utf-8"), stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_version() -> None:
    assert f"inferencesh-mcp {__version__}\n" == call("--version").stdout


COMMANDS = [
    ("--help",), ("--sandbox", "doctor"), ("doctor", "--json"), ("token", "Łukasz"), ("install", "vscode"), ("install", "codex"),
    ("install", "zed", "--print"), ("uninstall", "vscode"), ("sandbox", "--host", "Ł"), ("http", "--host", "Ł"),
    ("stdio", "--wait-seconds", "Łż×→"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "command"),
    [("cp1251", command) for command in COMMANDS]
    + [(encoding, ("--sandbox", "doctor")) for encoding in ("cp1252", "cp437", "ascii")],
    ids=lambda value: " ".join(value).encode("ascii", "replace").decode() if isinstance(value, tuple) else value,
)
def test_every_output_fits_every_encoding(command: tuple[str, ...], encoding: str, tmp_path: Path) -> None:
    """A pipe or a file on Windows takes the letters of one country. A command must not end half way because of another."""
    home = tmp_path / "Łukasz 日本"
    home.mkdir()
    (home / ".claude.json").write_text("{}")
    page = call(
        *command, HOME=str(home), USERPROFILE=str(home), INFERENCE_SAVE_DIR=str(home / "×→"), PYTHONIOENCODING=encoding
    )

    assert "Traceback" not in page.stderr
    assert "Error" not in page.stderr or page.returncode == 2, page.stderr


@pytest.mark.parametrize("encoding", ["cp1251", "ascii"])
def test_the_demo_fits_every_encoding(encoding: str, tmp_path: Path) -> None:
    page = call("demo", "--to", str(tmp_path / "Łódź"), PYTHONIOENCODING=encoding)

    assert (0, "") == (page.returncode, page.stderr)
    assert 2 == len(list((tmp_path / "Łódź").glob("*.png")))


@pytest.mark.parametrize("host", ["cursor", "codex"])
def test_an_entry_that_is_printed_means_the_same_in_every_encoding(host: str, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "INFERENCE_SAVE_DIR": str(tmp_path / "é Łódź 😀")}
    parse = tomllib.loads if host == "codex" else json.loads
    pages = [call("install", host, "--print", **environ, PYTHONIOENCODING=encoding) for encoding in ("utf-8", "cp1252")]

    assert [0, 0] == [page.returncode for page in pages]
    assert parse(pages[0].stdout) == parse(pages[1].stdout)


def test_help_can_be_read() -> None:
    """It says what the command is for, how to try it, and every option with its variable."""
    told = call("--help")

    assert (0, "") == (told.returncode, told.stderr)
    assert "inferencesh-mcp demo" in told.stdout
    assert {"sandbox", "demo", "doctor", "install", "uninstall"} <= set(
        re.findall(r"^  (\w+)  ", told.stdout, re.MULTILINE)
    )
    assert "129, 130, 143" in told.stdout, "the exit codes"
    assert told.stdout.count("\n") <= 40, "it fits a screen"


@pytest.mark.finding("B13")
@pytest.mark.parametrize(
    ("command", "own", "others"),
    [
        ("stdio", ("--wait-seconds", "--allowed-dirs", "--on-cancel [cancel|keep]"), ("--http-auth", "--port")),
        ("http", ("--wait-seconds", "--http-auth [caller|tokens|oauth]", "--port"), ("--allowed-dirs",)),
        ("install", ("--wait-seconds", "--sandbox", "--name"), ("--http-auth",)),
        ("doctor", ("--wait-seconds", "--http-auth", "--json"), ("--port",)),
        ("sandbox", ("--log-level", "--port"), ("--wait-seconds",)),
    ],
)
def test_the_help_of_a_command_has_the_options_that_work_on_it(
    command: str, own: tuple[str, ...], others: tuple[str, ...]
) -> None:
    page = call(command, "--help").stdout

    assert [] == [option for option in own if option not in page]
    assert [] == [option for option in (*others, "--api-key") if option in page]


@pytest.mark.finding("B13", "F36")
def test_an_option_stands_before_or_after_its_command() -> None:
    assert 0 == call("doctor", "--sandbox").returncode
    assert 0 == call("--sandbox", "doctor").returncode
    assert "No such option" not in call("http", "--sandbox", "--http-auth", "nobody").stderr


@pytest.mark.finding("B12", "F26")
def test_a_variable_that_is_no_setting_is_warned_of_once() -> None:
    """And the start goes on: it may belong to another program."""
    page = call(INFERENCE_MODEL="llama", INFERENCE_SANDBOX="true")

    assert 0 == page.returncode
    assert 1 == page.stderr.count("INFERENCE_MODEL")


@pytest.mark.finding("B3")
@pytest.mark.parametrize("home", [None, "/root/" + "a" * 300], ids=["unset", "cannot be looked at"])
def test_the_server_starts_where_home_is_unset_or_closed(home: str | None) -> None:
    """A service without HOME, or with the home of another user: a name too long is refused by the system likewise."""
    environ = {"PATH": os.environ["PATH"], "INFERENCE_SANDBOX": "true"} | ({"HOME": home} if home else {})
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}  # fmt: skip
    page = subprocess.run([sys.executable, "-m", "inferencesh_mcp"], env=environ, input=json.dumps(hello) + "\n",
                          capture_output=True, text=True, timeout=50, check=False)  # fmt: skip

    assert "Traceback" not in page.stderr
    assert json.loads(page.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "inference"


def test_a_wrong_setting_stops_the_start() -> None:
    told = call("--wait-seconds", "soon")

    expected = 'inferencesh-mcp: INFERENCE_WAIT_SECONDS is "soon", but must be a number from 1 to 3600.\n'
    assert (2, "", expected) == (told.returncode, told.stdout, told.stderr)


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
def test_wrong_use_is_one_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    told = call(*arguments, HOME=str(tmp_path))

    assert (2, "", 1) == (told.returncode, told.stdout, told.stderr.count("\n"))
    assert told.stderr.startswith(f"inferencesh-mcp: {sentence}")


def test_a_flag_stands_in_for_its_variable() -> None:
    told = call("--wait-seconds", "9", "doctor", INFERENCE_WAIT_SECONDS="soon", INFERENCE_SANDBOX="true")

    assert 0 == told.returncode


def test_root_is_refused_where_the_operator_says_so() -> None:
    """As the image does (threat T-25); whoever is not root is not bothered."""
    told = call("--sandbox", "doctor", INFERENCE_REFUSE_ROOT="true")

    if os.geteuid() == 0:
        assert (2, True) == (told.returncode, "INFERENCE_REFUSE_ROOT" in told.stderr)
    else:
        assert (0, "") == (told.returncode, told.stderr)


def test_an_unknown_command_is_answered_with_what_there_is() -> None:
    told = call("demmo")

    assert 2 == told.returncode
    assert "demmo" in told.stderr


def test_the_demo_refuses_a_folder_that_the_server_may_not_write_to() -> None:
    told = call("demo", "--to", "/")

    assert (2, "") == (told.returncode, told.stdout)
    assert 'is "/", but must be the absolute path of a folder' in told.stderr


def test_the_demo_ends_with_a_picture(tmp_path: Path) -> None:
    """Progress is told in plain lines where there is no terminal, and the last line is the path of a PNG."""
    told = call("demo", "--to", str(tmp_path))

    assert (0, "") == (told.returncode, told.stderr)
    assert re.search(r"· \d+ s · task \w+", told.stdout), "progress is told"
    assert "A person is asked: The agent asks to use" in told.stdout
    picture = Path(told.stdout.splitlines()[-1]).read_bytes()
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


def test_no_header_can_break_a_served_sandbox() -> None:
    """The tests' sandbox takes faults from this header; the one that we ship does not know it."""
    with sandbox() as url, httpx2.Client(base_url=url, headers={"authorization": "Bearer inf_me"}) as http:
        usual = http.get("/me")
        faults = [{"kind": "status", "code": 503}, {"kind": "drop"}, {"kind": "no such fault"}]
        answers = [http.get("/me", headers={"x-sandbox-fault": json.dumps(fault)}) for fault in faults]

    assert 200 == usual.status_code
    assert [(200, usual.content)] * 3 == [(answer.status_code, answer.content) for answer in answers]


class TestDoctor:
    def test_it_asks_for_a_key_and_says_where_to_get_one(self) -> None:
        told = call("doctor")

        assert 1 == told.returncode
        assert "failure  key: INFERENCE_API_KEY is not set" in told.stdout
        assert "https://inference.sh" in told.stdout

    @pytest.mark.anyio
    async def test_all_is_well(self, upstream: Upstream, environ: dict[str, str], tmp_path: Path) -> None:
        """And what programs read has a stable shape."""
        from anyio import to_thread

        pins = {"INFERENCE_PIN": "sandbox/echo, mine=sandbox/gone"}
        told = await to_thread.run_sync(lambda: call("doctor", "--json", HOME=str(tmp_path), **environ | pins))

        assert 0 == told.returncode, told.stdout
        report = json.loads(told.stdout)
        assert (True, {"ok", "findings"}) == (report["ok"], report.keys())
        assert all({"check", "verdict", "found", "do"} == finding.keys() for finding in report["findings"])
        findings = {finding["check"]: finding["verdict"] for finding in report["findings"]}
        checks = ("versions", "settings", "api", "key", "clock", "save folder", "host")
        assert dict.fromkeys(checks, "ok") | {"pin": "warning"} == findings
        pinned = [finding["found"] for finding in report["findings"] if finding["check"] == "pin"]
        assert "sandbox/echo is the tool echo" == pinned[0]
        assert pinned[1].startswith("sandbox/gone cannot be the tool mine: ")
        assert KEY not in told.stdout + told.stderr

    @pytest.mark.anyio
    async def test_a_refused_key_is_told_as_such(self, upstream: Upstream, environ: dict[str, str]) -> None:
        from anyio import to_thread

        told = await to_thread.run_sync(lambda: call("doctor", **environ | {"INFERENCE_API_KEY": "sk-other"}))

        assert 1 == told.returncode
        assert "ok       api:" in told.stdout
        assert "failure  key:" in told.stdout
        assert "does not begin with inf_" in told.stdout
        assert "sk-other" not in told.stdout + told.stderr

    @pytest.mark.anyio
    @pytest.mark.finding("S1")
    async def test_a_key_of_the_newer_form_is_taken_for_a_key(
        self, upstream: Upstream, environ: dict[str, str]
    ) -> None:
        from anyio import to_thread

        key = "1nfsh-01jxq7w3tdk5m8v2zr9e4hbgnc"
        upstream.sandbox.faults.add(Status(code=401, body=f'{{"detail": "{key} is unknown"}}'), times=-1)
        told = await to_thread.run_sync(lambda: call("doctor", **environ | {"INFERENCE_API_KEY": key}))

        assert "failure  key:" in told.stdout
        assert "does not begin with" not in told.stdout
        assert key not in told.stdout + told.stderr

    def test_nobody_there_is_told_as_such(self) -> None:
        told = call("doctor", INFERENCE_API_KEY="inf_k", INFERENCE_BASE_URL="http://127.0.0.1:1")

        assert 1 == told.returncode
        assert "failure  api: http://127.0.0.1:1" in told.stdout
        assert "Connect call failed" in told.stdout, "what the system said"

    def test_settings_that_do_not_go_together_stop_a_run(self) -> None:
        told = call("doctor", INFERENCE_SANDBOX="true", INFERENCE_PIN="app_run=sandbox/echo")

        assert 1 == told.returncode
        assert 'failure  settings: INFERENCE_PIN has a tool called "app_run"' in told.stdout

    def test_settings_that_http_does_not_start_with_are_told(self) -> None:
        told = call("doctor", INFERENCE_SANDBOX="true", INFERENCE_HTTP_AUTH="tokens")

        assert 0 == told.returncode, "what a host starts runs all the same"
        assert "warning  http settings: INFERENCE_HTTP_TOKENS or" in told.stdout

    def test_a_folder_that_is_missing_is_a_warning(self, tmp_path: Path) -> None:
        told = call("doctor", INFERENCE_SANDBOX="true", INFERENCE_ALLOWED_DIRS=str(tmp_path / "gone"))

        assert 0 == told.returncode
        assert "warning  allowed folder" in told.stdout
