"""Limits connections per address, and closes those whose request arrives too slowly.

uvicorn waits forever for the rest of a head or a body (T-23). h11 knows whose turn it is, so each turn of the client gets a
time limit.
"""

from __future__ import annotations

import logging
from collections import Counter
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from inferencesh_mcp.http.refusal import Refused

if TYPE_CHECKING:
    import asyncio

    from inferencesh_mcp.settings import Settings

logger = logging.getLogger(__name__)


def _closing(status: str, code: str, message: str) -> bytes:
    """A complete response that closes the connection, because no request reached the application."""
    body = Refused(status=int(status[:3]), code=code, message=message).response().body
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + bytes(body)


_TOO_SLOW = _closing("408 Request Timeout", "timed_out", "The request did not arrive in time.")
_NO_REQUEST = _closing("400 Bad Request", "invalid_call", "This is not a valid HTTP request.")


class ConnectionLimits:
    """The time limits of a connection, and the open connections per address."""

    def __init__(self, settings: Settings) -> None:
        self.header_seconds, self.body_seconds = settings.header_seconds, settings.body_seconds
        self._limit = settings.max_connections
        self._proxies = [ip_network(network, strict=False) for network in settings.trusted_proxies]
        self._open: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Count a connection; False if the address has too many. The operator's proxies have no limit."""
        if self._open[address] >= self._limit and not self._is_proxy(address):
            return False
        self._open[address] += 1
        return True

    def give_back(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def _is_proxy(self, address: str) -> bool:
        ip = ip_address(address)
        normalized = ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip  # IPv4, on a socket that takes both
        return any(normalized in network for network in self._proxies)


class LimitedH11Protocol(H11Protocol):
    """The server's end of one connection, which is held to the limits."""

    def __init__(self, limits: ConnectionLimits, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._turn: Any = None
        """What the client must send: the rest of a head (h11.IDLE), of a body (h11.SEND_BODY), or nothing."""
        self._timer: asyncio.TimerHandle | None = None
        self._address: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self._limits.take(address):
            logger.warning("refused a connection from %s: the address has too many", address)
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
        self._update_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_timer()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the library's words, as plain text
        self.transport.write(_NO_REQUEST)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: upgrades are not supported on purpose, and anybody can ask for one (A-6)."""

    def _update_timer(self) -> None:
        """Start or stop the timer by whose turn it is. Between two requests uvicorn's own idle timeout counts."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._wait_for(h11.SEND_BODY)
        elif state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait_for(h11.IDLE)
        else:
            self._wait_for(None)

    def _wait_for(self, turn: Any) -> None:
        if turn is self._turn:
            return  # more data does not restart the timer
        self._turn = turn
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if turn is not None:
            seconds = self._limits.body_seconds if turn is h11.SEND_BODY else self._limits.header_seconds
            self._timer = self.loop.call_later(seconds, self._cut_off)

    def _cut_off(self) -> None:
        self._timer = None
        logger.info("closed a connection whose request arrived too slowly")
        if not self.cycle or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_TOO_SLOW)
        self.transport.close()
