"""The types of settings: each is read from text and validated, and says in words what is allowed."""

from __future__ import annotations

import dataclasses
import os
import re
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, AnyHttpUrl, BeforeValidator, SecretStr, TypeAdapter

from inferencesh_mcp.loopback import is_https_or_loopback
from inferencesh_mcp.paths import expanded, from_uri, is_name, is_or_holds_home, unquoted

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field

MIN_STATE_KEY_BYTES = 32  # bytes: what AES-256 takes

# A gateway token: its holder's name and its SHA-256 (see `http.tokens`).
TOKEN = re.compile(r"[\w.@-]{1,64}:[0-9a-fA-F]{64}", re.ASCII)


def setting(default: Any, about: str, *, allowed: str = "", http: bool = False, **limits: Any) -> Any:
    """A field of `Settings`. `allowed` describes valid values if type and limits do not. `http` marks settings of `http` only."""
    metadata = {"about": about, "allowed": allowed, "http": http, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def read(field: Field[Any], value: str) -> Any:
    """Parse a setting's value.

    Raises:
        ValidationError: the value is not allowed.
    """
    kind: Any = Annotated[field.type, pydantic.Field(**field.metadata["limits"])]
    return TypeAdapter[Any](kind).validate_python(value)


def choices_of(field: Field[Any]) -> tuple[str, ...]:
    """The choices of a setting; empty if it has none."""
    kind = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
    return get_args(kind) if get_origin(kind) is Literal else ()


def allowed(field: Field[Any]) -> str:
    """The allowed values, in words."""
    if field.metadata["allowed"]:
        return str(field.metadata["allowed"])
    kind = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        *others, last = get_args(kind)
        return f"{', '.join(others)} or {last}"
    limits = field.metadata["limits"]
    return f"a {'whole ' if kind is int else ''}number from {limits['ge']} to {limits['le']}"


def _split(separator: str) -> BeforeValidator:
    def split(value: Any) -> Any:
        return [part.strip() for part in value.split(separator) if part.strip()] if isinstance(value, str) else value

    return BeforeValidator(split)


LISTED = _split(",")
LISTED_AS_PATHS = _split(os.pathsep)


def _must(rule: Callable[[Any], Any]) -> AfterValidator:
    def validate(value: Any) -> Any:
        if not rule(value):
            raise ValueError
        return value

    return AfterValidator(validate)


def is_secure(url: str) -> bool:
    """Whether a key may be sent there: https, or http to this machine (T-27)."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return (
            is_https_or_loopback(parts)
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
            and bool(AnyHttpUrl(url))
        )
    return False


def _has_port(url: SecretStr) -> bool:
    """Whether the port, if any, is valid. Reading an invalid port raises ValueError."""
    return urlsplit(url.get_secret_value()).port != 0


def _narrow(folder: Path) -> bool:
    return folder.is_absolute() and not is_or_holds_home(folder)


def _network(text: str) -> bool:
    """Whether this is a network that does not contain all addresses."""
    try:
        return ip_network(text, strict=False).prefixlen > 0
    except ValueError:
        return False


def _safe_state_keys(keys: tuple[SecretStr, ...]) -> bool:
    plain = [key.get_secret_value().encode() for key in keys]
    return all(len(key) >= MIN_STATE_KEY_BYTES for key in plain) and len({*plain}) == len(plain)


def _secretly(pattern: re.Pattern[str]) -> AfterValidator:
    return _must(lambda secret: pattern.fullmatch(secret.get_secret_value()))


Address = Annotated[str, _must(is_secure)]
Base = Annotated[str, _must(lambda url: is_secure(url) and not {"?", "#"} & set(url))]
ADDRESS = "an https:// address, or http:// on this machine"


def _path(value: Any) -> Any:
    """A path as people write it: in quotes, with `~` or a variable for the home, or as a `file:` URI."""
    if not isinstance(value, str):
        return value
    path = from_uri(unquoted(value))
    if path is None or not is_name(path):
        raise ValueError
    return expanded(path)


File = Annotated[Path, BeforeValidator(_path)]
Folder = Annotated[File, _must(_narrow)]
FOLDER = "the absolute path of a folder; not your home folder or a folder that contains it"

# Header-safe and without white space: a key pasted with a line break must not become a second header.
Key = Annotated[SecretStr, _secretly(re.compile(r"[\x21-\x7e]{1,512}"))]
StateKeys = Annotated[tuple[SecretStr, ...], LISTED, _must(_safe_state_keys)]
RedisUrl = Annotated[SecretStr, _secretly(re.compile(r"(rediss?://[^/\s]+|unix:///)\S*")), _must(_has_port)]

# No entry matches everything, and an empty list admits nobody (I-21).
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?|[a-z0-9+.-]+://[a-z0-9._-]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 3.3
HostName = Annotated[str, _must(_HOST.fullmatch), AfterValidator(str.lower)]
Origin = Annotated[str, _must(_ORIGIN.fullmatch)]
Network = Annotated[str, _must(_network)]
TokenHash = Annotated[str, _must(TOKEN.fullmatch)]
Scope = Annotated[str, _must(_SCOPE.fullmatch)]
