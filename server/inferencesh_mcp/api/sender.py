"""Requests of one caller: a key and the shared transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.keys import Key
from inferencesh_mcp.api.models import PAGE_LIMIT
from inferencesh_mcp.api.problem_details import DASHBOARD
from inferencesh_mcp.api.transport import Call, Transport
from inferencesh_mcp.errors import KeyMissing, KeyRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferencesh_mcp.api.retry import Operation


class Sender:
    """Sends with one caller's key. Every method raises what `Transport.call` raises, and KeyMissing without a key."""

    def __init__(self, transport: Transport, key: str | None, on_key_refused: Callable[[], None]) -> None:
        """`on_key_refused` is called whenever the API refuses the key. KeyRefused for text that cannot be a key."""
        self.transport = transport
        self._on_key_refused = on_key_refused
        self.key = Key(key) if key else None

    async def get(self, path: str) -> Any:
        """Read."""
        return await self.send(Call(method="GET", path=path))

    async def list(self, path: str, body: dict[str, Any]) -> Any:
        """A POST without an effect that matters, so it may be retried (O-8, O-10)."""
        return await self.send(Call(method="POST", path=path, body=body))

    async def post(self, operation: Operation, path: str, body: dict[str, Any] | None = None) -> Any:
        """A POST of this kind; None as `body` sends an empty object."""
        return await self.send(Call(method="POST", path=path, operation=operation, body=body or {}))

    async def send(self, call: Call) -> Any:
        """The value of the answer to a call."""
        self.check_key()
        try:
            return (await self.transport.call(call, self.key)).value
        except KeyRefused:
            self._on_key_refused()
            raise

    def check_key(self) -> None:
        """Raise KeyMissing if there is no key to send."""
        if self.key is None and not self.transport.brings_key:
            raise KeyMissing(
                message="no inference.sh key was given",
                next_step=f"Make one in the dashboard at {DASHBOARD} and set it as INFERENCE_API_KEY.",
                outcome="not_started",
            )


def list_body(limit: int, cursor: str, filters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The body of a list's request."""
    body: dict[str, Any] = {"limit": max(1, min(limit, PAGE_LIMIT))}
    return body | ({"cursor": cursor} if cursor else {}) | ({"filters": filters} if filters else {})


def search_body(query: str) -> dict[str, Any]:
    """The search part of a list's body; empty for an empty query."""
    return {"search": {"term": query, "exact": False}} if query else {}
