"""A refused request, and its answer: a JSON-RPC error on the MCP path, an OAuth error on any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

Page = Callable[[Headers], Response]
"""A page that can only be read."""

# JSON-RPC 2.0: invalid request, and the first code that is the server's own.
_INVALID_REQUEST, _SERVER_ERROR = -32600, -32000


@dataclass(eq=False, kw_only=True)
class Refused(Exception):
    """A request that is refused before anything was started or left this process."""

    status: int
    code: str
    """Stable and machine-readable, like the codes of `errors`."""
    message: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after: int | None = None
    """Seconds after which the same request may succeed."""

    def __str__(self) -> str:
        return self.message

    def page(self) -> JSONResponse:
        """The response outside MCP, as an OAuth error (RFC 6749 5.2), because hosts look for a sign-in there."""
        body = {"error": self.code, "error_description": self.message}
        return JSONResponse(body, status_code=self.status, headers=dict(self.headers))

    def response(self) -> JSONResponse:
        """The response to an MCP message."""
        data: dict[str, Any] = {"code": self.code, "outcome": "not_started"}
        headers = dict(self.headers)
        if self.retry_after is not None:
            data["retry_after_seconds"] = self.retry_after
            headers["Retry-After"] = str(self.retry_after)
        code = _SERVER_ERROR if self.status in {429, 503} else _INVALID_REQUEST
        body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": self.message, "data": data}}
        return JSONResponse(body, status_code=self.status, headers=headers)
