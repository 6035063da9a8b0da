"""The issuer's public keys: asked for when a token first needs them, kept, and asked for again when they change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import anyio
import jwt

from inferencesh_mcp.api.transport import Call, Transport
from inferencesh_mcp.errors import AccountError, CallError, InferenceError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FRESH = 3600.0  # seconds: a key that the issuer withdrew is believed no longer
PAUSE = 10.0  # seconds between two questions: unknown names, which anybody can make up, cause no more
MOST = 64  # keys of one issuer
SHORTEST_RSA = 2048  # bits (RFC 7518 3.3)
PATIENCE = 10.0  # seconds for an answer: callers wait for it


class Issuer:
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
        self._asked_at = self._read_at = float("-inf")
        self._asking: anyio.Lock | None = None

    async def key(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that name; None where the issuer has none.

        Raises:
            InferenceError: no key is known that is fresh, and the issuer cannot be asked.
        """
        if not self._knows(kid):
            self._asking = self._asking or anyio.Lock()
            async with self._asking:  # whoever waits here finds what the first one brought
                if not self._knows(kid) and self._clock() - self._asked_at >= PAUSE:
                    await self._ask()
        if self._clock() - self._read_at >= FRESH:
            raise UpstreamError(message="the issuer's keys are not known")
        return self._keys.get(kid)

    def _knows(self, kid: str | None) -> bool:
        return kid in self._keys and self._clock() - self._read_at < FRESH

    async def _ask(self) -> None:
        self._asked_at = self._clock()
        try:
            with anyio.fail_after(PATIENCE):
                self._jwks_url = self._jwks_url or await self._found()
                self._keys = _keys(await _read(self._jwks_url, self._proxies))
            self._read_at = self._clock()
        except (TimeoutError, InferenceError, ValueError):  # ValueError: `jwks_uri` is no address
            if self._clock() - self._read_at >= FRESH:  # else what is known still counts
                raise UpstreamError(message="the issuer's keys cannot be read") from None

    async def _found(self) -> str:
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
    for one in cast("list[Any]", listed)[:MOST] if isinstance(listed, list) else []:
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
    return None if key.key_type == "RSA" and key.key.key_size < SHORTEST_RSA else key
