"""A network that lets nobody out but through its proxy, which looks into TLS: the whole server, started as a host starts it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Upstream, Way, connected
from tests.results import error, payload
from tests.tls import Authority, connect_proxy, in_front_of

pytestmark = pytest.mark.anyio
HOST = "api.example.test"
STDIO = Way("stdio", "2026")


@pytest.mark.finding("F23", "F24")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_an_app_runs_through_the_proxy_of_the_environment(
    upstream: Upstream, environ: dict[str, str], tmp_path: Path, variable: str
) -> None:
    authority = Authority(tmp_path)
    plain = urlsplit(upstream.url).port or 0
    async with in_front_of(plain, authority.context(HOST)) as port, connect_proxy() as proxy:
        proxy.known = {f"{HOST}:443": port}
        way = {variable: f"http://127.0.0.1:{proxy.port}", "INFERENCE_BASE_URL": f"https://{HOST}"}
        async with connected(STDIO, environ | way | {"SSL_CERT_FILE": str(authority.file)}) as client:
            run = await client.call_tool("app_run", {"app": "sandbox/echo", "input": {"n": 1}})
        async with connected(STDIO, environ | way) as client:
            distrusted = await client.call_tool("app_run", {"app": "sandbox/echo", "input": {"n": 2}})

    assert "completed" == payload(run)["status"]
    assert {f"{HOST}:443"} == set(proxy.asked)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/apps/run"))
    assert f"The certificate of {HOST} is not trusted: set SSL_CERT_FILE" in error(distrusted)["message"]
    assert "not_started" == error(distrusted)["outcome"]


@pytest.mark.finding("F23")
async def test_an_unusable_proxy_is_an_error_and_starts_nothing(upstream: Upstream, environ: dict[str, str]) -> None:
    way = {"ALL_PROXY": "socks5://127.0.0.1:1080", "INFERENCE_BASE_URL": f"https://{HOST}"}
    async with connected(STDIO, environ | way) as client:
        refused = error(await client.call_tool("app_run", {"app": "sandbox/echo", "input": {}}))

    assert "ALL_PROXY is not the address of an HTTP proxy" in refused["message"]
    assert "not_started" == refused["outcome"]
    assert () == upstream.sandbox.ledger.requests()
