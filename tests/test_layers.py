"""Imports go down only: the table below is the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "server"
PACKAGE, SANDBOX = ROOT / "inferencesh_mcp", ROOT / "inferencesh_sandbox"

# room: (rooms of ours that it may import, packages from outside that only some rooms may)
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "shutdown": (set(), {"anyio"}),
    "sdk": ({"context"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "compatibility": ({"context"}, {"mcp", "mcp_types", "pydantic"}),
    "sanitize": (set(), set()),
    "redaction": (set(), set()),
    "folder_identity": (set(), set()),
    "loopback": (set(), set()),
    "bounded": (set(), set()),
    "settings": ({"folder_identity", "loopback", "pins", "errors"}, {"pydantic", "platformdirs"}),
    "api": (
        {"errors", "loopback", "sanitize", "redaction"},
        {"httpx2", "pydantic", "pydantic_core", "anyio", "opentelemetry"},
    ),
    "schema": ({"api", "errors", "sanitize"}, {"jsonschema", "referencing"}),
    "pins": ({"api", "schema", "errors"}, set()),
    "flows": (
        {"api", "errors", "bounded", "folder_identity", "redaction", "schema", "sanitize"},
        {"anyio"},
    ),
    "context": ({"api", "bounded", "flows", "settings", "errors"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "tools": (
        {"context", "flows", "pins", "api", "schema", "errors", "sanitize", "redaction"},
        {"mcp", "mcp_types", "pydantic", "anyio", "PIL"},
    ),
    "resources": (
        {"context", "sdk", "tools", "flows", "api", "settings", "errors", "sanitize"},
        {"mcp", "mcp_types", "anyio"},
    ),
    "prompts": ({"context", "sdk", "settings", "sanitize"}, {"mcp", "mcp_types", "pydantic"}),
    "mcp_tasks": ({"bounded", "context", "tools", "flows", "api", "errors"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "redis_limits": ({"errors"}, {"mcp", "anyio", "redis", "pydantic"}),
    "error_boundary": (
        {"context", "tools", "flows", "errors", "redaction"},
        {"mcp", "mcp_types", "pydantic"},
    ),
    "logs": ({"redaction", "settings"}, set()),
    "telemetry": ({"redaction"}, {"opentelemetry"}),
    "inferencesh_sandbox": (set(), {"anyio", "pydantic", "starlette", "uvicorn", "jsonschema"}),
    "http": (
        {"context", "flows", "api", "loopback", "settings", "shutdown", "errors"},
        {
            "mcp",
            "starlette",
            "uvicorn",
            "h11",
            "jwt",
            "anyio",
            "pydantic",
            "opentelemetry",
            "prometheus_client",
        },
    ),
    "server": (
        {
            "api",
            "pins",
            "context",
            "error_boundary",
            "flows",
            "tools",
            "resources",
            "prompts",
            "compatibility",
            "mcp_tasks",
            "redis_limits",
            "settings",
            "inferencesh_sandbox",
        },
        {"mcp", "mcp_types", "anyio"},
    ),
    "stdio_messages": ({"api"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "stdio": ({"context", "shutdown", "errors", "sdk", "stdio_messages"}, {"mcp", "anyio"}),
    "hosts": ({"settings", "errors"}, {"click", "tomlkit"}),
    "demo": ({"errors", "sanitize"}, {"mcp", "mcp_types", "anyio"}),
    "doctor": (
        {"server", "api", "context", "flows", "hosts", "pins", "tools", "settings", "http", "errors", "redaction"},
        {"anyio", "mcp"},
    ),
    "cli": (
        {
            "server",
            "demo",
            "doctor",
            "shutdown",
            "flows",
            "hosts",
            "logs",
            "settings",
            "stdio",
            "telemetry",
            "http",
            "errors",
        },
        {"click", "anyio"},
    ),
    "__main__": ({"cli"}, set()),
}
STANDARD = {"__future__", *__import__("sys").stdlib_module_names}


def room_of(path: Path) -> str:
    if SANDBOX in path.parents:
        return SANDBOX.name
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it goes"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == PACKAGE.name else (module,)


def files() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_package_imports_only_what_the_table_allows(path: Path) -> None:
    """To change the architecture, change the table, and say why in the commit."""
    room = room_of(path)
    ours, outside = TABLE[room]
    wrong = []
    for name in imports(path):
        first, _, rest = name.partition(".")
        if first == PACKAGE.name:
            wrong += [name] if rest.partition(".")[0] not in ours | {room, "__version__"} else []
        elif first not in STANDARD | outside | (ours | {room} & {SANDBOX.name}):
            wrong.append(name)

    assert [] == wrong, f"{room} may import {sorted(ours)} of ours and {sorted(outside)} from outside"


@pytest.mark.parametrize("room", TABLE)
def test_the_table_allows_nothing_that_is_not_imported(room: str) -> None:
    """What is over is taken out again: the table is the picture of the house as it stands."""
    imported = {name for path in files() if room_of(path) == room for name in imports(path)}
    used = {name.split(".")[name.startswith(f"{PACKAGE.name}.")] for name in imported}

    ours, outside = TABLE[room]
    assert set() == (ours | outside) - used


def test_only_one_module_names_the_http_library() -> None:
    naming = [path for path in files() if {"httpx2"} & set(imports(path))]

    assert [PACKAGE / "api" / "http_client.py"] == [path for path in naming if room_of(path) == "api"]


def test_only_main_reads_the_environment_and_the_arguments() -> None:
    """Everything else is told: by `Settings`, or by its arguments."""
    readers = [
        path
        for path in files()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv"), ("sys", "argv")}
    ]

    assert {PACKAGE / "__main__.py"} == set(readers)


def test_nothing_prints() -> None:
    """stdout belongs to the protocol (I-12)."""
    printing = [
        path
        for path in files()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert [] == printing


def test_the_sandbox_is_imported_in_one_place() -> None:
    """The bridge talks to it over HTTP, as to the real one; only what starts it knows that it is there."""
    importing = [
        path
        for path in files()
        if room_of(path) != SANDBOX.name and {SANDBOX.name} & {n.partition(".")[0] for n in imports(path)}
    ]

    assert [PACKAGE / "server.py"] == importing


def test_only_one_module_uses_private_parts_of_a_library() -> None:
    """What the MCP SDK does not export is touched in `sdk.py`; no other library needs such a use."""
    marks = ("reportPrivateUsage", "SLF001")

    assert [PACKAGE / "sdk.py"] == [path for path in files() if any(mark in path.read_text() for mark in marks)]
