"""OAuth 2.1, as a resource server: tokens that an issuer made for exactly this server (RFC 9068, RFC 8707, RFC 9728).

They end here: inference.sh is called with the operator's key and never sees one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

import anyio
import jwt
from mcp.server.auth.routes import build_resource_metadata_url
from pydantic import AnyHttpUrl
from starlette.responses import JSONResponse

from inferencesh_mcp.api.transport import Call, Transport
from inferencesh_mcp.context import Visitor
from inferencesh_mcp.errors import AccountError, CallError, InferenceError, SettingsError, UpstreamError
from inferencesh_mcp.http.auth import operators_bearer
from inferencesh_mcp.http.middleware import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.datastructures import Headers

    from inferencesh_mcp.http.middleware import Page
    from inferencesh_mcp.settings import Settings

# Signed with a key that only the issuer has. Never HS*, which whoever can check could sign too, and never none.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY = 30  # seconds that the issuer's clock may be off
LONGEST_TOKEN = 16 * 1024  # characters of a token


KEYS_TTL = 3600.0  # seconds: a key that the issuer withdrew is believed no longer
REFETCH_INTERVAL = 10.0  # seconds between two questions: unknown names, which anybody can make up, cause no more
MOST_KEYS = 64  # keys of one issuer
MIN_RSA_BITS = 2048  # bits (RFC 7518 3.3)
ISSUER_TIMEOUT = 10.0  # seconds for an answer: callers wait for it


@dataclass(frozen=True, kw_only=True)
class Protection:
    """What this server says of itself to hosts that look for the way in (RFC 9728)."""

    issuer: str
    resource: str
    scopes: tuple[str, ...]

    @property
    def metadata_url(self) -> str:
        return str(build_resource_metadata_url(AnyHttpUrl(self.resource)))


class Keys(Protocol):
    """Where the issuer's public keys come from."""

    async def key(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that name; None where the issuer has none. InferenceError when it cannot be asked."""
        ...


class OAuthTokens:
    """Whoever the issuer vouches for, to this server and with the scopes that it asks for."""

    vouches = True

    def __init__(self, protection: Protection, keys: Keys, key: str | None) -> None:
        self.protection = protection
        self._keys, self._key = keys, key

    @classmethod
    def of(cls, settings: Settings, key: str | None) -> OAuthTokens:
        if not settings.oauth_issuer or not settings.oauth_resource:
            raise SettingsError(
                message="INFERENCE_OAUTH_ISSUER and INFERENCE_OAUTH_RESOURCE must be set with INFERENCE_HTTP_AUTH=oauth."
            )
        protection = Protection(
            issuer=settings.oauth_issuer, resource=settings.oauth_resource, scopes=settings.oauth_scopes
        )
        keys = IssuerKeys(settings.oauth_issuer, settings.oauth_jwks_url, proxies=settings.proxies)
        return cls(protection, keys, key)

    @property
    def instead_of_signing_in(self) -> str:
        return f"Sign in at {self.protection.issuer}. Your host finds it through {self.protection.metadata_url}."

    async def admit(self, headers: Headers) -> Visitor:
        try:
            token = operators_bearer(headers)
        except Refused as refused:
            raise self._unknown(refused.code, refused.message) from None
        claims = await self._verified(token)
        if missing := [scope for scope in self.protection.scopes if scope not in _scopes(claims)]:
            raise self._insufficient(missing[0])
        return Visitor(name=f"oauth:{claims['iss']}:{claims['sub']}", key=self._key)

    def pages(self) -> dict[str, Page]:
        protection = self.protection
        scopes = {"scopes_supported": list(protection.scopes)} if protection.scopes else {}  # RFC 9728 3.2: never empty
        told = {
            "resource": protection.resource,
            "authorization_servers": [protection.issuer],
            **scopes,
            "bearer_methods_supported": ["header"],
            "resource_name": "inference.sh",
        }
        return {urlsplit(protection.metadata_url).path: lambda _: JSONResponse(told)}

    async def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token that is the issuer's, for this server, and not over."""
        try:
            if len(token) > LONGEST_TOKEN:
                raise jwt.InvalidTokenError
            head = jwt.get_unverified_header(token)
            kid = head.get("kid")
            key = await self._keys.key(kid if isinstance(kid, str) else None)
            if key is None or head.get("alg") not in ALGORITHMS:
                raise jwt.InvalidKeyError
            _refuse_other_kinds(head.get("typ"))
            claims = jwt.decode(
                    token, key, algorithms=[head["alg"]], issuer=self.protection.issuer,
                    audience=self.protection.resource, leeway=LEEWAY,
                    options={"require": ["exp", "iss", "aud", "sub"], "strict_aud": False},
            )  # fmt: skip
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
        # RFC 6750 3.1: a request without a token is told no error, only the way.
        error = [] if code == "token_missing" else ['error="invalid_token"', f'error_description="{message}"']
        return self._refused(401, code, message, error)

    def _insufficient(self, missing: str) -> Refused:
        message = f"The token lacks the scope {missing}."
        return self._refused(403, "insufficient_scope", message, ['error="insufficient_scope"'])

    def _refused(self, status: int, code: str, message: str, parts: list[str]) -> Refused:
        scope = [f'scope="{" ".join(self.protection.scopes)}"'] if self.protection.scopes else []
        told = ", ".join([*parts, *scope, f'resource_metadata="{self.protection.metadata_url}"'])
        return Refused(status=status, code=code, message=message, headers={"WWW-Authenticate": f"Bearer {told}"})


def _refuse_other_kinds(kind: Any) -> None:
    """Access tokens say `at+jwt` (RFC 9068 2.1), or what any signed token may: `JWT`, or nothing. Others are for other uses."""
    if kind is not None and str(kind).lower().removeprefix("application/") not in {"at+jwt", "jwt"}:
        raise jwt.InvalidTokenError


def _refuse_id_token(claims: dict[str, Any]) -> None:
    """An ID token says who signed in, and opens nothing. It can have the same `typ` and `aud`, but not the same claims."""
    of_sign_in = {"nonce", "at_hash", "c_hash"} & claims.keys()
    named = str(claims.get("typ", "")).lower() == "id" or str(claims.get("token_use", "")).lower() == "id"
    if of_sign_in or named or not claims["sub"]:
        raise jwt.InvalidTokenError


def _scopes(claims: dict[str, Any]) -> set[str]:
    """What a token allows: `scope` is RFC 9068's, a text; some issuers have `scp`, a list."""
    found: set[str] = set()
    for value in (claims.get("scope"), claims.get("scp")):
        listed = cast("list[Any]", value) if isinstance(value, list) else str(value or "").split()
        found |= {str(one) for one in listed}
    return found


class IssuerKeys:
    """One issuer's keys, by name. It is asked through the same guarded client as the API: capped, in time, no redirects."""

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
        self._fetching: anyio.Lock | None = None

    async def key(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that name; None where the issuer has none.

        Raises:
            InferenceError: no key is known that is fresh, and the issuer cannot be asked.
        """
        if not self._knows(kid):
            self._fetching = self._fetching or anyio.Lock()
            async with self._fetching:  # whoever waits here finds what the first one brought
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
            if self._clock() - self._read_at >= KEYS_TTL:  # else what is known still counts
                raise UpstreamError(message="the issuer's keys cannot be read") from None

    async def _discover(self) -> str:
        """Where the issuer says that its keys are (RFC 8414, or OpenID Connect Discovery)."""
        parts = urlsplit(self._issuer)
        path = parts.path.rstrip("/")
        origin = f"{parts.scheme}://{parts.netloc}"
        places = (
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}/.well-known/openid-configuration{path}",
            f"{origin}{path}/.well-known/openid-configuration",
        )
        for place in places:
            try:
                told = await _read(place, self._proxies)
            except (CallError, AccountError):  # some refuse what they do not have
                continue
            # What is written there must be about this issuer, or another one's keys would be believed.
            if told.get("issuer") == self._issuer and isinstance(told.get("jwks_uri"), str):
                return cast("str", told["jwks_uri"])
        raise UpstreamError(message="the issuer does not say where its keys are")


async def _read(url: str, proxies: Mapping[str, str] | None) -> dict[str, Any]:
    parts = urlsplit(url)
    transport = Transport(f"{parts.scheme}://{parts.netloc}", proxies=proxies)
    try:
        query = f"?{parts.query}" if parts.query else ""
        found = (await transport.call(Call(method="GET", path=f"{parts.path}{query}"), None)).value
    finally:
        await transport.aclose()
    if not isinstance(found, dict):
        raise UpstreamError(message="the issuer answered with something else than an object")
    return cast("dict[str, Any]", found)


def _keys(told: dict[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """The keys that can check a signature; one that is strange does not hide the others."""
    listed = told.get("keys")
    found: dict[str | None, jwt.PyJWK] = {}
    for one in cast("list[Any]", listed)[:MOST_KEYS] if isinstance(listed, list) else []:
        if isinstance(one, dict) and (key := _key(cast("dict[str, Any]", one))):
            found[key.key_id] = key
    if len(found) == 1:  # RFC 7515 4.1.4: with one key a token need not say which
        found[None] = next(iter(found.values()))
    return found


def _key(told: dict[str, Any]) -> jwt.PyJWK | None:
    """A key that a signature may be checked with; None for what is none, or too weak."""
    if not all(isinstance(told.get(name), str | None) for name in ("kid", "use", "kty", "alg")):
        return None
    try:
        key = jwt.PyJWK(told)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
    if key.key_type == "oct" or key.public_key_use not in {None, "sig"}:
        return None
    return None if key.key_type == "RSA" and key.key.key_size < MIN_RSA_BITS else key
