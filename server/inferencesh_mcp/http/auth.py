"""Who may come in, and with which key inference.sh is called for them: the modes of D-1, one a server, never mixed.

No mode falls back to another: what the chosen one does not know is refused before anything leaves this process.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Protocol

from inferencesh_mcp.context import SANDBOX_KEY, Visitor
from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.http import tokens
from inferencesh_mcp.http.middleware import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers

    from inferencesh_mcp.http.middleware import Page
    from inferencesh_mcp.settings import Settings

OWN_KEY = "x-inference-api-key"

# What a host sends that could not fill in a reference, or a person who copied an example.
_INSIDE = r"[^{}\"\\]{1,80}"
_UNFILLED = re.compile(
    rf"\$\w{{1,60}}|\$?\{{{_INSIDE}\}}|\$?\{{\{{{_INSIDE}\}}\}}|%\w{{1,60}}%|<[A-Za-z_ .:-]{{1,60}}>|(?i:(?:inf_)?your[A-Z_ .-]{{1,60}})"
)

_NO_KEY = "No inference.sh key was sent."
_HOW = "Send yours as Authorization: Bearer or X-Inference-Api-Key."

# A gateway's tokens, those of other services, and signed ones (JWT): plainly no keys of inference.sh (D-1).
_FOREIGN = re.compile(tokens.PREFIX + r"|gh[a-z]_|github_pat_|glpat-|sk-|xox|ya29\.|AKIA|[\w-]+\.[\w-]+\.[\w-]*$")
_WORD = re.compile(r"[\x21-\x7e]{1,512}")


class Authenticator(Protocol):
    """One mode: what it lets in, and as whom."""

    @property
    def vouches(self) -> bool:
        """Whether it knows whom it lets in. Else one visitor may come under any number of names."""
        ...

    @property
    def instead_of_signing_in(self) -> str:
        """What to do for who looks for a sign-in where there is none."""
        ...

    async def admit(self, headers: Headers) -> Visitor:
        """Say who sends this request; Refused when it may not come in."""
        ...

    def pages(self) -> dict[str, Page]:
        """What this mode has to tell whoever looks for the way in."""
        ...


def authenticator_for(settings: Settings) -> Authenticator:
    """The door that the settings choose.

    Raises:
        SettingsError: they belong to more than one mode, or to half of one.
    """
    _refuse_mixture(settings)
    if settings.http_auth == "caller":
        return CallersKey(settings.http_key_prefixes, nobody=SANDBOX_KEY if settings.sandbox else None)
    key = _operators_key(settings)
    if settings.http_auth == "tokens":
        return GatewayTokens(tokens.read(settings.http_tokens, settings.http_tokens_file), key)
    from inferencesh_mcp.http.oauth import OAuthTokens  # its cryptography is not paid for by the other modes

    return OAuthTokens.of(settings, key)


def _refuse_mixture(settings: Settings) -> None:
    for mode, names in (
        ("caller", ("http_key_prefixes",)),
        ("tokens", ("http_tokens", "http_tokens_file")),
        ("oauth", ("oauth_issuer", "oauth_resource", "oauth_jwks_url", "oauth_scopes")),
    ):
        strange = [name for name in names if getattr(settings, name)] if mode != settings.http_auth else []
        if strange:
            raise SettingsError(
                message=f"INFERENCE_{strange[0].upper()} goes with INFERENCE_HTTP_AUTH={mode}, "
                f"but INFERENCE_HTTP_AUTH is {settings.http_auth}."
            )


def _operators_key(settings: Settings) -> str | None:
    """What all callers of an operator's server share; None where the operator's proxy adds it."""
    if settings.sandbox:
        return SANDBOX_KEY
    if settings.api_key is None and settings.proxy_url is None:
        raise SettingsError(
            message=f"INFERENCE_API_KEY must be set: with INFERENCE_HTTP_AUTH={settings.http_auth} all callers use the operator's."
        )
    return settings.api_key.get_secret_value() if settings.api_key else None


class CallersKey:
    """Whoever brings a key of inference.sh; whether it is one, inference.sh says. It serves their request and no other."""

    vouches = False
    instead_of_signing_in = f"{_NO_KEY} {_HOW}"

    def __init__(self, prefixes: Sequence[str], *, nobody: str | None) -> None:
        """`nobody` is the key of whoever brings none: the sandbox has one."""
        self._prefixes = tuple(prefixes)
        self._nobody = nobody

    async def admit(self, headers: Headers) -> Visitor:
        given = {key for key in (bearer(headers), *headers.getlist(OWN_KEY)) if key}
        for one in given:
            refuse_unfilled(one, "key_missing")
        if len(given) > 1:
            raise unknown("key_refused", "The request has two different keys.", _HOW)
        key = given.pop() if given else self._nobody
        if key is None:
            raise unknown("key_missing", _NO_KEY, _HOW)
        if _FOREIGN.match(key) or not _WORD.fullmatch(key) or not key.startswith(self._prefixes or ""):
            raise unknown("key_refused", "This is not an inference.sh key.", _HOW)
        return Visitor(name=f"key:{hashlib.sha256(key.encode()).hexdigest()}", key=key)

    def pages(self) -> dict[str, Page]:
        return {}  # a key is no MCP access token: nothing here may look as if it were (D-1)


class GatewayTokens:
    """Whoever holds one of this server's own tokens; inference.sh is called with the operator's key."""

    vouches = True
    instead_of_signing_in = "No token was sent. Send one of this server's as Authorization: Bearer."

    def __init__(self, known: tokens.Tokens, key: str | None) -> None:
        self._known, self._key = known, key

    async def admit(self, headers: Headers) -> Visitor:
        name = self._known.name(operators_bearer(headers))
        if name is None:
            raise unknown("token_refused", "This server does not know that token.", "Ask its operator for one.")
        return Visitor(name=f"token:{name}", key=self._key)

    def pages(self) -> dict[str, Page]:
        return {}


def bearer(headers: Headers) -> str | None:
    """The one bearer token of a request; None where there is none.

    Raises:
        Refused: two that differ, or another scheme.
    """
    found: set[str] = set()
    for value in headers.getlist("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme and scheme.lower() != "bearer":
            raise unknown("key_refused", "Authorization must be 'Bearer <token>'.", "")
        found |= {token.strip()} - {""}
    if len(found) > 1:
        raise unknown("key_refused", "The request has two different tokens.", "")
    return found.pop() if found else None


def operators_bearer(headers: Headers) -> str:
    """The token of a caller who has no say in which key inference.sh is called with.

    Raises:
        Refused: none, or a key of their own beside it, which would have to be ignored.
    """
    if OWN_KEY in headers:
        raise unknown("key_refused", "This server uses its operator's inference.sh key. Do not send your own.", "")
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
        raise unknown(code, f"{shown} was sent instead of a credential.", "Set its value in your host.")
