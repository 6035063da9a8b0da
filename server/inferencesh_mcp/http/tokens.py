"""The gateway's own bearer tokens. Each has a name, and only its SHA-256 is stored.

A token is 32 random bytes, so its hash cannot be guessed back.
"""

from __future__ import annotations

import codecs
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.settings.types import TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PREFIX = "igw_"  # shows that a token belongs to a gateway and is not an inference.sh key


def mint() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(32)


def line(name: str, token: str) -> str:
    """The entry for a token in the server's settings: its name and hash."""
    return f"{name}:{_hash(token)}"


class Tokens:
    """The valid tokens and their holders. A holder may have two while one replaces the other."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._known = [(name, digest.lower()) for name, _, digest in (line.partition(":") for line in lines)]

    def name(self, token: str) -> str | None:
        """The holder of a token, or None. Takes the same time whatever the token is."""
        digest = _hash(token)
        names = [name for name, known in self._known if hmac.compare_digest(known, digest)]
        return names[0] if names else None


def read(entries: Sequence[str], file: Path | None) -> Tokens:
    """The tokens of the setting and of the file, one per line. Blank lines and lines that begin with # are skipped.

    Raises:
        SettingsError: there is none, or an entry is not `name:sha256`.
    """
    lines = [*entries, *(_lines(file) if file else [])]
    if not lines:
        raise SettingsError(
            message="INFERENCE_HTTP_TOKENS or INFERENCE_HTTP_TOKENS_FILE must hold a token's hash. "
            "Make one: `inferencesh-mcp token NAME`."
        )
    return Tokens(lines)


def _lines(file: Path) -> list[str]:
    try:
        raw = file.read_bytes()
        text = raw.decode("utf-16" if raw[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(message=f"INFERENCE_HTTP_TOKENS_FILE cannot be read: {type(exc).__name__}.") from exc
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, line in enumerate(lines, 1):
        if not TOKEN.fullmatch(line):  # not shown: it may be the token itself, by mistake
            raise SettingsError(
                message=f"Entry {number} of INFERENCE_HTTP_TOKENS_FILE must be a line that `inferencesh-mcp token NAME` wrote."
            )
    return lines


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
