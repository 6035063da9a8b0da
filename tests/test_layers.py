"""Imports go down only: the table below is the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "server" / "inferencesh_mcp"

# room: (rooms of ours that it may import, packages from outside that only some rooms may)
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "ending": (set(), {"anyio"}),
    "sdk": ({"caller"}, {"mcp", "mcp_types", "anyio"}),
    "compatibility": ({"caller"}, {"mcp", "mcp_types", "pydantic"}),
    "plaintext": (set(), set()),
    "redaction": (set(), set()),
    "incidents": ({"errors", "redaction"}, set()),
    "folder_identity": (set(), set()),
    "settings": ({"folder_identity", "pins", "errors"}, {"pydantic", "platformdirs"}),
    "json_schema": (set(), set()),
    "schemas": ({"errors", "json_schema", "plaintext"}, set()),
    "api": (
        {"errors", "plaintext", "redaction"},
        {"httpx2", "pydantic", "pydantic_core", "anyio", "opentelemetry"},
    ),
    "pins": ({"api", "schemas", "errors"}, set()),
    "flows": (
        {"api", "errors", "folder_identity", "incidents", "json_schema", "plaintext"},
        {"anyio", "jsonschema", "referencing"},
    ),
    "caller": ({"api", "flows", "settings", "errors"}, {"mcp", "anyio"}),
    "tools": (
        {"caller", "flows", "pins", "api", "schemas", "json_schema", "errors", "incidents", "plaintext", "redaction"},
        {"mcp", "mcp_types", "pydantic", "anyio", "PIL"},
    ),
    "resources": (
        {"caller", "tools", "flows", "api", "settings", "errors", "plaintext"},
        {"mcp", "mcp_types", "anyio"},
    ),
    "prompts": ({"caller", "settings", "plaintext"}, {"mcp", "mcp_types", "pydantic"}),
    "extensions": ({"caller", "tools", "flows", "api", "errors"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "replicas": ({"errors"}, {"mcp", "anyio", "redis", "pydantic"}),
    "edge": ({"caller", "tools", "flows", "errors", "incidents", "redaction"}, {"mcp", "mcp_types", "pydantic"}),
    "logs": ({"redaction", "settings"}, set()),
    "traces": ({"redaction"}, {"opentelemetry"}),
    "sandbox": (set(), {"anyio", "pydantic", "starlette", "uvicorn", "jsonschema"}),
    "web": (
        {"caller", "flows", "api", "settings", "ending", "errors"},
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
    "app": (
        {
            "api",
            "pins",
            "caller",
            "edge",
            "flows",
            "tools",
            "resources",
            "prompts",
            "compatibility",
            "extensions",
            "replicas",
            "settings",
            "sandbox",
        },
        {"mcp", "anyio"},
    ),
    "stdio": ({"api", "caller", "ending", "errors", "sdk"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "hosts": ({"settings", "errors"}, {"click"}),
    "demo": ({"errors", "plaintext"}, {"mcp", "mcp_types", "anyio"}),
    "doctor": (
        {"app", "api", "caller", "flows", "hosts", "pins", "tools", "settings", "web", "errors", "redaction"},
        {"anyio", "mcp"},
    ),
    "cli": (
        {
            "app",
            "demo",
            "doctor",
            "ending",
            "flows",
            "hosts",
            "logs",
            "sandbox",
            "settings",
            "stdio",
            "traces",
            "web",
            "errors",
        },
        {"click", "anyio"},
    ),
    "__main__": ({"cli"}, set()),
}
STANDARD = {"__future__", *__import__("sys").stdlib_module_names}


def room_of(path: Path) -> str:
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
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    """To change the architecture, change the table, and say why in the commit."""
    room = room_of(path)
    ours, outside = TABLE[room]
    wrong = []
    for name in imports(path):
        first, _, rest = name.partition(".")
        if first == PACKAGE.name:
            wrong += [name] if rest.partition(".")[0] not in ours | {room, "__version__"} else []
        elif first not in STANDARD | outside:
            wrong.append(name)

    assert [] == wrong, f"{room} may import {sorted(ours)} of ours and {sorted(outside)} from outside"


@pytest.mark.parametrize("room", TABLE)
def test_the_table_allows_a_room_nothing_that_it_does_not_import(room: str) -> None:
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
