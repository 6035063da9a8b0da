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
