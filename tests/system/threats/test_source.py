"""What the product's source, its lock and its package never hold: rules that a reader could miss (A-14, A-18, T-21, T-26, I-14)."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.system.threats.source import PACKAGE, calls, place_of, trees

ROOT = PACKAGE.parents[1]
STARTS_PROCESSES = {"demo", "doctor"}
"""`demo` shows a host with a server behind it: it starts this very program, by the SDK's own client, with no text of others'."""
FORBIDDEN = {"subprocess", "webbrowser", "pty", "ctypes", "pickle", "marshal", "shelve", "code", "runpy", "multiprocessing", "antigravity",
             "ftplib", "smtplib", "telnetlib", "xmlrpc", "http.client", "http.server", "urllib.request", "socketserver", "asyncio.subprocess"}  # fmt: skip
CALLED = {"os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.spawnv", "os.posix_spawn", "os.fork", "os.startfile", "eval", "exec",
          "compile", "__import__", "anyio.run_process", "anyio.open_process", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
          "webbrowser.open", "click.launch", "click.edit", "yaml.load", "urlopen"}  # fmt: skip


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", trees(), ids=place_of)
def test_the_source_starts_no_process_and_opens_no_browser(path: Path) -> None:
    """A text from elsewhere cannot reach a shell, a browser or an interpreter, because nothing of ours leads there."""
    tree = trees()[path]
    used = {name for name, _ in calls(tree)} & CALLED
    brought = {name for name in imported(tree) if name in FORBIDDEN or name.partition(".")[0] in FORBIDDEN}
    shell = [node for _, node in calls(tree) if any(keyword.arg == "shell" for keyword in node.keywords)]
    stdio = {name for name, _ in calls(tree)} & {"stdio_client", "StdioServerParameters"}

    if path in {PACKAGE / "flows" / "file_system.py", PACKAGE / "terminal.py"}:
        # Only on Windows: to read the final path of an open file, and whether a stream is a console.
        brought -= {"ctypes", "ctypes.wintypes"}

    assert (set(), set(), []) == (used, brought, shell)
    assert not stdio or path.stem in STARTS_PROCESSES


def test_the_source_check_finds_forbidden_imports() -> None:
    bad = ast.parse("import subprocess, http.server\nos.system('x')\nfrom urllib.request import urlopen\nurlopen(url)")

    assert {"os.system", "urlopen"} == {name for name, _ in calls(bad)} & CALLED
    assert {"subprocess", "http.server", "urllib.request"} <= imported(bad) & FORBIDDEN


OPENERS = {"open", "os.open", "io.open", "os.scandir", "os.listdir"}
READERS = {
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "open",
    "iterdir",
    "glob",
    "rglob",
    "unlink",
    "mkdir",
    "rename",
}
MAY_OPEN = {
    "flows/local_files.py": "files of the person's folders, by descriptors",
    "flows/file_system.py": "how each system opens and creates them",
    "hosts/catalogue.py": "which hosts are installed, by `install` alone",
    "flows/download.py": "what is saved into them",
    "flows/file_sources.py": "descriptors that `folders` opened",
    "flows/app_cache.py": "the cache of pinned apps",
    "paths.py": "the names in folders, to compare paths",
    "hosts/config_file.py": "configurations of hosts, by `install` alone",
    "hosts/inspect.py": "the same",
    "hosts/install.py": "the same",
    "doctor.py": "whether folders can be written",
    "demo.py": "the picture that it sends",
    "http/tokens.py": "the operator's file of tokens",
    "cli.py": "what the operator names",
}


def test_only_listed_modules_use_the_disk() -> None:
    """The tools, the web face and the API have no way to open a file that a caller names."""
    touching = {
        place_of(path): name
        for path, tree in trees().items()
        for name, node in calls(tree)
        if name in OPENERS or (isinstance(node.func, ast.Attribute) and node.func.attr in READERS - {"open"})
    }

    assert {} == {path: name for path, name in touching.items() if path not in MAY_OPEN}


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked(path: Path) -> dict[str, list[str]]:
    """Each requirement of a lock with its hashes."""
    packages: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", path.read_text("utf-8")):
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", entry):
            packages[re.sub(r"[-_.]+", "-", match[1]).lower()] = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
        else:
            assert entry.startswith("#") or not entry.strip(), f"no exact version: {entry[:80]}"
    return packages


@pytest.mark.parametrize("name", ["requirements.lock", "tests/package/requirements.lock"])
def test_every_locked_package_has_a_hash(name: str, project: Any) -> None:
    """Exact versions from an index, each with its SHA-256; no address, no checkout, no local path, no other index."""
    lock = locked(ROOT / name)
    text = (ROOT / name).read_text("utf-8")

    assert len(lock) > 20
    assert [] == [package for package, hashes in lock.items() if not hashes]
    assert not re.search(
        r"https?://|git\+|file:| @ |^-e|--(?:extra-)?index-url|--find-links|--trusted-host", text, re.MULTILINE
    )


def names(requirements: list[str]) -> list[str]:
    return [re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-") for requirement in requirements]  # type: ignore[index]


def test_every_dependency_has_a_reason(project: Any) -> None:
    """Each direct dependency has its reason beside it, and is locked. What is imported of them, `test_layers` says."""
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    direct = project["project"]["dependencies"]
    extras = [item for group in project["project"].get("optional-dependencies", {}).values() for item in group]
    for item in [*direct, *extras]:
        (line,) = [
            line for line in lines if f'"{item}"' in line and (line.startswith("  ") or "= [" in line) and "#" in line
        ][:1]
        assert len(line.partition("#")[2].split()) >= 3, f"{item} has no reason"

    lock = locked(ROOT / "requirements.lock")
    assert set(names(direct)) <= lock.keys()


def test_installing_runs_no_code_of_the_project(project: Any) -> None:
    """No setup script, no build hook, no plug-in of pytest's or of another's that comes along."""
    assert not (ROOT / "setup.py").exists()
    assert "hatchling.build" == project["build-system"]["build-backend"]
    assert "hooks" not in project["tool"]["hatch"].get("build", {})
    assert ["hatchling"] == names(project["build-system"]["requires"])
    assert {"inferencesh-mcp"} == project["project"].get("scripts", {}).keys()
    assert "entry-points" not in project["project"]
    assert [] == list((ROOT / "server").rglob("*.pth"))
