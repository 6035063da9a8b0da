"""The one rule for addresses that may be plain HTTP: they name this machine. Pure: imports no other module of the package."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def is_loopback_host(host: str) -> bool:
    """Whether a host's name or address can only mean this machine: `localhost`, `127.0.0.0/8` or `::1`, in brackets or not."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def is_https_or_loopback(parts: SplitResult) -> bool:
    """Whether credentials may be sent there: over TLS, or not beyond this machine (T-27)."""
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(parts.hostname or ""))
