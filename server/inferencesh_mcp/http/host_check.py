"""By which names, and from which web pages, this server may be reached: exactly those, on every route (T-7).

Otherwise any page that a person opens could have its name resolve to this machine, and talk to the server from there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware

from inferencesh_mcp.http.error_responses import Refused
from inferencesh_mcp.settings.types import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

AT_HOME = tuple(f"[{host}]" if ":" in host else host for host in LOOPBACK)

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")

# What a browser lets a page read. No cookies: nobody is known here by what their browser adds by itself.
_READ = ("mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after")
_AN_HOUR = 3600


class Named:
    """Lets through what is addressed to this server by its name, and comes from no page or from one that is allowed."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts, self._origins = frozenset(hosts), frozenset(origins)
        # Whoever gets to it has an origin that may: `_refusal` has looked. It may send any header: those of MCP have no end.
        self._app = CORSMiddleware(
            app, allow_origin_regex=".*", allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=_READ,
            max_age=_AN_HOUR,
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Headers(scope=scope))):
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> Refused | None:
        if not self._is_ours(headers.getlist("host")):
            message = "This server is not reached by that name. INFERENCE_ALLOWED_HOSTS names those it is."
            return Refused(status=421, code="forbidden", message=message)
        if any(not self._is_allowed(origin, headers["host"]) for origin in headers.getlist("origin")):
            message = "Pages of that origin may not use this server. INFERENCE_ALLOWED_ORIGINS names those that may."
            return Refused(status=403, code="forbidden", message=message)
        return None

    def _is_allowed(self, origin: str, host: str) -> bool:
        """A page that is named; or one of this machine, at a server that is spoken to as this machine."""
        scheme, _, page = origin.partition("://")
        at_home = scheme == "http" and _is_loopback(page) and _is_loopback(host)
        return at_home or origin in self._origins

    def _is_ours(self, given: Sequence[str]) -> bool:
        """A name that is allowed, with any port unless the allowed one names its own."""
        found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        return found is not None and (found[0] in self._hosts or found[1] in self._hosts)


def _is_loopback(host: str) -> bool:
    found = _HOST.fullmatch(host.lower())
    return found is not None and found[1] in AT_HOME
