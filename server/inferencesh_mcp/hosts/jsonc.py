"""Edit JSON that a person keeps: only what is asked for changes; comments, order, spacing and line ends stay.

Pure: text in, text out. No library of PyPI that edits JSON with comments was found to be both kept and used
(November 2026), so this is a parser that remembers where things stand, and splices.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.errors import HostFileRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

_STRICT_SPACE = re.compile(r"[ \t\r\n]*")
# `*+` and `++` never give back what they took: a comment has one way to be read, not two to the power of its length.
_SPACE = re.compile(r"(?:[ \t\r\n]++|//[^\r\n]*+|/\*.*?\*/)*+", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_TO_LINE_END = re.compile(r"[ \t]*+(?:/\*(?:[^*\r\n]|\*(?!/))*+\*/[ \t]*+)*+(?://[^\r\n]*+)?(?=\r?\n|$)")
_BLANK_TO_LINE_END = re.compile(r"[ \t]*(?=\r?\n|$)")
DEEPEST = 100


@dataclass(frozen=True)
class Node:
    """A value and its position. An object or an array has items; anything else is its own `scalar`."""

    start: int
    end: int
    opens: str
    items: tuple[Item, ...] = ()
    scalar: Any = None

    @property
    def value(self) -> Any:
        if self.opens == "{":
            return {item.key: item.node.value for item in self.items}
        return [item.node.value for item in self.items] if self.opens == "[" else self.scalar

    def find(self, key: str) -> int | None:
        """Where `key` is among the items: the last, as every reader has it."""
        return next((i for i in reversed(range(len(self.items))) if self.items[i].key == key), None)


@dataclass(frozen=True)
class Item:
    start: int
    key: str | None
    node: Node
    comma: int | None
    """Where the comma behind it is, if there is one."""

    @property
    def end(self) -> int:
        return self.node.end if self.comma is None else self.comma + 1


def parse(text: str, *, comments: bool) -> Node | None:
    """Read it; None when nothing is there. With `comments`, trailing commas are taken too.

    Raises:
        HostFileRefused: it is no such text; the message says the line and the column.
    """
    return _Parser(text, comments=comments).whole()


class _Parser:
    def __init__(self, text: str, *, comments: bool) -> None:
        self._text = text
        self._comments = comments
        self._space = _SPACE if comments else _STRICT_SPACE

    def whole(self) -> Node | None:
        at = self._skip(0)
        if at == len(self._text):
            return None
        node = self._value(at, DEEPEST)
        end = self._skip(node.end)
        if end != len(self._text):
            raise self._wrong(end, "unexpected text after the end")
        return node

    def _skip(self, at: int) -> int:
        match = self._space.match(self._text, at)
        return match.end() if match else at

    def _value(self, at: int, depth: int) -> Node:
        opens = self._text[at : at + 1]
        if opens and opens in "{[":
            if not depth:
                raise self._wrong(at, "nested too deeply")
            return self._container(at, opens, depth)
        match = _STRING.match(self._text, at) if opens == '"' else _SCALAR.match(self._text, at)
        if match is None:
            raise self._wrong(at, "expected a value")
        try:
            return Node(at, match.end(), "", scalar=json.loads(match[0]))
        except ValueError:  # Python reads no integer of more than 4,300 digits
            raise self._wrong(at, "a number is too long") from None

    def _container(self, start: int, opens: str, depth: int) -> Node:
        closes = "}" if opens == "{" else "]"
        items: list[Item] = []
        at = self._skip(start + 1)
        while self._text[at : at + 1] != closes:
            if items and items[-1].comma is None:
                raise self._wrong(at, f"expected a comma or {closes}")
            item = self._item(at, opens, depth)
            if item.comma is not None:
                following = self._skip(item.end)
                if self._text[following : following + 1] == closes and not self._comments:
                    raise self._wrong(item.comma, f"a comma is not allowed before {closes}")
            items.append(item)
            at = self._skip(item.end)
        return Node(start, at + 1, opens, tuple(items))

    def _item(self, start: int, opens: str, depth: int) -> Item:
        key, at = None, start
        if opens == "{":
            match = _STRING.match(self._text, start)
            if match is None:
                raise self._wrong(start, "expected a name in double quotes")
            key, at = json.loads(match[0]), self._skip(match.end())
            if self._text[at : at + 1] != ":":
                raise self._wrong(at, "expected a colon")
            at = self._skip(at + 1)
        node = self._value(at, depth - 1)
        comma = self._skip(node.end)
        return Item(start, key, node, comma if self._text[comma : comma + 1] == "," else None)

    def _wrong(self, at: int, why: str) -> HostFileRefused:
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        return HostFileRefused(message=f"is not valid JSON at line {line}, column {column}: {why}.")


def put(text: str, path: tuple[str, ...], value: Any, *, comments: bool) -> str:
    """The text with `value` at `path`; what is missing on the way there is made.

    Raises:
        HostFileRefused: it is no JSON, or something on the way is no object.
    """
    node = root = parse(text, comments=comments)
    if node is None or root is None:
        text = text.rstrip(" \t\r\n") + "\n" if text.strip() else ""
        return text + json.dumps(_nested(path, value), indent=2, ensure_ascii=False) + "\n"
    for depth, key in enumerate(path):
        _demand(node, "{", path[:depth])
        index = node.find(key)
        if index is None:
            return _added(text, root, node, key, _nested(path[depth + 1 :], value))
        node = node.items[index].node
    if node.value == value:
        return text
    return _spliced(text, [(node.start, node.end, _Style(text, root).written(value, _indent(text, node.start)))])


def append(text: str, key: str, value: Any, *, comments: bool) -> str:
    """The text with `value` at the end of the array of that name, which is made where it is missing."""
    root = parse(text, comments=comments)
    index = root.find(key) if root else None
    if root is None or index is None:
        return put(text, (key,), [value], comments=comments)
    array = root.items[index].node
    _demand(array, "[", (key,))
    return _added(text, root, array, None, value)


def take(text: str, path: tuple[str | int, ...], *, comments: bool) -> str:
    """The text without what is at `path`, comma and line included; unchanged when nothing is there."""
    node = parse(text, comments=comments)
    for step in path[:-1]:
        index = step if isinstance(step, int) else node.find(step) if node else None
        if node is None or index is None:
            return text
        node = node.items[index].node
    last = path[-1]
    index = last if isinstance(last, int) else node.find(last) if node else None
    return text if node is None or index is None else _without(text, node, index)


def _demand(node: Node, opens: str, path: Iterable[str]) -> None:
    if node.opens != opens:
        location = " > ".join(path) or "the whole file"
        raise HostFileRefused(message=f"must have {'an object' if opens == '{' else 'an array'} at {location}.")


def _nested(path: tuple[str, ...], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


class _Style:
    """How this file is written."""

    def __init__(self, text: str, root: Node) -> None:
        first = root.items[0].start if root.items else None
        own = _indent(text, first) if first is not None and _starts_line(text, first) else ""
        self.unit = own or "  "
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.one_line = bool(root.items) and "\n" not in text[root.start : root.end]

    def written(self, value: Any, indent: str) -> str:
        if self.one_line:
            return json.dumps(value, ensure_ascii=False)
        return json.dumps(value, indent=self.unit, ensure_ascii=False).replace("\n", self.newline + indent)


def _added(text: str, root: Node, node: Node, key: str | None, value: Any) -> str:
    style = _Style(text, root)
    key_prefix = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
    inside = text[node.start + 1 : node.end - 1]
    if style.one_line or (node.items and "\n" not in inside):
        entry_text = key_prefix + json.dumps(value, ensure_ascii=False)
        if not node.items:
            return _spliced(text, [(node.start + 1, node.start + 1, entry_text)])
        last = node.items[-1]
        return _spliced(text, [(last.end, last.end, f", {entry_text}" if last.comma is None else f" {entry_text},")])

    outer = _indent(text, node.start)
    if not node.items:
        body = style.newline + outer + style.unit + key_prefix + style.written(value, outer + style.unit)
        leading_text = inside.rstrip()
        trailing_space = inside[len(leading_text) :]
        at = node.start + 1 + len(leading_text)
        closing = trailing_space if leading_text and "\n" in trailing_space else style.newline + outer
        return _spliced(text, [(at, node.end - 1, body + closing)])
    last = node.items[-1]
    first = node.items[0].start
    indent = _indent(text, first) if _starts_line(text, first) else outer + style.unit
    line_tail = _TO_LINE_END.match(text, last.end)
    # After a comment that belongs to the last item.
    at = line_tail.end() if line_tail and line_tail.end() < node.end else last.end
    body = style.newline + indent + key_prefix + style.written(value, indent)
    if last.comma is not None:
        return _spliced(text, [(at, at, body + ",")])
    return _spliced(text, [(last.end, last.end, ","), (at, at, body)])


def _without(text: str, node: Node, index: int) -> str:
    item = node.items[index]
    previous_item = node.items[index - 1] if index else None
    start, end = item.start, item.end
    blank = _BLANK_TO_LINE_END.match(text, end)
    cuts: list[tuple[int, int, str]] = []
    is_last = index == len(node.items) - 1
    orphaned = previous_item.comma if previous_item and is_last and item.comma is None else None
    if _starts_line(text, start) and blank:
        line = start - len(_indent(text, start))
        start = line - (2 if text[:line].endswith("\r\n") else 1) if line else 0
        end = blank.end()
        cuts = [(orphaned, orphaned + 1, "")] if orphaned is not None else []
    elif orphaned is not None and not text[orphaned + 1 : start].strip():
        start = orphaned
    else:
        cuts = [(orphaned, orphaned + 1, "")] if orphaned is not None else []
        end += len(text[end:]) - len(text[end:].lstrip(" \t")) if not is_last else 0
    cuts.append((start, end, ""))
    if len(node.items) == 1:
        remaining_text = _spliced(
            text[node.start + 1 : node.end - 1], [(start - node.start - 1, end - node.start - 1, "")]
        )
        if not remaining_text.strip():
            cuts = [(node.start + 1, node.end - 1, "")]
    return _spliced(text, cuts)


def _indent(text: str, at: int) -> str:
    """What the line that `at` is in begins with."""
    line = text.rfind("\n", 0, at) + 1
    return text[line : len(text) - len(text[line:].lstrip(" \t"))]


def _starts_line(text: str, at: int) -> bool:
    line = text.rfind("\n", 0, at)
    return line >= 0 and not text[line + 1 : at].strip(" \t")


def _spliced(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, new in reversed(edits):
        text = text[:start] + new + text[end:]
    return text
