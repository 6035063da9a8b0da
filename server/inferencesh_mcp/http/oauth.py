"""OAuth 2.1, as a resource server: tokens that an issuer made for exactly this server (RFC 9068, RFC 8707, RFC 9728).

Tokens are not passed on: inference.sh is called with the operator's key.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import jwt
from mcp.server.auth.routes import build_resource_metadata_url
from pydantic import AnyHttpUrl
from starlette.responses import JSONResponse

from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.api.retry import Operation
from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.context import Visitor
from inferencesh_mcp.errors import AccountError, CallError, InferenceError, SettingsError, UpstreamError
from inferencesh_mcp.http.auth import Authenticator, gateway_bearer
from inferencesh_mcp.http.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.datastructures import Headers

    from inferencesh_mcp.http.refusal import Page
    from inferencesh_mcp.settings import Settings

# Asymmetric only: with HS*, whoever can verify a token could sign one. Never `none`.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY = 30  # seconds that the issuer's clock may differ
MAX_TOKEN_LENGTH = 16 * 1024  # characters of a token
KEYS_TTL = 3600.0  # seconds: how long a key that the issuer withdrew is still trusted
REFETCH_INTERVAL = 10.0  # seconds between two fetches: anybody can send unknown key ids
MAX_KEYS = 64  # keys of one issuer
MIN_RSA_BITS = 2048  # bits (RFC 7518 3.3)
ISSUER_TIMEOUT = 10.0  # seconds for an answer: callers wait for it


class OAuthAuthenticator(Authenticator):
    """Callers send an access token of the issuer, made for this server and with the required scopes."""

    identifies_callers = True

    def __init__(self, settings: Settings, key: str | None) -> None:
        """`key` is the operator's.

        Raises:
            SettingsError: the issuer or this server's address is not set.
        """
        if not settings.oauth_issuer or not settings.oauth_resource:
            raise SettingsError(
                message="INFERENCE_OAUTH_ISSUER and INFERENCE_OAUTH_RESOURCE must be set with INFERENCE_HTTP_AUTH=oauth."
            )
        self._issuer, self._resource, self._scopes = (
            settings.oauth_issuer,
            settings.oauth_resource,
            settings.oauth_scopes,
        )
        self._metadata_url = str(build_resource_metadata_url(AnyHttpUrl(self._resource)))
        self._keys = IssuerKeys(self._issuer, settings.oauth_jwks_url, proxies=settings.proxies)
        self._key = key
        self.sign_in_hint = f"Sign in at {self._issuer}. Your host finds it through {self._metadata_url}."

    async def admit(self, headers: Headers) -> Visitor:
        try:
            token = gateway_bearer(headers)
        except Refused as refused:
            raise self._unknown(refused.code, refused.message) from None
        claims = await self._verify(token)
        if missing := [scope for scope in self._scopes if scope not in _scopes(claims)]:
            raise self._insufficient(missing[0])
        return Visitor(name=f"oauth:{claims['iss']}:{claims['sub']}", key=self._key)

    def pages(self) -> dict[str, Page]:
        scopes = {"scopes_supported": list(self._scopes)} if self._scopes else {}  # RFC 9728 3.2: never empty
        metadata = {
            "resource": self._resource,
            "authorization_servers": [self._issuer],
            **scopes,
            "bearer_methods_supported": ["header"],
            "resource_name": "inference.sh",
        }
        return {urlsplit(self._metadata_url).path: lambda _: JSONResponse(metadata)}

    async def _verify(self, token: str) -> dict[str, Any]:
        """The claims of a valid token: signed by the issuer, for this server, and not expired."""
        try:
            if len(token) > MAX_TOKEN_LENGTH:
                raise jwt.InvalidTokenError
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            key = await self._keys.key(kid if isinstance(kid, str) else None)
            if key is None or header.get("alg") not in ALGORITHMS:
                raise jwt.InvalidKeyError
            _refuse_other_token_types(header.get("typ"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                issuer=self._issuer,
                audience=self._resource,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"], "strict_aud": False},
            )
            _refuse_id_token(claims)
        except jwt.ExpiredSignatureError:
            raise self._unknown("token_expired", "The token has expired. Request a new one.") from None
        except jwt.InvalidAudienceError:
            raise self._unknown("token_refused", "The token was not made for this server.") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):  # its text may quote the token
            raise self._unknown("token_refused", "That is not a valid token of this server's issuer.") from None
        except InferenceError:
            message = "The token issuer cannot be reached, so no token can be checked. Try again."
            raise Refused(status=503, code="issuer_unavailable", message=message, retry_after=5) from None
        return claims

    def _unknown(self, code: str, message: str) -> Refused:
        # RFC 6750 3.1: the answer to a request without a token has no error code
        error = [] if code == "token_missing" else ['error="invalid_token"', f'error_description="{message}"']
        return self._refused(401, code, message, error)

    def _insufficient(self, missing: str) -> Refused:
        message = f"The token lacks the scope {missing}."
        return self._refused(403, "insufficient_scope", message, ['error="insufficient_scope"'])

    def _refused(self, status: int, code: str, message: str, parts: list[str]) -> Refused:
        scope = [f'scope="{" ".join(self._scopes)}"'] if self._scopes else []
        challenge = ", ".join([*parts, *scope, f'resource_metadata="{self._metadata_url}"'])
        return Refused(status=status, code=code, message=message, headers={"WWW-Authenticate": f"Bearer {challenge}"})


def _refuse_other_token_types(token_type: Any) -> None:
    """Access tokens say `at+jwt` (RFC 9068 2.1), or what any signed token may: `JWT`, or nothing. Others are for other uses."""
    if token_type is not None and str(token_type).lower().removeprefix("application/") not in {"at+jwt", "jwt"}:
        raise jwt.InvalidTokenError


def _refuse_id_token(claims: dict[str, Any]) -> None:
    """Refuse an ID token: it may have the `typ` and `aud` of an access token, but has other claims."""
    sign_in_claims = {"nonce", "at_hash", "c_hash"} & claims.keys()
    is_id_token = str(claims.get("typ", "")).lower() == "id" or str(claims.get("token_use", "")).lower() == "id"
    if sign_in_claims or is_id_token or not claims["sub"]:
        raise jwt.InvalidTokenError


def _scopes(claims: dict[str, Any]) -> set[str]:
    """The scopes of a token: `scope` is a string (RFC 9068); some issuers use `scp`, a list."""
    scopes: set[str] = set()
    for value in (claims.get("scope"), claims.get("scp")):
        listed: list[Any] = value if is_array(value) else str(value or "").split()
        scopes |= {str(scope) for scope in listed}
    return scopes


class IssuerKeys:
    """One issuer's public keys, cached and fetched again when an unknown id comes. Uses the API's limited client, without redirects."""

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None = None,
        *,
        proxies: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`proxies` are the variables HTTPS_PROXY and its like."""
        self._issuer, self._jwks_url, self._proxies = issuer, jwks_url, proxies
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = self._read_at = float("-inf")
        self._fetching = anyio.Lock()

    async def key(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that name; None where the issuer has none.

        Raises:
            InferenceError: no key is known that is fresh, and the issuer cannot be asked.
        """
        if not self._knows(kid):
            async with self._fetching:  # others wait for the fetch of the first
                if not self._knows(kid) and self._clock() - self._fetched_at >= REFETCH_INTERVAL:
                    await self._fetch()
        if self._clock() - self._read_at >= KEYS_TTL:
            raise UpstreamError(message="the issuer's keys are not known")
        return self._keys.get(kid)

    def _knows(self, kid: str | None) -> bool:
        return kid in self._keys and self._clock() - self._read_at < KEYS_TTL

    async def _fetch(self) -> None:
        self._fetched_at = self._clock()
        try:
            with anyio.fail_after(ISSUER_TIMEOUT):
                self._jwks_url = self._jwks_url or await self._discover()
                self._keys = _keys(await _read(self._jwks_url, self._proxies))
            self._read_at = self._clock()
        except (TimeoutError, InferenceError, ValueError):  # ValueError: `jwks_uri` is no address
            if self._clock() - self._read_at >= KEYS_TTL:  # otherwise the cached keys still count
                raise UpstreamError(message="the issuer's keys cannot be read") from None

    async def _discover(self) -> str:
        """The address of the issuer's keys, from its metadata (RFC 8414, or OpenID Connect Discovery)."""
        parts = urlsplit(self._issuer)
        path = parts.path.rstrip("/")
        origin = f"{parts.scheme}://{parts.netloc}"
        urls = (
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}/.well-known/openid-configuration{path}",
            f"{origin}{path}/.well-known/openid-configuration",
        )
        for url in urls:
            try:
                metadata = await _read(url, self._proxies)
            except (CallError, AccountError):  # some answer 403 to a path that they do not have
                continue
            # The metadata must name this issuer. Otherwise another issuer's keys would be trusted.
            jwks_uri = metadata.get("jwks_uri")
            if metadata.get("issuer") == self._issuer and isinstance(jwks_uri, str):
                return jwks_uri
        raise UpstreamError(message="the issuer's metadata has no jwks_uri")


