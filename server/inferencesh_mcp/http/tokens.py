"""The gateway's own bearer tokens: each has a name, and is kept as the SHA-256 of itself.

A token is 32 random bytes, so its plain hash tells nothing about it: there are no likely ones to try.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PREFIX = "igw_"  # tells whoever finds one what it opens: no key of inference.sh, but a gateway to it


def mint() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(32)


def line(name: str, token: str) -> str:
    """How a token is written down where the server reads it."""
    return f"{name}:{_hash(token)}"


class Tokens:
    """The tokens that open a door, and whose they are. One holder may have two, while the old one is replaced."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._known = [(name, digest.lower()) for name, _, digest in (one.partition(":") for one in lines)]

    def name(self, token: str) -> str | None:
        """Whose token this is. How long that takes does not tell how much of it was right."""
        given = _hash(token)
        found = [name for name, known in self._known if hmac.compare_digest(known, given)]
        return found[0] if found else None


def read(given: Sequence[str], file: Path | None) -> Tokens:
    """The tokens of the setting and of the file, a line each; blank lines and those that begin with # are none.

    Raises:
        SettingsError: there are none, or one is not `name:sha256`.
    """
    lines = [*given, *(_lines(file) if file else [])]
    if not lines:
        raise SettingsError(
            message="INFERENCE_HTTP_TOKENS or INFERENCE_HTTP_TOKENS_FILE must hold the hash of a token: "
            "`inferencesh-mcp token NAME` makes one."
        )
    return Tokens(lines)


def _lines(file: Path) -> list[str]:
    from inferencesh_mcp.settings.types import TOKEN

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(message=f"INFERENCE_HTTP_TOKENS_FILE cannot be read: {type(exc).__name__}.") from exc
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, one in enumerate(lines, 1):
        if not TOKEN.fullmatch(one):  # not shown: it may be the token itself, put there by mistake
            raise SettingsError(message=f"Entry {number} of INFERENCE_HTTP_TOKENS_FILE must be a name and a hash, as `inferencesh-mcp token NAME` writes it.")  # fmt: skip
    return lines


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
