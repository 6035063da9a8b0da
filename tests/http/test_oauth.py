"""The issuer's keys: asked for when they are needed, kept, and found anew when they change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.http.oauth import KEYS_TTL, REFETCH_INTERVAL, IssuerKeys
from tests.conftest import listening
from tests.http_auth_modes import LocalIssuer, issuing
from tests.tls import connect_proxy

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[LocalIssuer]:
    async with issuing() as one:
        yield one


async def test_keys_are_fetched_once(issuer: LocalIssuer) -> None:
    keys = IssuerKeys(issuer.url)
    before = list(issuer.asked)

    found = [await keys.key("first") for _ in range(5)]

    assert all(found)
    assert ([], ["/.well-known/oauth-authorization-server", "/jwks"]) == (before, issuer.asked)


async def test_a_new_key_is_fetched_and_a_withdrawn_key_expires(issuer: LocalIssuer) -> None:
    clock = Clock()
    keys = IssuerKeys(issuer.url, clock=clock)
    assert await keys.key("first")
    issuer.rotate("second")
    clock.now += REFETCH_INTERVAL

    second, first = await keys.key("second"), await keys.key("first")

    assert (True, None) == (second is not None, first)


async def test_unknown_key_ids_cause_no_flood_of_requests(issuer: LocalIssuer) -> None:
    """Anybody can put a name in a token's head: one question in a while is all that comes of it."""
    keys = IssuerKeys(issuer.url, clock=Clock())

    for number in range(50):
        assert await keys.key(f"made up {number}") is None

    assert 1 == issuer.asked.count("/jwks")


async def test_an_unreachable_issuer_does_not_refuse_known_keys(issuer: LocalIssuer) -> None:
    """Its keys count until they are old; then nobody can tell whether they were withdrawn."""
    clock = Clock()
    keys = IssuerKeys(issuer.url, clock=clock)
    assert await keys.key("first")
    issuer.down = True
    clock.now += KEYS_TTL - 1
    assert await keys.key("first")

    clock.now += 2
    with pytest.raises(InferenceError):
        await keys.key("first")


async def test_metadata_of_another_issuer_is_not_trusted(issuer: LocalIssuer) -> None:
    keys = IssuerKeys(f"{issuer.url}/tenant")

    with pytest.raises(InferenceError):
        await keys.key("first")
    assert "/jwks" not in issuer.asked


async def test_a_configured_jwks_url_needs_no_metadata(issuer: LocalIssuer) -> None:
    assert await IssuerKeys("https://issuer.example.com", f"{issuer.url}/jwks").key("first")
    assert ["/jwks"] == issuer.asked


async def test_symmetric_keys_are_ignored(issuer: LocalIssuer) -> None:
    assert await IssuerKeys(issuer.url).key("shared") is None


@pytest.mark.finding("F23")
async def test_the_issuer_is_reached_through_the_proxy_of_the_environment() -> None:
    async with connect_proxy() as proxy:
        keys = IssuerKeys("https://issuer.example.test", proxies={"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"})
        with pytest.raises(InferenceError):  # this proxy knows nobody
            await keys.key("first")

    assert {"issuer.example.test:443"} == set(proxy.asked)


STRANGE = [
    {"kty": "RSA", "kid": ["a", "list"], "n": "AQAB", "e": "AQAB"},
    {"kty": "RSA", "kid": {"an": "object"}, "use": ["sig"], "n": "AQAB", "e": "AQAB"},
    {"kty": ["RSA"]},
    {"kty": "EC", "crv": "P-256", "x": 5, "y": None},
    {"kty": "RSA", "kid": "weak", "n": "", "e": "AQAB"},
    {"alg": {}},
    "a text",
    None,
    [],
]


@pytest.mark.finding("S14")
async def test_an_invalid_key_hides_no_other() -> None:
    weak = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key())) | {"kid": "weak"}
    strong = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key())) | {"kid": "strong"}

    async def jwks(_: Request) -> Response:
        return JSONResponse({"keys": [*STRANGE, weak, strong]})

    async with listening(Starlette(routes=[Route("/jwks", jwks)])) as url:
        keys = IssuerKeys(url, f"{url}/jwks")
        found = {kid: await keys.key(kid) for kid in ("strong", "weak")}

    assert found["strong"] is not None
    assert found["weak"] is None, "a key of 1024 bits can be broken"
