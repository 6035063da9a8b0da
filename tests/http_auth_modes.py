"""The three modes of the HTTP face, each with somebody who is let in: their key, a token of the gateway's, an issuer's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inferencesh_mcp.http import tokens
from tests.conftest import listening

MODES = ("caller", "tokens", "oauth")
CHOSEN = os.environ.get("TEST_HTTP_AUTH", "caller")
"""The mode that every test's `http` way is run in: `TEST_HTTP_AUTH=oauth pytest -k http`."""

RESOURCE = "https://mcp.example.com/mcp"
SCOPE = "inference"
TOKEN = tokens.mint()


class LocalIssuer:
    """An authorization server, as far as one who checks its tokens can tell."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, EllipticCurvePrivateKey] = {}
        self.asked: list[str] = []
        self.down = False
        self.rotate("first")

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on; the old one is withdrawn."""
        self.keys, self.kid = {kid: generate_private_key(SECP256R1())}, kid

    def token(self, *, lacks: str = "", headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for this server, but for what is said otherwise."""
        now = int(time.time())
        values = {
            "iss": self.url,
            "sub": "ada",
            "aud": RESOURCE,
            "exp": now + 60,
            "iat": now,
            "scope": f"openid {SCOPE}",
        }
        values = {name: value for name, value in (values | claims).items() if name != lacks}
        return jwt.encode(values, self.keys[self.kid], "ES256", headers={"kid": self.kid, **(headers or {})})

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/jwks", self._jwks),
            ]
        )

    async def _metadata(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        metadata = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        return Response(status_code=503) if self.down else JSONResponse(metadata)

    async def _jwks(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        keys = [
            {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        strange = [{"kty": "none of ours"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]
        return Response(status_code=503) if self.down else JSONResponse({"keys": [*strange, *keys]})


@asynccontextmanager
async def issuing() -> AsyncIterator[LocalIssuer]:
    issuer = LocalIssuer()
    async with listening(issuer.app) as url:
        issuer.url = url
        yield issuer


@asynccontextmanager
async def let_in(mode: str, environ: dict[str, str]) -> AsyncIterator[tuple[dict[str, str], dict[str, str]]]:
    """What a server in this mode is started with, and the headers of somebody who may use it."""
    if mode == "caller":
        key = environ.get("INFERENCE_API_KEY", "")
        theirs = {"Authorization": f"Bearer {key}"} if key else {}
        yield {name: value for name, value in environ.items() if name != "INFERENCE_API_KEY"}, theirs
    elif mode == "tokens":
        known = {"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_HTTP_TOKENS": tokens.line("ada", TOKEN)}
        yield environ | known, {"Authorization": f"Bearer {TOKEN}"}
    else:
        async with issuing() as issuer:
            yield environ | trusting(issuer), {"Authorization": f"Bearer {issuer.token(exp=int(time.time()) + 3600)}"}


def trusting(issuer: LocalIssuer) -> dict[str, str]:
    return {
        "INFERENCE_HTTP_AUTH": "oauth",
        "INFERENCE_OAUTH_ISSUER": issuer.url,
        "INFERENCE_OAUTH_RESOURCE": RESOURCE,
        "INFERENCE_OAUTH_SCOPES": SCOPE,
    }
