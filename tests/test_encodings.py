"""What the commands write, in the encodings of pipes and files on Windows and in bare containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.systems import home_variables


def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own: PYTHONIOENCODING counts only when Python starts."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERENCE_")}
    return subprocess.run(
        [sys.executable, "-m", "inferencesh_mcp", *arguments], env=clean | environ, capture_output=True, timeout=50,
        encoding=environ["PYTHONIOENCODING"], errors="replace", stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


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
    page = call(*command, **home_variables(home), INFERENCE_SAVE_DIR=str(home / "×→"), PYTHONIOENCODING=encoding)

    assert "Traceback" not in page.stderr
    assert "Error" not in page.stderr or page.returncode == 2, page.stderr


@pytest.mark.parametrize("encoding", ["cp1251", "ascii"])
def test_the_demo_fits_every_encoding(encoding: str, tmp_path: Path) -> None:
    page = call("demo", "--to", str(tmp_path / "Łódź"), PYTHONIOENCODING=encoding)

    assert (0, "") == (page.returncode, page.stderr)
    assert 2 == len(list((tmp_path / "Łódź").glob("*.png")))


@pytest.mark.parametrize("host", ["cursor", "codex"])
def test_an_entry_that_is_printed_means_the_same_in_every_encoding(host: str, tmp_path: Path) -> None:
    environ = home_variables(tmp_path) | {"INFERENCE_SAVE_DIR": str(tmp_path / "é Łódź 😀")}
    parse = tomllib.loads if host == "codex" else json.loads
    pages = [call("install", host, "--print", **environ, PYTHONIOENCODING=encoding) for encoding in ("utf-8", "cp1252")]

    assert [0, 0] == [page.returncode for page in pages]
    assert parse(pages[0].stdout) == parse(pages[1].stdout)
