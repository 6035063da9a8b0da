"""Imports go down only: the table below is the architecture."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "server"
PACKAGE, SANDBOX = ROOT / "inferencesh_mcp", ROOT / "inferencesh_sandbox"

# package or module: (ours that it may import, packages from outside that only some may import)
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "shutdown": (set(), {"anyio"}),
    "sdk": ({"context"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "compatibility": ({"api", "context", "settings"}, {"mcp", "mcp_types", "pydantic"}),
    "tool_prefix": ({"api", "context"}, {"mcp", "mcp_types"}),
    "sanitize": (set(), set()),
    "redaction": (set(), set()),
    "paths": ({"errors"}, set()),
    "loopback": (set(), set()),
    "bounded": (set(), set()),
    "terminal": (set(), set()),
    "settings": ({"paths", "loopback", "pins", "errors"}, {"pydantic", "platformdirs"}),
    "api": (
        {"errors", "loopback", "sanitize", "redaction"},
        {"httpx2", "pydantic", "pydantic_core", "anyio", "opentelemetry"},
    ),
    "schema": ({"api", "bounded", "errors", "sanitize"}, {"jsonschema", "referencing"}),
    "pins": ({"api", "errors"}, set()),
    "flows": (
        {"api", "errors", "bounded", "paths", "redaction", "schema", "sanitize"},
        {"anyio"},
    ),
    "context": (
        {"paths", "api", "bounded", "flows", "settings", "errors"},
        {"mcp", "mcp_types", "pydantic", "anyio"},
    ),
    "tools": (
        {"context", "flows", "pins", "api", "schema", "errors", "sanitize", "redaction"},
        {"mcp", "mcp_types", "pydantic", "anyio", "PIL"},
    ),
    "resources": (
        {"context", "sdk", "tools", "flows", "api", "settings", "errors", "redaction", "sanitize"},
        {"mcp", "mcp_types", "anyio"},
    ),
    "prompts": ({"context", "sdk", "settings", "sanitize"}, {"mcp", "mcp_types", "pydantic"}),
    "mcp_tasks": ({"bounded", "context", "tools", "flows", "api", "errors"}, {"mcp", "mcp_types", "pydantic"}),
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
            "tool_prefix",
            "inferencesh_sandbox",
        },
        {"mcp", "mcp_types", "anyio"},
    ),
    "stdio_messages": ({"api"}, {"mcp", "mcp_types", "pydantic", "anyio"}),
    "stdio": ({"context", "shutdown", "errors", "sdk", "stdio_messages"}, {"mcp", "anyio"}),
    "hosts": ({"settings", "errors", "terminal"}, {"click", "tomlkit"}),
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
            "terminal",
            "http",
            "errors",
        },
        {"click", "anyio"},
    ),
    "__main__": ({"cli"}, set()),
}
STANDARD = {"__future__", *__import__("sys").stdlib_module_names}


def package_of(path: Path) -> str:
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
    package = package_of(path)
    ours, outside = TABLE[package]
    wrong = []
    for name in imports(path):
        first, _, rest = name.partition(".")
        if first == PACKAGE.name:
            wrong += [name] if rest.partition(".")[0] not in ours | {package, "__version__"} else []
        elif first not in STANDARD | outside | (ours | {package} & {SANDBOX.name}):
            wrong.append(name)

    assert [] == wrong, f"{package} may import {sorted(ours)} of ours and {sorted(outside)} from outside"


@pytest.mark.parametrize("package", TABLE)
def test_the_table_allows_nothing_that_is_not_imported(package: str) -> None:
    """What is not needed any more is removed: the table is the architecture as it is."""
    imported = {name for path in files() if package_of(path) == package for name in imports(path)}
    used = {name.split(".")[name.startswith(f"{PACKAGE.name}.")] for name in imported}

    ours, outside = TABLE[package]
    assert set() == (ours | outside) - used


def test_the_table_has_no_circle() -> None:
    """Type-only imports and those in functions are in the table too."""
    TopologicalSorter({package: ours for package, (ours, _) in TABLE.items()}).prepare()


ROW = re.compile(r"^\| (`[^|]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)


def test_contributing_names_each_module_with_its_tests() -> None:
    page = (ROOT.parent / "CONTRIBUTING.md").read_text("utf-8")
    rows = [
        (re.findall(r"`([\w/.]+)`", names), re.findall(r"`(tests/[^`]+)`", tests)) for names, tests in ROW.findall(page)
    ]
    rows = [(names, tests) for names, tests in rows if tests]
    named = [name for names, _ in rows for name in names]
    modules = {path.relative_to(PACKAGE).as_posix() for path in files() if PACKAGE in path.parents} - {
        "flows/__init__.py",
        "tools/__init__.py",
    }

    assert set() == {
        module
        for module in modules
        if not any(module == name or (name.endswith("/") and module.startswith(name)) for name in named)
    }
    assert [] == [name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()]
    assert [] == [test for _, tests in rows for test in tests if not list(ROOT.parent.glob(test))]


def test_only_one_module_names_the_http_library() -> None:
    naming = [path for path in files() if {"httpx2"} & set(imports(path))]

    assert [PACKAGE / "api" / "http_client.py"] == [path for path in naming if package_of(path) == "api"]


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
    """The server talks to it over HTTP, as to the real one; only what starts it knows that it is there."""
    importing = [
        path
        for path in files()
        if package_of(path) != SANDBOX.name and {SANDBOX.name} & {n.partition(".")[0] for n in imports(path)}
    ]

    assert [PACKAGE / "server.py"] == importing


def test_only_one_module_uses_private_parts_of_a_library() -> None:
    """What the MCP SDK does not export is touched in `sdk.py`; no other library needs such a use."""
    marks = ("reportPrivateUsage", "SLF001")

    assert [PACKAGE / "sdk.py"] == [path for path in files() if any(mark in path.read_text() for mark in marks)]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_imported(path: Path, modules: set[str]) -> set[str]:
    """The modules of ours that a module imports, those for type checking alone included."""
    nodes = [
        node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.ImportFrom) and node.module
    ]
    names = [(node.module or "", alias.name) for node in nodes for alias in node.names]
    return {f"{module}.{name}" if f"{module}.{name}" in modules else module for module, name in names} & modules


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type checking count too: whoever reads one module of a circle has to read them all."""
    modules = {module_of(path): path for path in files()}
    imported = {name: modules_imported(path, set(modules)) for name, path in modules.items()}
    while leaves := {name for name, others in imported.items() if not others}:
        imported = {name: others - leaves for name, others in imported.items() if name not in leaves}
    circle = {name for name in imported if reaches(name, name, imported)}

    assert set() == circle


def reaches(start: str, target: str, imported: dict[str, set[str]]) -> bool:
    seen: set[str] = set()
    pending = [start]
    while pending:
        for name in imported.get(pending.pop(), set()) - seen:
            seen.add(name)
            pending.append(name)
    return target in seen


def test_the_architecture_page_says_where_to_change_what() -> None:
    """Each cell names files, and after a colon what is in them."""
    page = (ROOT / "README.md").read_text("utf-8")
    table = page.partition("### Where to change what")[2].partition("\n##")[0].partition("|---|")[2]
    places = re.findall(r"`([\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", table)
    named = [(file, name) for file, names in places for name in re.findall(r"\w+", names)]

    assert [] == [file for file, _ in places if not (PACKAGE / file).exists()]
    assert [] == [
        (file, name)
        for file, name in named
        if not re.search(rf"(?:def |class |^){name}\b", (PACKAGE / file).read_text("utf-8"), re.MULTILINE)
    ]
    assert len(named) > 20
