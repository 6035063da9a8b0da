"""Edit the TOML that a person keeps: a table is put in or taken out as lines; nothing else changes. Pure.

A library that keeps comments (tomlkit) was tried: it puts line feeds into a file of Windows' line ends, and takes out
the comment above the next table with a table. Here lines are cut, and the standard library's parser says whether the
rest still means the same.
"""

from __future__ import annotations

import json
import re
import tomllib
from itertools import pairwise
from typing import Any

from inferencesh_mcp.errors import HostFileRefused
from inferencesh_mcp.hosts import array, table

_HEADER = re.compile(r"[ \t]*\[.*\][ \t]*(?:#.*)?$")


def parse(text: str) -> dict[str, Any]:
    """Read it.

    Raises:
        HostFileRefused: it is no TOML; the message says where.
    """
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as exc:
        why = re.sub(r" \(at ([^()]*)\)$", r" at \1", str(exc))
        raise HostFileRefused(message=f"is not valid TOML: {why}.") from exc
    except RecursionError as exc:
        raise HostFileRefused(message="is not valid TOML: it is nested too deeply.") from exc


def put(text: str, path: tuple[str, str], value: dict[str, Any]) -> str:
    """The text with the table `[section.name]`: in the place of the old one, or at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = newline.join([f"[{'.'.join(path)}]", *(f"{key} = {_written(item)}" for key, item in value.items()), ""])
    lines = text.splitlines(keepends=True)
    spans = _spans(lines, path)
    if not spans:
        if text and not text.endswith("\n"):
            text += newline
        return text + (newline if text else "") + block
    (start, end), *more = spans
    for first, last in reversed(more):
        del lines[first:last]
    if not lines[end - 1].endswith("\n"):
        block = block.removesuffix(newline)
    lines[start:end] = [block]
    return "".join(lines)


def take(text: str, path: tuple[str, str]) -> str:
    """The text without that table and its own tables, and without one blank line that stood before it."""
    lines = text.splitlines(keepends=True)
    for start, end in reversed(_spans(lines, path)):
        del lines[start - (start > 0 and not lines[start - 1].strip()) : end]
    return "".join(lines)


def _spans(lines: list[str], path: tuple[str, str]) -> list[tuple[int, int]]:
    """The lines of the table and of those inside it, each from its header to its last value."""
    heads = [(number, _path(line)) for number, line in enumerate(lines) if _HEADER.match(line.rstrip("\r\n"))]
    heads.append((len(lines), ()))
    spans: list[tuple[int, int]] = []
    for (start, keys), (following, _) in pairwise(heads):
        if keys[:2] == path:
            told = [n for n in range(start, following) if lines[n].strip() and not lines[n].lstrip().startswith("#")]
            spans.append((start, told[-1] + 1))
    return spans


def _path(header: str) -> tuple[str, ...]:
    try:
        level = tomllib.loads(header.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()
    keys: list[str] = []
    while level:
        key = next(iter(level))
        keys.append(key)
        level = table(level[key])
    return tuple(keys)


def _written(value: Any) -> str:
    """A string, a list of strings or a table of strings: JSON's strings are TOML's too."""
    if pairs := table(value):
        return f"{{ {', '.join(f'{key} = {_written(item)}' for key, item in pairs.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, array(value)))}]"
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
