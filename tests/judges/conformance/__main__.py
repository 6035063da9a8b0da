"""Let the official conformance suite judge the server, as it is deployed: `python -m tests.judges.conformance`.

The server is the production one, behind the production's HTTP face, on the sandbox; what the suite wants to find on it
is registered besides. Clients of 2025-11-25 are served without sessions: what then fails is in `without-sessions.yml`,
and is judged once more with sessions, so that it fails for that reason alone.

What `package.json` pins is installed the first time, into `.venv/conformance-node` or the folder CONFORMANCE_DIR names.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio

from inferencesh_mcp.http.app import create_app
from inferencesh_mcp.server import build
from inferencesh_mcp.settings import Settings
from tests.conftest import listening
from tests.judges.official.npm import installed, node

from . import asking, contents, jobs

if TYPE_CHECKING:
    from mcp.server import MCPServer

HERE = Path(__file__).parent
LIMIT = 90.0
"""Seconds that one run of the suite may take; it takes a few."""


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report is the product


def folder() -> Path:
    return Path(os.environ.get("CONFORMANCE_DIR") or HERE.parents[2] / ".venv" / "conformance-node").absolute()


@dataclass(frozen=True)
class WithSessions:
    """A server whose face gives older clients a session; everything else about the face stays as it is."""

    server: MCPServer[Any]

    def streamable_http_app(self, **options: Any) -> Any:
        return self.server.streamable_http_app(**options | {"stateless_http": False})


@dataclass(frozen=True)
class Judged:
    """How one run of the suite went."""

    wrong: dict[str, list[str]]
    """What each scenario has to say against the server; a warning counts."""
    unscored: set[str]
    """What a revision does not require: extensions, and what is newer than its release."""
    expected: set[str]

    @property
    def failed(self) -> set[str]:
        return {name for name, complaints in self.wrong.items() if complaints}

    @property
    def fine(self) -> bool:
        """All that was expected failed, and nothing else."""
        return bool(self.wrong) and self.failed == self.expected

    def line(self, title: str, names: set[str]) -> str:
        chosen = ", ".join(sorted(names & self.failed & self.expected))
        count = f"{len(names - self.failed)} of {len(names)} scenarios"
        return f"{title}: {count}" + (f" (not, by choice: {chosen})" if chosen else "")

    @property
    def required(self) -> set[str]:
        return set(self.wrong) - self.unscored

    @property
    def tasks(self) -> set[str]:
        return {name for name in self.wrong if name.startswith("tasks-")}

    def complaints(self) -> list[str]:
        stale = [f"{name} does not fail any more: take it off the list" for name in self.expected - self.failed]
        return stale + [
            f"{name}: {complaint}" for name in self.failed - self.expected for complaint in self.wrong[name]
        ]


def _found(results: Path) -> dict[str, list[str]]:
    """What is wrong, from the files that the suite writes, one for each scenario."""
    wrong: dict[str, list[str]] = {}
    for path in results.glob("server-*/checks.json"):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", path.parent.name)
        checks = json.loads(path.read_bytes())
        wrong[name] = [
            f"{check['id']}: {check.get('errorMessage')}"
            for check in checks
            if check["status"] in {"FAILURE", "WARNING"}
        ]
    return wrong


def _expected(name: str) -> set[str]:
    return set(re.findall(r"^  - ([\w-]+)", (HERE / name).read_text(encoding="utf-8"), re.MULTILINE))


async def judge(revision: str, expected: str, *, sessions: bool = False) -> Judged:
    """Have the suite run all that a revision requires, and all that it knows besides, against a server of its own."""
    settings = Settings.from_environ({"INFERENCE_SANDBOX": "true"})
    server = build(settings)
    for room in (contents, asking, jobs):
        room.register(server)
    suite = folder() / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    app: Any = WithSessions(server) if sessions else server
    async with listening(create_app(app, settings)) as url:
        with TemporaryDirectory() as results, anyio.fail_after(LIMIT):
            command = [node(folder()), str(suite), "server", "--url", f"{url}/mcp", "--requirements", revision]
            done = await anyio.run_process([*command, "-o", results], stdout=PIPE, stderr=STDOUT, check=False)
            wrong = _found(Path(results))
    unscored = re.findall(r"^  [✓✗] ([\w-]+) \([\w-]+\)$", done.stdout.decode(), re.MULTILINE)
    return Judged(wrong, set(unscored), _expected(expected) & set(wrong))


async def main() -> int:
    logging.disable(logging.WARNING)  # what the suite provokes
    if why_not := await installed(HERE / "package.json", folder()):
        say(f"The conformance suite could not be installed:\n{why_not}")
        return 1
    newer = await judge("2026-07-28", "expected-failures.yml")
    older = await judge("2025-11-25", "expected-failures.yml", sessions=True)
    deployed = await judge("2025-11-25", "without-sessions.yml")
    say(newer.line("2026-07-28", newer.required))
    say(newer.line("MCP tasks", newer.tasks))
    say(older.line("2025-11-25, with sessions", older.required))
    say(deployed.line("2025-11-25, without sessions, as it is deployed", deployed.required))
    complaints = [line for judged in (newer, older, deployed) for line in judged.complaints()]
    for line in complaints:
        say(f"not ok - {line}")
    return 0 if all(judged.fine for judged in (newer, older, deployed)) else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main))
