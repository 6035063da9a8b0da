"""A caller's key, kept where no repr, log line or error can show it. Pure: no I/O."""

from __future__ import annotations

import hashlib
import re
import secrets

from inferencesh_mcp.errors import KeyRefused

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_PEPPER = secrets.token_bytes(32)


class Key:
    """A key of inference.sh. Only `authorization` shows it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """KeyRefused when it can be no key: it has spaces, line ends or characters outside ASCII."""
        if not _TOKEN.fullmatch(value):
            raise KeyRefused(
                message="the key has characters that no key has: it may have been copied with a space or a line end",
                next_step="Copy the key again and set it as INFERENCE_API_KEY.",
            )
        self._value = value

    @property
    def authorization(self) -> str:
        """The value of the header that carries it."""
        return f"Bearer {self._value}"

    @property
    def account(self) -> str:
        """Names the key in maps of this process, and tells nothing of it (I-9): a hash keyed with a secret of the process."""
        return hashlib.blake2b(self._value.encode(), key=_PEPPER, digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return "Key(***)"
