"""What hosts and readers are shown is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from inferencesh_mcp import __version__
from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.server import NAME, TOOLS, build, instructions, tools
from inferencesh_mcp.settings import Settings
from inferencesh_mcp.tools.error_results import error_result
from tests.generated import CONTRACT, PAGES, ROOT, as_file, contract, tables, with_tables
from tests.schema.hosts import RULES, nodes, refusals

MAX_BYTES = 18_000  # of tools/list: every host pays for them on every request


def test_the_contract_files_are_up_to_date() -> None:
    """`make generate` writes these files."""
    files = {path.stem: path.read_text(encoding="utf-8") for path in CONTRACT.glob("*.json")}

    assert {name: as_file(tool) for name, tool in contract().items()} == files


def test_the_tables_of_the_pages_are_those_of_the_code() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)

    assert with_tables(text) == text
    assert dict.fromkeys(tables(), 1) == {name: text.count(f"<!-- {name} -->") for name in tables()}


def test_all_tools_together_are_small() -> None:
    assert len(json.dumps(list(contract().values()), separators=(",", ":"))) <= MAX_BYTES


@pytest.mark.parametrize("name", sorted(contract()))
def test_a_tool_fits_every_known_host(name: str) -> None:
    """Names within the limits of the strictest hosts, all four hints, every schema an object, no union of a field with null."""
    tool = contract()[name]

    assert re.fullmatch(r"[a-z]+(_[a-z_]+)?", name)
    assert len(f"mcp__{NAME}__{name}") < 60
    assert {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} <= tool["annotations"].keys()
    assert "object" == tool["inputSchema"]["type"]
    assert "anyOf" not in json.dumps(tool["inputSchema"])
    assert "$ref" not in json.dumps(tool["inputSchema"])


@pytest.mark.finding("F1", "F2", "F3")
@pytest.mark.parametrize("name", sorted(contract()))
def test_a_tool_keeps_the_rules_for_pinned_apps(name: str) -> None:
    """No empty text in an enum, one type for a field, no boolean `additionalProperties`: each ended whole listings."""
    tool = contract()[name]

    assert {} == {host: reasons for host in RULES if (reasons := refusals(tool["inputSchema"], host))}
    assert '"additionalProperties": true' not in json.dumps(tool)


@pytest.mark.finding("F4")
@pytest.mark.parametrize("name", sorted(contract()))
def test_every_argument_has_a_description_that_stands_alone(name: str) -> None:
    """Some hosts drop enums and limits (mcpo): the description names the values and the range."""
    for argument, schema in contract()[name]["inputSchema"]["properties"].items():
        about = schema.get("description", "")
        values = [
            *schema.get("enum", []),
            *(schema[key] for key in ("minimum", "maximum", "maxItems") if key in schema),
        ]

        assert len(about.split()) > 2, argument
        assert [] == [value for value in values if not re.search(rf"\b{value}\b", about)], argument


@pytest.mark.finding("F5")
def test_every_tool_without_a_free_object_can_be_strict() -> None:
    """openai-agents refuses an object without declared properties, since it would have to close it."""

    def is_free(schema: dict[str, Any]) -> bool:
        return schema.get("type") == "object" and not schema.get("properties")

    free = {name for name, tool in contract().items() if any(is_free(node) for _, node in nodes(tool["inputSchema"]))}

    assert {"app_run", "app_run_many", "agent_chat", "chat_respond"} == free


def test_an_error_fits_its_tools_output_schema() -> None:
    """Hosts on older SDKs check failures too, and would show their own complaint instead of our words."""
    outcome = error_result(InvalidInput(message="no such app", outcome="not_started")).structured_content
    schemas = [tool["outputSchema"] for tool in contract().values() if "outputSchema" in tool]

    assert schemas
    assert [] == [error for schema in schemas for error in Draft202012Validator(schema).iter_errors(outcome)]


def test_a_tool_that_can_spend_is_never_read_only() -> None:
    spending = {"app_run", "app_run_many", "task_cancel", "file_upload", "file_save", "file_delete"} | {
        "session_keepalive",
        "session_end",
        "agent_chat",
        "chat_respond",
        "chat_stop",
    }

    assert spending == {definition.function.__name__ for definition in TOOLS if not definition.hints.read_only_hint}


def test_read_only_offers_no_tool_that_spends_changes_or_writes() -> None:
    offered = {tool.name for tool in tools(Settings(read_only=True))}
    reading = {"app_list", "app_get", "task_get", "task_list", "task_logs", "file_list", "session_list", "session_get"}

    assert reading | {"agent_list", "chat_get", "chat_list", "account"} == offered


def test_toolsets_limit_what_is_offered() -> None:
    assert {"file_upload", "file_list", "file_save", "file_delete"} == {
        tool.name for tool in tools(Settings(toolsets=("files",)))
    }


def test_the_instructions_fit_the_smallest_host_limit() -> None:
    """Claude Code cuts them at 2 kB."""
    assert len((build(Settings(sandbox=True)).instructions or "").encode()) < 2000


def test_no_file_names_a_package_registry() -> None:
    """Which registry serves a machine is the machine's business."""
    hosts = re.compile(r"(?:files\.python|pypi|registry\.npmjs)[a-z-]*\.org")
    listed = [
        ROOT / name
        for name in ("requirements.lock", "pyproject.toml", "Makefile", "README.md", "manifests/README.md", ".ci/run")
    ]
    listed += [path for path in (ROOT / "tests").rglob("*.json") if "node_modules" not in path.parts]

    assert [] == [str(path) for path in listed if hosts.search(path.read_text(encoding="utf-8"))]


def test_the_changelog_begins_with_this_version() -> None:
    text = Path(ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert __version__ == re.findall(r"^## (\S+)", text, re.MULTILINE)[0]


@pytest.mark.finding("B8")
@pytest.mark.parametrize("remote", [False, True], ids=["stdio", "http"])
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("toolset", ["", "apps", "tasks", "files", "sessions", "agents", "account"])
def test_the_instructions_name_only_offered_tools(toolset: str, read_only: bool, remote: bool) -> None:
    """On this transport, with these toolsets; and over HTTP there is no tool that writes to the caller's disk."""
    settings = Settings(read_only=read_only, **({"toolsets": (toolset,)} if toolset else {}))
    offered = {tool.name for tool in tools(settings, remote=remote)}
    every = {definition.function.__name__ for definition in TOOLS}

    names = set(re.findall(r"\w+", instructions(settings, remote=remote))) & every

    assert set() == names - offered
    assert not (remote and "file_save" in offered)
