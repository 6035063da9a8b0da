"""Requests of one caller: a key and the shared transport."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.models import MAX_PAGE_SIZE
from inferencesh_mcp.api.problem_details import DASHBOARD
from inferencesh_mcp.api.responses import outcome_unknown
from inferencesh_mcp.api.retry import Operation
from inferencesh_mcp.api.transport import Key, Transport
from inferencesh_mcp.errors import CallError, KeyMissing, KeyRefused, NotFound, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Sender:
    """Sends with one caller's key. Every method raises what `Transport.call` raises, and KeyMissing without a key."""

    def __init__(self, transport: Transport, key: str | None, on_key_refused: Callable[[], None]) -> None:
        """`on_key_refused` is called whenever the API refuses the key. KeyRefused for text that cannot be a key."""
        self.transport = transport
        self._on_key_refused = on_key_refused
        self.key = Key(key) if key else None

    @property
    def account(self) -> str:
        """`Key.account`; empty without a key."""
        return self.key.account if self.key else ""

    async def get(self, path: str) -> Any:
        """The JSON value at a path."""
        return await self._send(Operation.READ, "GET", path)

    async def get_optional(self, path: str) -> Any | None:
        """The value at a path; None if the server has no such endpoint (404, 405)."""
        try:
            return await self.get(path)
        except (NotFound, UpstreamError) as error:
            if error.status not in {404, 405}:
                raise
            return None

    async def post(self, operation: Operation, path: str, body: dict[str, Any] | None = None) -> Any:
        """The value of the answer to a POST of this kind; None as `body` sends an empty object."""
        return await self._send(operation, "POST", path, body or {})

    async def delete(self, path: str) -> None:
        """Delete or end what is at a path."""
        await self._send(Operation.STOP, "DELETE", path)

    @contextmanager
    def starting(self) -> Generator[None]:
        """A block that sends a START and reads its answer: every error that leaves it carries `outcome`."""
        sent_at = self.transport.now()
        try:
            yield
        except UpstreamError as error:
            if error.outcome is not None:
                raise
            raise outcome_unknown(error.message, sent_at, error) from error
        except CallError as error:  # refused here, before anything was sent
            raise error.replace(outcome="not_started", retry_safe=True) from error

    def check_key(self) -> None:
        """Raise KeyMissing if there is no key to send."""
        if self.key is None and not self.transport.brings_key:
            raise KeyMissing(
                message="no inference.sh key was given",
                next_step=f"Make one in the dashboard at {DASHBOARD} and set it as INFERENCE_API_KEY.",
                outcome="not_started",
            )

    async def _send(self, operation: Operation, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        self.check_key()
        try:
            return await self.transport.call(operation, method, path, self.key, body)
        except KeyRefused:
            self._on_key_refused()
            raise


def list_body(limit: int, cursor: str, filters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The body of a list's request."""
    body: dict[str, Any] = {"limit": max(1, min(limit, MAX_PAGE_SIZE))}
    return body | ({"cursor": cursor} if cursor else {}) | ({"filters": filters} if filters else {})


def search_body(query: str) -> dict[str, Any]:
    """The search part of a list's body; empty for an empty query."""
    return {"search": {"term": query, "exact": False}} if query else {}
