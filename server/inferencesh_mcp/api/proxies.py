"""Which proxy a request goes through, as HTTPS_PROXY and its like say. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.loopback import is_loopback_host

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable that named it."""

    variable: str
    url: str = field(repr=False)
    """It may hold a password, and is never shown."""

    @property
    def address(self) -> str:
        """Its host, and its port where one was given."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


class Proxies:
    """What the variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        no_proxy = variables.get("NO_PROXY", "").lower().split(",")
        self._exceptions = [entry.strip() for entry in no_proxy if entry.strip()]

    def for_url(self, url: str) -> Proxy | None:
        """The proxy for a URL; never one for this machine. SettingsError for a proxy that cannot be used."""
        if not self._variables:
            return None
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        variable = next(
            (name for name in (f"{parts.scheme.upper()}_PROXY", "ALL_PROXY") if name in self._variables), ""
        )
        is_exception = any(_covers(entry, host, parts.port) for entry in self._exceptions)
        if not variable or is_loopback_host(host) or is_exception:
            return None
        return _usable(variable, self._variables[variable])


def _usable(variable: str, value: str) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise SettingsError(
            message=f"{variable} is not the address of an HTTP proxy",
            next_step=f"Write {variable} as http://host:port, or unset it.",
        )
    return Proxy(variable, url)


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY is about a host: `*`, a name with all names under it, an address or a network."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, of_port = entry.rpartition(":")
    if colon and of_port.isdigit() and ":" not in name.strip("[]"):
        if int(of_port) != (port or 443):
            return False
        entry = name
    entry = entry.removeprefix("*").removeprefix(".")
    return host == entry or host.endswith(f".{entry}")
