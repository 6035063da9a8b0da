"""Keeps credentials out of everything that leaves this process. Pure: imports no other module of the package.

First by value: the credentials in use are found whole or in pieces, plain or encoded. Then by shape: text that looks like a key or
a signature is removed from errors, logs and traces.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

REPLACEMENT = "[key]"
MIN_LENGTH = 8
"""Length of the shortest piece of a credential that is redacted. Shorter pieces occur by chance and reveal too little."""
MAX_LENGTH = 2_048
"""Characters of a credential that are searched for. Keys have 30 to 60; a signed token ends with its signature."""

# Names the kind of a credential and is not part of the secret.
_PUBLIC_PREFIX = re.compile(r"(?:inf|igw|1nfsh)[_-]|Bearer ", re.IGNORECASE)
# Keys of inference.sh in both forms, tokens of our gateway, signed tokens (JWT), and anything after "bearer".
_KEY_SHAPE = re.compile(
    r"\b(?:inf|igw)_[\w-]+|(?i:\b1nfsh-[0-9a-z]{26})|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*|(?i:\bbearer\s+\S+)"
)
_PLATFORM_KEY = re.compile(r"\b1nfsh-[0-9a-z]{26}", re.IGNORECASE)
# The part after `?` or `#` is optional: if it were required, the pattern would search on from every address.
_URL_TAIL = re.compile(r"(https?://[^\s?#\"'<>]+)(?:[?#][^\s\"'<>]*)?", re.IGNORECASE)

_WORD = 4  # bytes compared at once; the shortest piece, 8 bytes, contains an aligned word wherever it begins
_ESCAPE = rb"%(?:25)*[0-9A-Fa-f]{2}|\\u00[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|&#(?:x[0-9A-Fa-f]{2}|[0-9]{2,3});"
_ESCAPE_SIGNS = (b"%", b"\\u00", b"\\x", b"&#")
_IS_ESCAPE = re.compile(_ESCAPE)
_ESCAPED_RUN = re.compile(rb"(?:" + _ESCAPE + rb"|[\w.~+/=:-])+")
_ESCAPED_CHAR = re.compile(rb"(" + _ESCAPE + rb")|[\w.~+/=:-]")


@dataclass(frozen=True)
class _Form:
    """A credential as it may be written."""

    text: bytes
    secret_from: int
    """Where the secret part begins."""
    least: int
    """Characters of the secret part in a row that must not appear."""
    any_case: bool


class Redactor:
    """Finds credentials. It reads a text once, as machine words, and looks closer only where a word matches."""

    def __init__(self, credentials: Iterable[str]) -> None:
        self._words: dict[int, list[tuple[_Form, int]]] = {}
        for credential in dict.fromkeys(credentials):
            for form in _forms(credential):
                lowered = form.text.lower()
                for start in range(len(lowered) - _WORD + 1):
                    word = int.from_bytes(lowered[start : start + _WORD], "little")
                    self._words.setdefault(word, []).append((form, start))

    def text(self, text: str) -> str:
        """The text without any credential."""
        content = text.encode("utf-8", "surrogatepass")
        lowered = content.lower()
        regions = [*self._plain(content, lowered), *self._escaped(content)] if self._words else []
        clean = _replaced(content, regions) if regions else text
        return _PLATFORM_KEY.sub(REPLACEMENT, clean) if b"1nfsh-" in lowered else clean

    def value(self, value: Any) -> Any:
        """A JSON value without any credential, also in field names. It is the same object if it has none."""
        whole = "\n".join(_texts(value))
        return value if self.text(whole) == whole else self._rebuilt(value)

    def _rebuilt(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._rebuilt(item) for item in cast("list[Any]", value)]
            case dict():
                rebuilt: dict[str, Any] = {}
                numbers: dict[str, int] = {}
                for name, item in cast("dict[str, Any]", value).items():
                    rebuilt[free_name(self.text(name), rebuilt, numbers)] = self._rebuilt(item)
                return rebuilt
            case _:
                return value

    def _plain(self, content: bytes, lowered: bytes) -> Iterator[tuple[int, int]]:
        """The byte ranges of credentials."""
        words = memoryview(lowered + bytes(-len(lowered) % _WORD)).cast("I")
        if self._words.keys().isdisjoint(words):
            return
        done = 0
        for number, word in enumerate(words):
            if word not in self._words or number * _WORD < done:
                continue
            for form, start in self._words[word]:
                region = _extended(content, lowered, number * _WORD, form, start)
                if region:
                    done = max(done, region[1])
                    yield region

    def _escaped(self, content: bytes) -> Iterator[tuple[int, int]]:
        """The byte ranges of credentials with escaped characters."""
        if not any(sign in content for sign in _ESCAPE_SIGNS):
            return
        decoded = _IS_ESCAPE.sub(lambda escape: _unescaped(escape.group()), content)
        if next(self._plain(decoded, decoded.lower()), None) is None:
            return
        for run in _ESCAPED_RUN.finditer(content):
            chars = list(_ESCAPED_CHAR.finditer(content, run.start(), run.end()))
            decoded = b"".join(_unescaped(char.group()) if char.group(1) else char.group() for char in chars)
            for first, last in self._plain(decoded, decoded.lower()):
                yield chars[first].start(), chars[last - 1].end()


def _forms(credential: str) -> Iterator[_Form]:
    """The ways to write a credential. A very short one has none."""
    if credential.startswith("eyJ") and credential.count(".") == 2:
        # Only the signature of a signed token is secret; the rest is much like other tokens.
        credential = credential.rpartition(".")[2]
    whole = credential[-MAX_LENGTH:].encode("utf-8", "surrogatepass")
    prefix = _PUBLIC_PREFIX.match(credential)
    public = prefix.end() if prefix else 0
    if len(whole) - public < MIN_LENGTH:  # too short: its pieces could be words
        public = 0
    if len(whole) < MIN_LENGTH:
        return
    least = len(whole) if prefix and public == 0 else MIN_LENGTH
    yield _Form(whole, public, least, any_case=True)
    yield _Form(whole.hex().encode(), 2 * public, 2 * least - 1, any_case=True)
    for shift in range(3):
        padded = bytes(shift) + whole
        bits = 8 * len(padded)
        begin = -(-8 * shift // 6)  # earlier characters hold bits of the text before the credential
        secret_from = max(0, -(-8 * (shift + public) // 6) - begin)
        pieces = (8 * least - 4) // 6
        for encode in (b64encode, urlsafe_b64encode):
            text = encode(padded)[begin : bits // 6]
            yield _Form(text, secret_from, min(pieces, len(text) - secret_from), any_case=False)


def _extended(content: bytes, lowered: bytes, at: int, form: _Form, start: int) -> tuple[int, int] | None:
    """The range of a form around a matching word; None if it is too short."""
    have, want = (lowered, form.text.lower()) if form.any_case else (content, form.text)
    if have[at : at + _WORD] != want[start : start + _WORD]:
        return None
    left = 0
    while left < min(at, start) and have[at - left - 1] == want[start - left - 1]:
        left += 1
    right, room = _WORD, min(len(have) - at, len(want) - start)
    while right < room and have[at + right] == want[start + right]:
        right += 1
    secret = start + right - max(start - left, form.secret_from)
    return (at - left, at + right) if secret >= form.least else None


def _replaced(content: bytes, regions: list[tuple[int, int]]) -> str:
    parts: list[bytes] = []
    position = 0
    for start, end in sorted(regions):
        if start >= position:
            parts += [content[position:start], REPLACEMENT.encode()]
        elif not parts:
            parts.append(REPLACEMENT.encode())
        position = max(position, end)
    return b"".join([*parts, content[position:]]).decode("utf-8", "surrogatepass")


def _unescaped(escape: bytes) -> bytes:
    """The byte of an escape. It is always one byte, so that positions can be mapped back."""
    if escape.startswith(b"&"):
        digits = escape[2:-1]
        return bytes([(int(digits[1:], 16) if digits.startswith(b"x") else int(digits)) & 0xFF])
    return bytes([int(escape[-2:], 16)])


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, field names included. Not recursive, because callers choose its depth."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list):
            left += cast("list[Any]", part)
        elif isinstance(part, dict):
            fields = cast("dict[str, Any]", part)
            yield from fields
            left += fields.values()


def free_name(name: str, taken: Any, numbers: dict[str, int]) -> str:
    """The name, with a number if it is taken: two values must not become one. `numbers` keeps the last of each name."""
    number, free = numbers.get(name, 1), name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    numbers[name] = number
    return free


_NOTHING = Redactor(())
_current: ContextVar[Redactor] = ContextVar("credentials in use", default=_NOTHING)


@contextmanager
def credentials_in_use(redactor: Redactor) -> Generator[None]:
    """Redact these in everything that is logged or sent inside the block."""
    token = _current.set(redactor)
    try:
        yield
    finally:
        _current.reset(token)


def without_credentials(value: Any) -> Any:
    """A JSON value without the credentials of the current request."""
    return _current.get().value(value)


def without_secrets(text: str) -> str:
    """A text without the credentials of the current request, and without anything that looks like a key or a signature."""
    return _KEY_SHAPE.sub(REPLACEMENT, _URL_TAIL.sub(r"\1", _current.get().text(text)))
