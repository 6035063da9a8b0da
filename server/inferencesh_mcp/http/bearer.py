"""What a request brings along to be let in with: one bearer token, and under which name a key of one's own comes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferencesh_mcp.http.error_responses import Refused

if TYPE_CHECKING:
    from starlette.datastructures import Headers

OWN_KEY = "x-inference-api-key"

# What a host sends that could not fill in a reference, or a person who copied an example.
_INSIDE = r"[^{}\"\\]{1,80}"
_UNFILLED = re.compile(
    rf"\$\w{{1,60}}|\$?\{{{_INSIDE}\}}|\$?\{{\{{{_INSIDE}\}}\}}|%\w{{1,60}}%|<[A-Za-z_ .:-]{{1,60}}>|(?i:(?:inf_)?your[A-Z_ .-]{{1,60}})"
)


def bearer(headers: Headers) -> str | None:
    """The one bearer token of a request; None where there is none.

    Raises:
        Refused: two that differ, or another scheme.
    """
    found: set[str] = set()
    for value in headers.getlist("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme and scheme.lower() != "bearer":
            raise unknown("key_refused", "Authorization must be a Bearer.", "")
        found |= {token.strip()} - {""}
    if len(found) > 1:
        raise unknown("key_refused", "The request carries two tokens that differ.", "")
    return found.pop() if found else None


def operators_bearer(headers: Headers) -> str:
    """The token of a caller who has no say in which key inference.sh is called with.

    Raises:
        Refused: none, or a key of their own beside it, which would have to be ignored.
    """
    if OWN_KEY in headers:
        raise unknown("key_refused", "This server calls inference.sh with its operator's key, and takes no other.", "")
    token = bearer(headers)
    if token is None:
        raise unknown("token_missing", "No token was sent.", "Send it as Authorization: Bearer.")
    refuse_unfilled(token, "token_missing")
    return token


def unknown(code: str, message: str, how: str) -> Refused:
    """What somebody is told whom this server does not know."""
    return Refused(status=401, code=code, message=f"{message} {how}".strip(), headers={"WWW-Authenticate": "Bearer"})


def refuse_unfilled(credential: str, code: str) -> None:
    """Refuse what stands for a credential that nobody filled in.

    Raises:
        Refused: it names what was sent, unless a real key could be in it: hardly any is without a digit.
    """
    if _UNFILLED.fullmatch(credential):
        shown = "A placeholder" if any(map(str.isdigit, credential)) else f"The placeholder {credential}"
        raise unknown(code, f"{shown} was sent, which nobody filled in.", "Set its value in your host.")