async def _read(url: str, proxies: Mapping[str, str] | None) -> dict[str, Any]:
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    async with aclosing(Transport(f"{parts.scheme}://{parts.netloc}", proxies=proxies)) as transport:
        payload = await transport.call(Operation.READ, "GET", f"{parts.path}{query}", None)
    if not is_object(payload):
        raise UpstreamError(message="the issuer did not answer with a JSON object")
    return payload


def _keys(jwks: dict[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """The usable keys by id. An invalid key does not hide the others."""
    listed = jwks.get("keys")
    keys: dict[str | None, jwt.PyJWK] = {}
    for item in listed[:MAX_KEYS] if is_array(listed) else []:
        if is_object(item) and (key := _key(item)):
            keys[key.key_id] = key
    if len(keys) == 1:  # RFC 7515 4.1.4: with one key, a token need not name it
        keys[None] = next(iter(keys.values()))
    return keys


def _key(jwk: dict[str, Any]) -> jwt.PyJWK | None:
    """A key for checking signatures; None if it is invalid, symmetric or too weak."""
    if not all(isinstance(jwk.get(name), str | None) for name in ("kid", "use", "kty", "alg")):
        return None
    try:
        key = jwt.PyJWK(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
    if key.key_type == "oct" or key.public_key_use not in {None, "sig"}:
        return None
    return None if key.key_type == "RSA" and key.key.key_size < MIN_RSA_BITS else key
