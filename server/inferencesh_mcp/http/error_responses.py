"""What is answered without MCP: pages, and refusals whose status proxies understand and whose error hosts can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

Page = Callable[[Headers], Response]
"""Something that can only be read, at an address of its own."""

# JSON-RPC 2.0: invalid request, and the first code that is the server's own.
_INVALID_REQUEST, _SERVER_ERROR = -32600, -32000


@dataclass(eq=False, kw_only=True)
class Refused(Exception):
    """A request that goes no further: nothing was started, and nothing left this process."""

    status: int
    code: str
    """Stable, machine-readable, as those of `errors`."""
    message: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after: int | None = None
    """Seconds after which the same request may be let in."""

    def __str__(self) -> str:
        return self.message

    def page(self) -> JSONResponse:
        """The same where no MCP is spoken, in the form of an OAuth error (RFC 6749 5.2): hosts look for a sign-in there."""
        told = {"error": self.code, "error_description": self.message}
        return JSONResponse(told, status_code=self.status, headers=dict(self.headers))

    def response(self) -> JSONResponse:
        """The answer to a message of MCP."""
        told: dict[str, Any] = {"code": self.code, "outcome": "not_started"}
        headers = dict(self.headers)
        if self.retry_after is not None:
            told["retry_after_seconds"] = self.retry_after
            headers["Retry-After"] = str(self.retry_after)
        number = _SERVER_ERROR if self.status in {429, 503} else _INVALID_REQUEST
        body = {"jsonrpc": "2.0", "id": None, "error": {"code": number, "message": self.message, "data": told}}
        return JSONResponse(body, status_code=self.status, headers=headers)
