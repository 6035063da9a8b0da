"""The product's source as a tree: what a rule of the house is read from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3] / "server"
PACKAGE = ROOT / "inferencesh_mcp"


@cache
def trees() -> dict[Path, ast.Module]:
    """Every file of the product, parsed."""
    return {path: ast.parse(path.read_bytes()) for path in sorted(ROOT.rglob("*.py"))}


def place_of(path: Path) -> str:
    """A file as the rules name it: below the bridge, or with the name of the sandbox's package."""
    return path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with what it calls as it is written: `re.compile`, `open`, `.run`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield name_of(node.func), node


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = name_of(node.value)
        return f"{inner}.{node.attr}"
    return ""
