"""The licences of all that comes along, with every extra and on every system: `manifests/licences.md`."""

from __future__ import annotations

import re
from importlib.metadata import PackageMetadata, metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parent.parent / "requirements.lock"
ELSEWHERE = {"pywin32": "PSF-2.0"}
"""Packages for Windows alone, which are not installed where this runs; read from their own metadata."""
SYSTEMS = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt"))


def as_markdown() -> str:
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text("utf-8"), re.MULTILINE))
    names = sorted(_closure("inferencesh-mcp", frozenset({"metrics", "otel", "redis", "images"})) - {"inferencesh-mcp"})
    rows = [f"| {name} | {versions[name]} | {_licence(name)} |" for name in names]
    return "\n".join([
        "# Licences of the dependencies",
        "",
        "All packages that come with inferencesh-mcp and its extras, in the versions of `requirements.lock`.",
        "",
        "| Package | Version | Licence |",
        "|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def _closure(name: str, extras: frozenset[str]) -> set[str]:
    """The package, and all that it needs on any system."""
    found: set[str] = set()
    left = [(name, extras)]
    done: set[tuple[str, frozenset[str]]] = set()
    while left:
        one = left.pop()
        if one in done:
            continue
        done.add(one)
        found.add(one[0])
        if one[0] in ELSEWHERE:
            continue
        for text in requires(one[0]) or ():
            needed = Requirement(text)
            if _applies(needed, one[1]):
                left.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return found


def _applies(needed: Requirement, extras: frozenset[str]) -> bool:
    if needed.marker is None:
        return True
    return any(
        needed.marker.evaluate({"extra": extra, "sys_platform": platform, "platform_system": system, "os_name": kind})
        for extra in (*extras, "")
        for platform, system, kind in SYSTEMS
    )


def _licence(name: str) -> str:
    """As the package's metadata has it: an expression, else a text that is short, else a classifier."""
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    about: PackageMetadata = metadata(name)
    return about.get("License-Expression") or about.get("License") or "unknown"
