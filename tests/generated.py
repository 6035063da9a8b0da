"""What is written by the code about itself: the tools' contract, the tables of the README, and `manifests/`.

`make generate` writes it anew; the tests fail where it is stale, so that every change of a contract is seen in a diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio

from inferencesh_mcp.resources.templates import TEMPLATES
from inferencesh_mcp.server import TOOLS, build
from inferencesh_mcp.settings import FIELDS, PREFIX, SECRETS, Settings
from inferencesh_mcp.settings.types import allowed
from tests import limits
from tests.benchmarks.figures import LATEST, as_markdown
from tests.findings import rows as findings
from tests.manifests import FOLDER, badges, host_table, manifests

ROOT = Path(__file__).parent.parent
CONTRACT = ROOT / "tests" / "contract"
README = ROOT / "README.md"


def contract() -> dict[str, Any]:
    """Each tool as a host is shown it."""
    listed = anyio.run(build(Settings()).list_tools)
    return {tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed}


def as_file(tool: Any) -> str:
    return json.dumps(tool, indent=1, ensure_ascii=False) + "\n"


def tables() -> dict[str, str]:
    """The README's tables by the name in their markers."""
    return {
        "tools": _tools(),
        "resources": _resources(),
        "prompts": _prompts(),
        "settings": _settings(http=False),
        "http-settings": _settings(http=True),
        "badges": badges(),
        "hosts": host_table(),
        "figures": as_markdown(json.loads(LATEST.read_text("utf-8"))),
    }


def _tools() -> str:
    told = contract()
    rows = [
        f"| `{definition.function.__name__}` | {told[definition.function.__name__]['description']} |"
        for definition in TOOLS
    ]
    return "\n".join(["| tool | what it does |", "|---|---|", *rows])


def _resources() -> str:
    rows = [f"| `{template.uri}` | {template.description} |" for template in TEMPLATES]
    return "\n".join(["| address | what it tells |", "|---|---|", *rows])


def _prompts() -> str:
    rows = []
    for prompt in anyio.run(build(Settings()).list_prompts):
        names = ", ".join(f"`{one.name}`" + ("" if one.required else " (optional)") for one in prompt.arguments or [])
        rows.append(f"| `{prompt.name}` | {prompt.description} | {names} |")
    return "\n".join(["| prompt | what it asks for | arguments |", "|---|---|---|", *rows])


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
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{table}\n{end}{after}"
    return text


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
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
