"""Who may call, and with which inference.sh key: the modes of INFERENCE_HTTP_AUTH, one per server.

No mode falls back to another. An unknown credential is refused before anything leaves this process.

The SDK's `TokenVerifier` and its routes are not used: a verifier sees the first token alone, and neither a second one nor
X-Inference-Api-Key; its refusals do not say that nothing was started, or what to send instead; and its metadata normalizes
addresses, which tokens must name exactly.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from inferencesh_mcp.context import Visitor
from inferencesh_mcp.http import tokens
from inferencesh_mcp.http.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers

    from inferencesh_mcp.http.refusal import Page

OWN_KEY = "x-inference-api-key"

# What a host sends that could not fill in a reference, or a person who copied an example.
_NAME = r"[^{}\"\\]{1,80}"
_PLACEHOLDER = re.compile(
    rf"\$\w{{1,60}}|\$?\{{{_NAME}\}}|\$?\{{\{{{_NAME}\}}\}}|%\w{{1,60}}%|<[A-Za-z_ .:-]{{1,60}}>|(?i:(?:inf_)?your[A-Z_ .-]{{1,60}})"
)

_KEY_MISSING = "No inference.sh key was sent."
_HOW_TO_SEND_A_KEY = "Send yours as Authorization: Bearer or X-Inference-Api-Key."

# Tokens of a gateway, of other services, and JWTs cannot be inference.sh keys.
_FOREIGN = re.compile(tokens.PREFIX + r"|gh[a-z]_|github_pat_|glpat-|sk-|xox|ya29\.|AKIA|[\w-]+\.[\w-]+\.[\w-]*$")
_KEY = re.compile(r"[\x21-\x7e]{1,512}")


class Authenticator(ABC):
    """One mode of authentication."""

    identifies_callers: bool
    """Whether a credential proves who calls. If not, one caller may use any number of names."""
    sign_in_hint: str
    """What to do instead, for a host that looks for a sign-in page."""

    @abstractmethod
    async def admit(self, headers: Headers) -> Visitor:
        """Who sends this request.

        Raises:
            Refused: the credential is missing or unknown.
        """

    def pages(self) -> dict[str, Page]:
        """The pages that describe this mode, by path."""
        return {}


class CallerKeyAuthenticator(Authenticator):
    """Callers send their own inference.sh key, which is used for their request only. inference.sh decides if it is valid.

    A key is not an MCP access token, so there is no OAuth metadata.
    """

    identifies_callers = False
    sign_in_hint = f"{_KEY_MISSING} {_HOW_TO_SEND_A_KEY}"

    def __init__(self, prefixes: Sequence[str], *, default_key: str | None) -> None:
        """`default_key` is used for requests without a key: the sandbox has one."""
        self._prefixes = tuple(prefixes)
        self._default_key = default_key

    async def admit(self, headers: Headers) -> Visitor:
        keys = {key for key in (bearer(headers), *headers.getlist(OWN_KEY)) if key}
        for candidate in keys:
            refuse_placeholder(candidate, "key_missing")
        if len(keys) > 1:
            raise unauthorized("key_refused", "The request has two different keys.", _HOW_TO_SEND_A_KEY)
        key = keys.pop() if keys else self._default_key
        if key is None:
            raise unauthorized("key_missing", _KEY_MISSING, _HOW_TO_SEND_A_KEY)
        if _FOREIGN.match(key) or not _KEY.fullmatch(key) or not key.startswith(self._prefixes or ""):
            raise unauthorized("key_refused", "This is not an inference.sh key.", _HOW_TO_SEND_A_KEY)
        return Visitor(name=f"key:{hashlib.sha256(key.encode()).hexdigest()}", key=key)


class GatewayTokenAuthenticator(Authenticator):
    """Callers send one of this server's own tokens. inference.sh is called with the operator's key."""

    identifies_callers = True
    sign_in_hint = "No token was sent. Send one of this server's as Authorization: Bearer."

    def __init__(self, valid_tokens: tokens.Tokens, key: str | None) -> None:
        self._tokens, self._key = valid_tokens, key

    async def admit(self, headers: Headers) -> Visitor:
        name = self._tokens.name(gateway_bearer(headers))
        if name is None:
            raise unauthorized("token_refused", "This server does not know that token.", "Ask its operator for one.")
        return Visitor(name=f"token:{name}", key=self._key)


def bearer(headers: Headers) -> str | None:
    """The one bearer token of a request; None if there is none.

    Raises:
        Refused: two different tokens, or another scheme.
    """
    tokens_sent: set[str] = set()
    for value in headers.getlist("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme and scheme.lower() != "bearer":
            raise unauthorized("key_refused", "Authorization must be 'Bearer <token>'.", "")
        tokens_sent |= {token.strip()} - {""}
    if len(tokens_sent) > 1:
        raise unauthorized("key_refused", "The request has two different tokens.", "")
    return tokens_sent.pop() if tokens_sent else None


def gateway_bearer(headers: Headers) -> str:
    """The token of a caller whose requests use the operator's key.

    Raises:
        Refused: no token, or a key of the caller's own, which would be ignored.
    """
    if OWN_KEY in headers:
        raise unauthorized("key_refused", "This server uses its operator's inference.sh key. Do not send your own.", "")
    token = bearer(headers)
    if token is None:
        raise unauthorized("token_missing", "No token was sent.", "Send it as Authorization: Bearer.")
    refuse_placeholder(token, "token_missing")
    return token


def unauthorized(code: str, message: str, remedy: str) -> Refused:
    """A 401 response to a missing or unknown credential."""
    return Refused(status=401, code=code, message=f"{message} {remedy}".strip(), headers={"WWW-Authenticate": "Bearer"})


def refuse_placeholder(credential: str, code: str) -> None:
    """Refuse a placeholder instead of a credential.

    Raises:
        Refused: the message shows the placeholder unless it has a digit, as real keys do.
    """
    if _PLACEHOLDER.fullmatch(credential):
        placeholder = "A placeholder" if any(map(str.isdigit, credential)) else f"The placeholder {credential}"
        raise unauthorized(code, f"{placeholder} was sent instead of a credential.", "Set its value in your host.")
