"""The key of one caller."""

from __future__ import annotations

import hashlib
import re
import secrets

from inferencesh_mcp.errors import KeyRefused

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_PEPPER = secrets.token_bytes(32)


class Key:
    """A key of inference.sh, which no repr, log line or error shows. Only `authorization` reveals it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """KeyRefused for text with spaces, line ends or characters outside ASCII."""
        if not _TOKEN.fullmatch(value):
            raise KeyRefused(
                message="the key has characters that are not allowed, such as a space or a line end",
                next_step="Copy the key again and set it as INFERENCE_API_KEY.",
            )
        self._value = value

    @property
    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._value}"

    @property
    def account(self) -> str:
        """A stable name for the key within this process: a hash with a secret of the process, so it reveals nothing (I-9)."""
        return hashlib.blake2b(self._value.encode(), key=_PEPPER, digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return "Key(***)"
