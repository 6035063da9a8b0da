"""Messages and arguments that are nearly right: drawn from a seed, so that a failure comes again."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**53, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, "", " ", "null", "0", "a" * 300, "\0", "\ud800", "\u202e", "é",
    "../..", "${x}", "[]", '{"a": 1}', [], [None], [[]], {}, {"": None}, {"__proto__": {}}, {"$ref": "#"}, [1] * 50, {"a": {"b": {"c": []}}},
)  # fmt: skip
WORDS = (
    "jsonrpc",
    "id",
    "method",
    "params",
    "result",
    "error",
    "_meta",
    "Method",
    "ID",
    "name",
    "arguments",
    "\ud800",
    "",
)


def odd(random: Random) -> Any:
    return copy.deepcopy(random.choice(ODD))


def mutated(random: Random, value: Any) -> Any:
    """The same value with one to three things wrong."""
    changed = copy.deepcopy(value)
    for _ in range(random.randint(1, 3)):
        changed = _changed(random, changed)
    return changed


def _changed(random: Random, value: Any) -> Any:
    holders = list(_holders(value))
    if not holders or random.random() < 0.05:
        return random.choice((odd(random), [value], {"a": value}))
    holder, key = random.choice(holders)
    match random.randrange(6):
        case 0:
            holder.pop(key)
        case 1 if isinstance(holder, dict):
            holder[random.choice(WORDS)] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[random.choice(WORDS)] = odd(random)
        case 3:
            holder[key] = [holder[key]]
        case 4:
            holder[key] = json.dumps(holder[key])
        case _:
            holder[key] = odd(random)
    return value


def _holders(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _holders(value[key])


def spoilt(random: Random, raw: bytes) -> bytes:
    """The bytes with some changed, lost, doubled, or put in; on one line still."""
    line = bytearray(raw)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(line) + 1)
        match random.randrange(5):
            case 0:
                line[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del line[at : at + random.randint(1, 20)]
            case 2:
                line[at:at] = line[max(0, at - random.randint(1, 30)) : at]
            case 3:
                line[at:at] = random.choice(
                    (
                        b"\xff",
                        b"\x00",
                        b"\xc3",
                        b"\xed\xa0\x80",
                        b'"',
                        b"{",
                        b"]",
                        b"\\u",
                        b"NaN",
                        b"1e999",
                        b"9" * 5000,
                        b"[" * 3000,
                    )
                )
            case _:
                del line[at:]
    return bytes(line).replace(b"\n", b" ").replace(b"\r", b" ")


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"not JSON",
    "half": b"{",
    "null": b"null",
    "a number": b"17",
    "a text": b'"tools/list"',
    "an empty batch": b"[]",
    "a batch": b'[{"jsonrpc": "2.0", "id": 9, "method": "ping"}]',
    "no id and no method": b'{"jsonrpc": "2.0"}',
    "another version": b'{"jsonrpc": "1.0", "id": 9, "method": "tools/list"}',
    "no version": b'{"id": 9, "method": "tools/list"}',
    "lists deep inside": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "an endless id": b'{"jsonrpc": "2.0", "id": "' + b"x" * 100_000 + b'", "method": "tools/none"}',
    "a list for an id": b'{"jsonrpc": "2.0", "id": [1], "method": "tools/list"}',
    "no method": b'{"jsonrpc": "2.0", "id": 9}',
    "NaN": b'{"jsonrpc": "2.0", "id": NaN, "method": "tools/list"}',
    "Infinity": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "app_list", "arguments": {"limit": Infinity}}}',
    "an object for an id": b'{"jsonrpc": "2.0", "id": {"a": 1}, "method": "tools/list"}',
    "null for an id": b'{"jsonrpc": "2.0", "id": null, "method": "tools/list"}',
    "half a number": b'{"jsonrpc": "2.0", "id": 1.5, "method": "tools/list"}',
    "a number for a method": b'{"jsonrpc": "2.0", "id": 9, "method": 5}',
    "a list of params": b'{"jsonrpc": "2.0", "id": 9, "method": "tools/list", "params": [1]}',
    "a text of params": b'{"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": "app_list"}',
    "an answer": b'{"jsonrpc": "2.0", "id": "nobody", "result": {}}',
    "an error": b'{"jsonrpc": "2.0", "id": 9, "error": {"code": -1, "message": "x"}}',
    "100,000 deep": b"[" * 100_000,
    "50,000 objects deep": b'{"a": ' * 50_000,
    "5,000 digits": b'{"jsonrpc": "2.0", "id": ' + b"9" * 5000 + b', "method": "tools/list"}',
    "5,000 digits inside": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "app_list", "arguments": {"limit": ' + b"9" * 5000 + b"}}}",
    "no UTF-8": b'{"jsonrpc": "2.0", "id": 9, "method": "\xff\xfe"}',
    "UTF-16": '{"jsonrpc": "2.0", "id": 9, "method": "tools/list"}'.encode("utf-16"),
    "NUL": b'{"jsonrpc": "2.0", "id": 9, "method": "tools/list"}\0',
    "lone surrogates": b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "tools/call", "params": {"name": "\\udfff", "arguments": {}}}',
    "a method that is not there": b'{"jsonrpc": "2.0", "id": 9, "method": "tools/none"}',
    "a tool that is not there": b'{"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "none", "arguments": {}}}',
    "two messages": b'{"jsonrpc": "2.0", "id": 9, "method": "ping"}\n{"jsonrpc": "2.0", "id": 10, "method": "ping"}',
    "five mebibytes": b'{"jsonrpc": "2.0", "id": 9, "method": "tools/list", "params": {"x": "' + b"x" * (5 << 20) + b'"}}',
}  # fmt: skip
