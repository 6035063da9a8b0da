"""The id of an MCP task: an encrypted `TaskHandle`, bound to the caller. The server stores nothing else.

Any replica with the same keys can open it, but only for the same caller (T-6, A-5). It grants no access: its upstream ids
are read with the caller's own key (I-10).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState

if TYPE_CHECKING:
    from collections.abc import Sequence

TASK_TTL = 24 * 3600.0  # seconds: longer than any run; a person has a day to answer a question
MAX_ID_LENGTH = 16_384  # characters of an id; the longest of ours holds 32 upstream ids


@dataclass(frozen=True, kw_only=True)
class TaskHandle:
    """The content of a task id: which kind of work it is, and its upstream ids."""

    kind: str
    upstream_ids: dict[str, Any]
    started_at: float
    """Seconds since 1970."""

    @property
    def age(self) -> float:
        return max(time.time() - self.started_at, 0)

    @property
    def expired(self) -> bool:
        return self.age >= TASK_TTL


class TaskIdCodec:
    """Seals handles into ids and opens them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # Derived keys: a sealed `request_state` can never be used as an id, nor an id as a state.
        self._codec = AESGCMRequestStateCodec([hmac.digest(key, b"id of an MCP task", hashlib.sha256) for key in keys])

    def seal(self, handle: TaskHandle, principal: str | None) -> str:
        payload = {"kind": handle.kind, "of": handle.upstream_ids, "began": handle.started_at, "for": principal}
        return self._codec.seal(json.dumps(payload, separators=(",", ":")).encode())

    def open(self, sealed: str, principal: str | None) -> TaskHandle | None:
        """The handle in an id; None if this server did not make it, or not for this caller, who does not learn which."""
        try:
            payload = json.loads(self._codec.unseal(sealed[:MAX_ID_LENGTH]))
        except InvalidRequestState:
            return None
        if payload["for"] != principal:
            return None
        return TaskHandle(kind=payload["kind"], upstream_ids=payload["of"], started_at=payload["began"])
