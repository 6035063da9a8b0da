"""Connections that cost others nothing: so many from one address, and none that takes its time to say what it wants.

uvicorn waits for ever for the rest of a head or a body (measured: T-23). What it has is h11's own account of whose turn it
is; here each turn of the other side has an end.
"""

from __future__ import annotations

import logging
from collections import Counter
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from inferencesh_mcp.http.middleware import Refused

if TYPE_CHECKING:
    import asyncio

    from inferencesh_mcp.settings import Settings

logger = logging.getLogger(__name__)


def _closing(status: str, code: str, message: str) -> bytes:
    """A whole answer, after which the connection ends: there is no request that an application could answer."""
    body = Refused(status=int(status[:3]), code=code, message=message).response().body
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + bytes(body)


_TOO_SLOW = _closing("408 Request Timeout", "timed_out", "The request did not arrive in time.")
_NO_REQUEST = _closing("400 Bad Request", "invalid_call", "This is not a valid HTTP request.")


class ConnectionLimits:
    """What is asked of a connection, and how many each address has open."""

    def __init__(self, settings: Settings) -> None:
        self.header_seconds, self.body_seconds = settings.header_seconds, settings.body_seconds
        self._most = settings.max_connections
        self._proxies = [ip_network(one, strict=False) for one in settings.trusted_proxies]
        self._open: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Note a connection; False when it is one too many. A proxy of the operator's has as many as it likes."""
        if self._open[address] >= self._most and not self._is_proxy(address):
            return False
        self._open[address] += 1
        return True

    def give_back(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def _is_proxy(self, address: str) -> bool:
        ip = ip_address(address)
        plain = ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip  # IPv4, on a socket that takes both
        return any(plain in network for network in self._proxies)


class LimitedH11Protocol(H11Protocol):
    """The server's end of one connection, which is held to the limits."""

    def __init__(self, limits: ConnectionLimits, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._turn: Any = None
        """What the other side owes: the rest of a head (h11.IDLE), the rest of a body (h11.SEND_BODY), or nothing."""
        self._end: asyncio.TimerHandle | None = None
        self._address: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self._limits.take(address):
            logger.warning("refused a connection from %s: it has as many as one address may", address)
            transport.abort()
            return
        self._address = address
        self._wait_for(h11.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait_for(None)
        if self._address is not None:
            self._limits.give_back(self._address)
            self._address = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the library's words, as plain text
        self.transport.write(_NO_REQUEST)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Not a word: anybody can ask for an upgrade, and that there is none is meant (A-6)."""

    def _look(self) -> None:
        """See whose turn it is. Between two requests nobody owes anything: uvicorn ends what stays idle."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._wait_for(h11.SEND_BODY)
        elif state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait_for(h11.IDLE)
        else:
            self._wait_for(None)

    def _wait_for(self, turn: Any) -> None:
        if turn is self._turn:
            return  # drops of data do not buy time
        self._turn = turn
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if turn is not None:
            seconds = self._limits.body_seconds if turn is h11.SEND_BODY else self._limits.header_seconds
            self._end = self.loop.call_later(seconds, self._cut_off)

    def _cut_off(self) -> None:
        self._end = None
        logger.info("cut off a connection that was too slow")
        if not self.cycle or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_TOO_SLOW)
        self.transport.close()
