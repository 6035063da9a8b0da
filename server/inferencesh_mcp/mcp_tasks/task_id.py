"""The id of an MCP task: what goes on upstream, sealed for whoever started it. There is no other memory of it.

Any replica with the same keys opens it, and only for the same caller (T-6, A-5). What is inside is still no authority:
it is read upstream with the caller's own key (I-10).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING

from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState

from inferencesh_mcp.mcp_tasks.types import Held

if TYPE_CHECKING:
    from collections.abc import Sequence

LASTS = 24 * 3600.0  # seconds: longer than any run; a person who is asked something has a day for it
LONGEST = 16_384  # characters of an id; the longest of ours names 32 tasks


class NotOurs(Exception):
    """The id was not made here, or not for this caller: which of the two, nobody is told."""


class Expired(Exception):
    """The id was the caller's own, and its time is over."""

    def __init__(self, held: Held) -> None:
        super().__init__("expired")
        self.held = held


class Sealer:
    """Makes ids and opens them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # Keys of its own: the state of a question (`request_state`) can never pass for an id, nor an id for a state.
        self._codec = AESGCMRequestStateCodec([hmac.digest(key, b"id of an MCP task", hashlib.sha256) for key in keys])

    def seal(self, held: Held, principal: str | None) -> str:
        told = {"kind": held.kind, "of": held.of, "began": held.began, "for": principal}
        return self._codec.seal(json.dumps(told, separators=(",", ":")).encode())

    def opened(self, sealed: str, principal: str | None) -> Held:
        """What an id stands for.

        Raises:
            NotOurs: made by nobody, by another server, or for another caller.
            Expired: it was this caller's.
        """
        try:
            told = json.loads(self._codec.unseal(sealed[:LONGEST]))
        except InvalidRequestState as exc:
            raise NotOurs from exc
        if told["for"] != principal:
            raise NotOurs
        held = Held(kind=told["kind"], of=told["of"], began=told["began"])
        if held.age >= LASTS:
            raise Expired(held)
        return held
