"""What a setting may hold: each kind is read from text, held to its rule, and can say in words what is allowed."""

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

from inferencesh_mcp.folder_identity import is_or_holds_home

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # what can only mean this machine

SHORTEST_STATE_KEY = 32  # bytes: what AES-256 takes

# A gateway's token by its holder's name and its own SHA-256 (see `web.tokens`).
TOKEN = re.compile(r"[\w.@-]{1,64}:[0-9a-fA-F]{64}", re.ASCII)


def setting(default: Any, about: str, *, allowed: str = "", http: bool = False, **limits: Any) -> Any:
    """A field of `Settings`. `allowed` is said where its type and limits do not say it; `http` is for those of `http` alone."""
    told = {"about": about, "allowed": allowed, "http": http, "limits": limits}
    return dataclasses.field(default=default, metadata=told)


def read(field: Field[Any], value: str) -> Any:
    """The value that a text stands for.

    Raises:
        ValidationError: it is none that the setting may hold.
    """
    kind: Any = Annotated[field.type, pydantic.Field(**field.metadata["limits"])]
    return TypeAdapter[Any](kind).validate_python(value)


def choices_of(field: Field[Any]) -> tuple[str, ...]:
    """The words that a setting may be; empty where it is not a choice of words."""
    kind = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
    return get_args(kind) if get_origin(kind) is Literal else ()


def allowed(field: Field[Any]) -> str:
    """What a setting may hold, in words."""
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
    def held(value: Any) -> Any:
        if not rule(value):
            raise ValueError
        return value

    return AfterValidator(held)


def is_secure(url: str) -> bool:
    """Whether a key may go there (threat T-27): https, or plain http to this machine only."""
    with suppress(ValueError):
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        return secure and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc and bool(AnyHttpUrl(url))
    return False


def _has_port(url: SecretStr) -> bool:
    """Whether the port is one, where there is one: reading it fails otherwise."""
    return urlsplit(url.get_secret_value()).port != 0


def _narrow(folder: Path) -> bool:
    return folder.is_absolute() and not is_or_holds_home(folder)


def _network(text: str) -> bool:
    """No network stands for everything."""
    try:
        return ip_network(text, strict=False).prefixlen > 0
    except ValueError:
        return False


def _safe_state_keys(keys: tuple[SecretStr, ...]) -> bool:
    plain = [key.get_secret_value().encode() for key in keys]
    return all(len(key) >= SHORTEST_STATE_KEY for key in plain) and len({*plain}) == len(plain)


def _secretly(pattern: re.Pattern[str]) -> AfterValidator:
    return _must(lambda secret: pattern.fullmatch(secret.get_secret_value()))


Address = Annotated[str, _must(is_secure)]
Base = Annotated[str, _must(lambda url: is_secure(url) and not {"?", "#"} & set(url))]
ADDRESS = "an https:// address, or http:// on this machine"

File = Annotated[Path, BeforeValidator(lambda value: Path(value).expanduser() if isinstance(value, str) else value)]
Folder = Annotated[File, _must(_narrow)]
FOLDER = "the absolute path of a folder that neither is nor holds your home folder"

# Header-safe and without white space: a key pasted with a line break must not become a second header.
Key = Annotated[SecretStr, _secretly(re.compile(r"[\x21-\x7e]{1,512}"))]
StateKeys = Annotated[tuple[SecretStr, ...], LISTED, _must(_safe_state_keys)]
RedisUrl = Annotated[SecretStr, _secretly(re.compile(r"(rediss?://[^/\s]+|unix:///)\S*")), _must(_has_port)]

# No entry of these stands for everything: an empty list lets nobody in (I-21).
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?|[a-z0-9+.-]+://[a-z0-9._-]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 3.3
HostName = Annotated[str, _must(_HOST.fullmatch), AfterValidator(str.lower)]
Origin = Annotated[str, _must(_ORIGIN.fullmatch)]
Network = Annotated[str, _must(_network)]
TokenHash = Annotated[str, _must(TOKEN.fullmatch)]
Scope = Annotated[str, _must(_SCOPE.fullmatch)]
