"""Edit the TOML that a person keeps: one table is put in or taken out; comments, order and line ends stay. Pure.

tomlkit reads and writes it. A table is cut out here, because tomlkit counts the comments above the next table as part of it.
"""

from __future__ import annotations

import re
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError, TOMLKitError
from tomlkit.items import AbstractTable, InlineTable, Whitespace

from inferencesh_mcp.errors import HostFileRefused
from inferencesh_mcp.hosts.catalogue import table

_GAP = "\0"  # no TOML contains it
_BLANK_LINE = re.compile(r"(?:(?<=\n)|\A)[ \t]*\r?\n\Z")


def parse(text: str) -> dict[str, Any]:
    """Read it.

    Raises:
        HostFileRefused: it is not TOML; the message says where.
    """
    return _document(text).unwrap()


def put(text: str, path: tuple[str, str], value: dict[str, Any]) -> str:
    """The text with the table `[section.name]`: in the place of the old one, or at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    new = _rendered(path, value).replace("\n", newline)
    if cut := _cut(text, path):
        before, after = cut
        return before + new + after
    if text and not text.endswith("\n"):
        text += newline
    return text + (newline if text else "") + new


def take(text: str, path: tuple[str, str]) -> str:
    """The text without that table and its own tables, and without one blank line that stood before it."""
    cut = _cut(text, path)
    return _BLANK_LINE.sub("", cut[0]) + cut[1] if cut else text


def _cut(text: str, path: tuple[str, str]) -> tuple[str, str] | None:
    """The text before the table, and the text after its last value; None if there is no such table.

    Raises:
        HostFileRefused: the table is part of an inline table, from which it cannot be cut.
    """
    section, name = path
    document = _document(text)
    servers = table(table(document).get(section))
    old = servers.get(name)
    if not isinstance(old, AbstractTable):
        return None
    if isinstance(servers, InlineTable):
        raise HostFileRefused(
            message=f"has {section} on one line.",
            next_step=f"Write its servers as tables, [{section}.NAME], then try again.",
        )
    gap = tomlkit.table(is_super_table=True)  # which is written without a header
    gap.add(Whitespace(_GAP))
    servers[name] = gap
    before, _, after = tomlkit.dumps(document).partition(_GAP)
    return before, _tail(old.as_string()) + after.removeprefix("\n")  # tomlkit adds this one; theirs is in the tail


def _tail(body: str) -> str:
    """The blank lines and comments after a table's last value."""
    lines = body.split("\n")
    values = [number for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    return "\n".join(lines[values[-1] + 1 :] if values else lines)


def _rendered(path: tuple[str, str], value: dict[str, Any]) -> str:
    section, name = path
    server, servers = tomlkit.table(), tomlkit.table(is_super_table=True)
    for key, item in value.items():
        server.add(key, _inline(table(item)) if isinstance(item, dict) else item)
    servers.add(name, server)
    return tomlkit.dumps({section: servers})


def _inline(value: dict[str, Any]) -> InlineTable:
    inline = tomlkit.inline_table()
    for key, item in value.items():
        inline.add(key, item)
    return inline


def _document(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except ParseError as exc:
        why = (
            re.sub(r" at line \d+ col \d+$", "", str(exc)).replace("character: '\\x00'", "end of the file").rstrip(".")
        )
        raise HostFileRefused(message=f"is not valid TOML at line {exc.line}, column {exc.col}: {why}.") from exc
    except TOMLKitError as exc:
        raise HostFileRefused(message=f"is not valid TOML: {exc}".rstrip(".") + ".") from exc
