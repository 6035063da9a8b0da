"""A server that would be wide open, or half set up, does not start (I-21); and how a token is made."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.flows.run_limits import Drain
from inferencesh_mcp.http import tokens
from inferencesh_mcp.http.server import serve
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from tests.test_cli import call

HASH = tokens.line("ada", tokens.mint())
OAUTH = {
    "INFERENCE_HTTP_AUTH": "oauth",
    "INFERENCE_OAUTH_ISSUER": "https://login.example.com",
    "INFERENCE_OAUTH_RESOURCE": "https://mcp.example.com/mcp",
}
OUTSIDE = {"INFERENCE_ALLOWED_HOSTS": "mcp.example.com"}


def refused(environ: dict[str, str], host: str = "127.0.0.1") -> str:
    settings = Settings.from_environ(environ)
    with pytest.raises(SettingsError) as error:
        serve(
            build(settings, remote=True),
            settings,
            Drain(),
            host=host,
            port=0,
            ready=lambda url: pytest.fail(f"open at {url}"),
        )
    return str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "mcp.example.com"])
def test_a_public_address_needs_allowed_hosts(host: str) -> None:
    assert "Set INFERENCE_ALLOWED_HOSTS" in refused({}, host)


def test_a_public_sandbox_needs_authentication() -> None:
    """Whoever brings no key is let into it: that is no way in for everybody."""
    assert "The sandbox admits everybody" in refused(OUTSIDE | {"INFERENCE_SANDBOX": "true"}, "0.0.0.0")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_HTTP_TOKENS": HASH}, "INFERENCE_API_KEY must be set"),
        ({"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_API_KEY": "inf_k"}, "INFERENCE_HTTP_TOKENS or"),
        (OAUTH, "INFERENCE_API_KEY must be set"),
        ({"INFERENCE_HTTP_AUTH": "oauth", "INFERENCE_API_KEY": "inf_k"}, "INFERENCE_OAUTH_ISSUER and"),
        ({"INFERENCE_HTTP_TOKENS": HASH}, "INFERENCE_HTTP_TOKENS needs INFERENCE_HTTP_AUTH=tokens"),
        (OAUTH | {"INFERENCE_HTTP_AUTH": "caller"}, "INFERENCE_OAUTH_ISSUER needs INFERENCE_HTTP_AUTH=oauth"),
        (OAUTH | {"INFERENCE_API_KEY": "inf_k", "INFERENCE_HTTP_KEY_PREFIXES": "inf_"}, "INFERENCE_HTTP_KEY_PREFIXES needs"),
        ({"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_API_KEY": "inf_k", "INFERENCE_HTTP_TOKENS_FILE": "/nowhere"}, "cannot be read"),
    ],
)  # fmt: skip
def test_an_incomplete_or_mixed_mode_does_not_start(environ: dict[str, str], named: str) -> None:
    assert named in refused(environ)


def test_an_invalid_token_file_is_refused_and_not_shown(tmp_path: Path) -> None:
    """A token that was put there instead of its hash would open the door to whoever can read the file."""
    file = tmp_path / "tokens"
    token = tokens.mint()
    file.write_text(f"# who may come in\n\n{HASH}\n{token}\n")

    told = refused(
        {"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_API_KEY": "inf_k", "INFERENCE_HTTP_TOKENS_FILE": str(file)}
    )

    assert "Entry 2 of INFERENCE_HTTP_TOKENS_FILE" in told
    assert token not in told


def test_a_token_is_shown_once_and_stored_as_a_hash(tmp_path: Path) -> None:
    made = call("token", "ada")
    token, line = made.stdout.strip(), made.stderr.strip().splitlines()[-1]
    file = tmp_path / "tokens"
    file.write_text(f"{line}\n")

    known = tokens.read((HASH,), file)

    assert ("ada", None) == (known.name(token), known.name(token[:-1]))
    assert token not in made.stderr
    assert 2 == call("token", "two words").returncode


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_token_file_may_come_from_windows(encoding: str, tmp_path: Path) -> None:
    """Notepad puts a mark before UTF-8, and PowerShell 5 redirects in UTF-16."""
    token = tokens.mint()
    file = tmp_path / "tokens"
    file.write_bytes(f"{tokens.line('ada', token)}\r\n".encode(encoding))

    assert "ada" == tokens.read((), file).name(token)


def test_a_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        told = call("http", "--port", port)

    assert 2 == told.returncode
    assert f"Cannot listen on 127.0.0.1, port {port}" in told.stderr
