"""What is written by the code about itself: the tools' contract, the tables of the pages, and `manifests/`.

`make generate` writes it anew; the tests fail where it is stale, so that every change of a contract is seen in a diff.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio

from inferencesh_mcp import __version__
from inferencesh_mcp.resources.templates import TEMPLATES
from inferencesh_mcp.server import TOOLS, build
from inferencesh_mcp.settings import FIELDS, PREFIX, SECRETS, Settings
from inferencesh_mcp.settings.types import allowed
from tests import demo_picture, licences, limits
from tests.benchmarks import figures, other_servers
from tests.findings import rows as findings
from tests.manifests import FOLDER, badges, block, commands, host_table, manifests
from tests.test_layers import TABLE

ROOT = Path(__file__).parent.parent
CONTRACT = ROOT / "tests" / "contract"
README = ROOT / "README.md"
INSIDE = ROOT / "server" / "README.md"
PAGES = (README, INSIDE, ROOT / "tests" / "benchmarks" / "README.md")
"""The pages with generated tables."""
VERSIONED = (ROOT / "Dockerfile", FOLDER / "compose.yaml", FOLDER / "kubernetes" / "deployment.yaml")
"""Files that are written by hand, but for the version."""
LICENCES = FOLDER / "licences.md"


def contract() -> dict[str, Any]:
    """Each tool as a host is shown it."""
    listed = anyio.run(build(Settings()).list_tools)
    return {tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed}


def as_file(tool: Any) -> str:
    return json.dumps(tool, indent=1, ensure_ascii=False) + "\n"


def tables() -> dict[str, str]:
    """The pages' tables by the name in their markers."""
    return {
        "tools": _tools(),
        "resources": _resources(),
        "prompts": _prompts(),
        "settings": _settings(http=False),
        "http-settings": _settings(http=True),
        "badges": badges(),
        "commands": commands(),
        "block": block(),
        "answer": _answer(),
        "packages": _packages(),
        "hosts": host_table(),
        "figures": figures.as_markdown(json.loads(figures.LATEST.read_text("utf-8"))),
        "other-servers": other_servers.as_markdown(json.loads(other_servers.LATEST.read_text("utf-8"))),
    }


def _tools() -> str:
    tools = contract()
    rows = [
        f"| `{definition.function.__name__}` | {tools[definition.function.__name__]['description']} |"
        for definition in TOOLS
    ]
    return "\n".join(["| tool | what it does |", "|---|---|", *rows])


def _resources() -> str:
    rows = [f"| `{template.uri}` | {template.description} |" for template in TEMPLATES]
    return "\n".join(["| address | what it tells |", "|---|---|", *rows])


def _prompts() -> str:
    rows = []
    for prompt in anyio.run(build(Settings()).list_prompts):
        names = ", ".join(
            f"`{argument.name}`" + ("" if argument.required else " (optional)") for argument in prompt.arguments or []
        )
        rows.append(f"| `{prompt.name}` | {prompt.description} | {names} |")
    return "\n".join(["| prompt | what it asks for | arguments |", "|---|---|---|", *rows])


def _answer() -> str:
    """What a model reads of the first run and its picture, as the moving picture has recorded it."""
    lines = demo_picture.lines_of(demo_picture.PICTURE.read_text("utf-8"))
    ended = next(number for number, line in enumerate(lines) if "sandbox/draw: completed" in line)
    return "\n".join(["```text", *(line.removeprefix("  ") for line in lines[ended : ended + 3]), "```"])


def _packages() -> str:
    """Each package of ours in a row of its own depth: it imports only from the rows below."""
    ours = {room: rooms for room, (rooms, _) in TABLE.items()}

    def depth(room: str) -> int:
        return 1 + max((depth(user) for user, used in ours.items() if room in used), default=-1)

    rows: dict[int, list[str]] = {}
    for room in sorted(ours):
        rows.setdefault(depth(room), []).append(room)
    lines = [f"{'│' if number else ' '} {'  '.join(rows[number])}" for number in sorted(rows)]
    return "\n".join(["```text", *lines, "▼", "```"])


def _settings(*, http: bool) -> str:
    """Those of `http` alone, or all others."""
    rows = []
    for name, field in FIELDS.items():
        if field.metadata["http"] is not http:
            continue
        flag = "" if name in SECRETS else f"`--{name.replace('_', '-')}`"
        rows.append(
            f"| `{PREFIX}{name.upper()}` | {flag} | {_default(field.default)} | {field.metadata['about']} | {allowed(field)} |"
        )
    return "\n".join(["| variable | flag | default | what it does | allowed |", "|---|---|---|---|---|", *rows])


def _default(value: Any) -> str:
    match value:
        case None | ():
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case _:
            return str(value)


def with_tables(text: str) -> str:
    """The text with what stands between each pair of markers written anew."""
    for name, table in tables().items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if start not in text:
            continue
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{table}\n{end}{after}"
    return text


def with_version(text: str) -> str:
    """The text with this version, wherever it names the image's."""
    return re.sub(r"(?<=^ARG VERSION=)\S+|(?<=image: inferencesh-mcp:)\S+", __version__, text, flags=re.MULTILINE)


def write() -> None:
    CONTRACT.mkdir(exist_ok=True)
    for stale in CONTRACT.glob("*.json"):
        stale.unlink()
    for name, tool in contract().items():
        (CONTRACT / f"{name}.json").write_text(as_file(tool), encoding="utf-8")
    for path, text in manifests(contract()).items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text, encoding="utf-8")
    (ROOT / "tests" / "findings" / "README.md").write_text(findings.table(), encoding="utf-8")
    limits.SECURITY.write_text(limits.with_table(limits.SECURITY.read_text(encoding="utf-8")), encoding="utf-8")
    for path in VERSIONED:
        path.write_text(with_version(path.read_text(encoding="utf-8")), encoding="utf-8")
    LICENCES.write_text(licences.as_markdown(), encoding="utf-8")
    demo_picture.write()
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
