"""Where a request may go: the API's own address from the settings, and the addresses of files. Pure: no I/O."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urldefrag, urljoin, urlsplit

from inferencesh_mcp.errors import FileRefused, SettingsError
from inferencesh_mcp.loopback import is_https_or_loopback, is_loopback_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_INSIDE = (".localhost", ".local", ".internal", ".home.arpa")
"""What names of inner networks end in (RFC 6761, 6762, 8375, and ICANN's choice for private use)."""
_UNICAST = ipaddress.ip_network("2000::/3")  # all that IPv6 has given out; old forms of IPv4 inside IPv6 are beyond it


def base_url(url: str, variable: str) -> str:
    """The URL without a trailing slash; SettingsError, naming the variable, unless it is https, or http to this machine."""
    parts = _split(url)
    if parts is None or parts.query or parts.fragment or parts.username or parts.password:
        raise SettingsError(message=f"{variable} must be a plain URL such as https://api.inference.sh")
    if not is_https_or_loopback(parts):
        raise SettingsError(message=f"{variable} must begin with https:// (http:// is for this machine alone)")
    return url.strip().rstrip("/")


def loopback_port(url: str) -> int | None:
    """The port of a URL that can only mean this machine; None for any other."""
    parts = _split(url)
    if parts is None or not is_loopback_host(parts.hostname or ""):
        return None
    return parts.port or (443 if parts.scheme == "https" else 80)


def file_host(url: str, *, loopback: bool) -> tuple[str, int]:
    """Host and port of a file's URL; FileRefused unless it is https, or http to this machine where `loopback` says so."""
    parts = _split(url)
    if parts is None or parts.username or parts.password:
        raise FileRefused(message="the file's address is not a URL that can be fetched")
    host = parts.hostname or ""
    if not (is_https_or_loopback(parts) if loopback else parts.scheme == "https"):
        raise FileRefused(message="the file's address must begin with https://")
    return host, parts.port or (443 if parts.scheme == "https" else 80)


def redirected(url: str, location: str) -> str:
    """Where a redirect of a file's URL leads; FileRefused where that is no address."""
    try:
        return urldefrag(urljoin(url, location)).url
    except ValueError as exc:
        raise FileRefused(message="the file's address redirects to an invalid URL") from exc


def is_allowed(address: str, *, loopback: bool) -> bool:
    """Whether a file may be fetched from, or sent to, this IP address: public ones only, and this machine if told so."""
    ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return loopback
    return ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in _UNICAST)


def outside_name(host: str) -> str:
    """A file's host as a proxy may be asked for it; FileRefused for what can only mean a place inside.

    Only the proxy resolves the name, so this checks the name: only public addresses, in any notation; no name without a dot,
    and no name reserved for internal networks. The proxy decides about all other names.
    """
    try:
        name = host.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError as exc:
        raise FileRefused(message=f"the file's host {host!a} was not found") from exc
    literal = _literal(name)
    is_outside = is_allowed(literal, loopback=False) if literal else "." in name and not name.endswith(_INSIDE)
    if not is_outside:
        raise FileRefused(message=f"the file's host {host!a} is not a public address")
    return literal or name


def path_of(url: str) -> str:
    """The path of a URL as it is written; empty for what is no URL, since apps return anything as an address."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _plain(ip: Address) -> Address:
    """The IPv4 address that an IPv6 one carries inside, if it carries one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _literal(name: str) -> str:
    """The IP address that a host is; empty for a name. IPv4 in all forms that systems read: 127.1, 0x7f.1, 2130706433."""
    try:
        return str(ipaddress.ip_address(name)) if ":" in name else socket.inet_ntoa(socket.inet_aton(name))
    except (OSError, ValueError):
        return ""


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url.strip())
        port_is_fine = parts.port != 0  # reading it is what checks it
    except ValueError:
        return None
    return parts if parts.hostname and port_is_fine else None
