"""What the pages say is so: the numbers, the quoted words and the commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from inferencesh_mcp.cli import EXIT_CODES, HOSTS
from inferencesh_mcp.settings import Settings
from inferencesh_sandbox.agents import AGENTS
from inferencesh_sandbox.apps import APPS
from tests import demo_picture
from tests.generated import INSIDE, README, ROOT
from tests.manifests import commands
from tests.pages import anchors, broken_links, hard_to_read, sentences, words

SCREENS = 90
"""Lines before the details: two screens."""
OF_HOSTS = {"✘ Failed to connect", "Disconnected", "failed", "Disabled", "MCP: List Servers", "timed out after 3s"}
"""Words on the README that hosts write: Claude Code 2.1, Gemini CLI 0.61, Qwen Code 0.15, opencode 1.18, Cline CLI 3.0, VS Code."""


def section(page: Path, title: str) -> str:
    return re.split(r"^## ", page.read_text("utf-8").partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_readme_shows_everything_that_a_first_reader_needs_on_two_screens() -> None:
    first = README.read_text("utf-8").partition("\n## Contents\n")[0]

    assert first.count("\n") <= SCREENS
    assert "independent project" in first
    assert "manifests/demo.svg" in first
    assert [line for line in commands().splitlines() if line not in first] == []
    assert [host for host in HOSTS if f"`{host}`" not in first and f"`install {host}`" not in first] == []


def test_every_section_of_the_readme_is_in_its_contents() -> None:
    titles = re.findall(r"^## (.+)$", README.read_text("utf-8").partition("\n## Contents\n")[2], re.MULTILINE)

    assert titles == re.findall(r"\[([^]]+)\]\(#", section(README, "Contents"))


def test_what_the_readme_quotes_is_what_the_server_writes() -> None:
    quoted = set(re.findall("“([^”]+)”", section(README, "When something is wrong"))) - OF_HOSTS
    source = "".join(path.read_text("utf-8") for path in (ROOT / "server").rglob("*.py")).lower()

    assert len(quoted) >= 4
    assert [] == [words for words in quoted for part in words.lower().split("…") if part.strip(" .") not in source]


def test_the_moving_picture_is_what_the_demo_shows() -> None:
    """`make generate` records it anew."""
    recording = demo_picture.record()
    shown = demo_picture.PICTURE.read_text("utf-8")

    assert demo_picture.stable([text for _, text in recording.lines]) == demo_picture.stable(
        demo_picture.lines_of(shown)
    )


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_the_first_command_of_the_readme_runs_in_a_clean_clone(tmp_path: Path) -> None:
    """On a machine with Python alone: what it needs comes from the package index that pip uses."""
    [command] = re.findall(r"```sh\n(python3 .+)\n```", section(README, "Try it"))
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    on_path = tmp_path / "bin"
    on_path.mkdir()
    (on_path / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    environ = {"PATH": f"{on_path}:/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}

    ended = subprocess.run(command, shell=True, cwd=clone, env=environ, capture_output=True, text=True, check=False)

    assert 0 == ended.returncode, ended.stderr
    assert [*tmp_path.glob("inference-demo-*/drawing.png")]
    install = re.findall(r"```sh\n(\S+ install)\n```", section(README, "Add it to your host"))
    listed = subprocess.run([*shlex.split(install[0])], cwd=clone, env=environ, stdin=subprocess.DEVNULL, check=False)
    assert 0 == listed.returncode


def test_the_apps_and_agents_on_the_page_are_those_of_the_sandbox() -> None:
    named = set(re.findall(r"`(sandbox/[a-z-]+)`", section(INSIDE, "The sandbox")))

    assert named == {f"sandbox/{definition.name}" for definition in (*APPS, *AGENTS)}


def test_the_exit_codes_on_the_page_are_those_of_the_help() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", section(INSIDE, "Shutdown and exit codes"), re.MULTILINE)

    assert set(", ".join(rows).split(", ")) == set(re.findall(r"\b\d+\b", EXIT_CODES))


def test_the_limits_on_the_page_for_operators_are_the_settings() -> None:
    limits = " ".join(section(ROOT / "manifests" / "README.md", "Limits").split())
    settings = Settings()

    assert f"{settings.max_concurrent_runs} live runs and {settings.max_streams} open requests" in limits
    assert f"One address may have {settings.max_connections} connections" in limits
    assert f"headers must arrive in {settings.header_seconds:g} seconds" in limits
    assert f"({settings.max_body_bytes // 2**20} MiB at most) in {settings.body_seconds:g}" in limits


class TestTheChecksOfPages:
    def test_a_link_to_nothing_is_named(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(
            "# A b\n\n## `C` (d)\n\n[1](#a-b) [2](#c-d) [3](#e) [4](gone.md) [5](http://example.com) ![6](gone.svg)\n"
        )

        assert {"a-b", "c-d"} == anchors(page.read_text())
        assert ["#e", "gone.md", "http://example.com", "gone.svg"] == [
            why.split()[0].rstrip(":") for why in broken_links(page)
        ]

    def test_a_sentence_is_counted_without_code_blocks_tables_and_headings(self) -> None:
        text = "# One two three four\n\nFirst of all, read. Then *run* `make test`.\n\n| a b c d |\n|---|\n| e f g h |\n\n```\nno no no\n```\n"

        assert [4, 4] == [words(sentence) for sentence in sentences(text)]

    def test_a_page_of_long_sentences_is_refused(self) -> None:
        assert [] == [*hard_to_read("This is short enough. " * 9)]
        assert 1 == len([*hard_to_read(f"{'word ' * 20}. " * 9)])
        assert "in one sentence" in next(hard_to_read("Short it is. " * 30 + "word " * 50 + "."))
