"""One server of each mode for all tests of a module: what a test leaves behind is the ledger, and it reads on from there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from inferencesh_mcp.http import tokens
from inferencesh_sandbox import serving
from tests.http.asking import Face, facing
from tests.http_auth_modes import MODES, TOKEN, LocalIssuer, issuing, trusting
from tests.support.sandbox import Sandbox

OPERATOR = "inf_operator_CANARY_9d2a"
THEIRS = "inf_theirs_CANARY_4b7e"


@pytest.fixture(scope="module")
async def issuer() -> AsyncIterator[LocalIssuer]:
    async with issuing() as one:
        yield one


@pytest.fixture(scope="module")
async def faces(issuer: LocalIssuer) -> AsyncIterator[dict[str, Face]]:
    """A server in each mode. All of them hold the operator's key, whether their mode has use for it or not."""
    sandbox = Sandbox()
    async with serving(sandbox) as url, AsyncExitStack() as stack:
        common = {"INFERENCE_BASE_URL": url, "INFERENCE_API_KEY": OPERATOR, "INFERENCE_WAIT_SECONDS": "20"}
        lasting = issuer.token(exp=int(time.time()) + 3600)
        known = {"INFERENCE_HTTP_AUTH": "tokens", "INFERENCE_HTTP_TOKENS": tokens.line("ada", TOKEN)}
        modes = {
            "caller": ({}, {"authorization": f"Bearer {THEIRS}"}),
            "tokens": (known, {"authorization": f"Bearer {TOKEN}"}),
            "oauth": (trusting(issuer), {"authorization": f"Bearer {lasting}"}),
        }
        yield {
            mode: await stack.enter_async_context(facing(common | environ, sandbox, headers))
            for mode, (environ, headers) in modes.items()
        }


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def face(faces: dict[str, Face], mode: str) -> Face:
    return faces[mode]
