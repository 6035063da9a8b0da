"""By which names and from which pages the server is reached: exactly those, on every route (T-7, A-3, A-15)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from inferencesh_sandbox import serving
from tests.http.asking import Face, facing
from tests.http.conftest import THEIRS
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio

PATHS = ("/mcp", "/healthz", "/readyz", "/metrics", "/nothing")
PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
async def named() -> AsyncIterator[Face]:
    """A server that is known by two names, and to one page."""
    sandbox = Sandbox()
    environ = {"INFERENCE_ALLOWED_HOSTS": "mcp.example.com,gate.example.com:8443,[2001:db8::1]",
               "INFERENCE_ALLOWED_ORIGINS": f"{PAGE},vscode-webview://abc"}  # fmt: skip
    async with (
        serving(sandbox) as url,
        facing(environ | {"INFERENCE_BASE_URL": url}, sandbox, {"authorization": f"Bearer {THEIRS}"}) as face,
    ):
        yield face


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "mcp.example.com.evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
     "127.0.0.1:evil", "127.0.0.1:8000@evil.example", "evil@127.0.0.1", "mcp.example.com/x?y#z", "127.0.0.1/mcp?",
     "gate.example.com", "gate.example.com:443", "0.0.0.0", "128.0.0.1", "[::2]", "[::1", "localhost:", "", "*", "null",
     "mcp.example.com, evil.example"],
)  # fmt: skip
async def test_any_other_host_name_is_refused(named: Face, host: str, path: str) -> None:
    before = len(named.asked())

    response = await named.http.get(f"{named.url}{path}", headers={**named.headers, "host": host})

    assert response.status_code in ({421} if host else {400, 421})
    assert [] == named.asked()[before:]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "127.0.0.1:9", "LOCALHOST", "localhost:1234", "[::1]", "[::1]:80", "mcp.example.com",
             "MCP.Example.Com:443", "gate.example.com:8443", "[2001:db8::1]:8000"]
)  # fmt: skip
async def test_its_own_host_names_are_accepted(named: Face, host: str) -> None:
    page = await named.http.get(f"{named.url}/healthz", headers={"host": host})
    asked = await named.ask(headers={**named.headers, "host": host})

    assert (200, 200) == (page.status_code, asked.status_code)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://app.example.com", f"{PAGE}:8443", f"{PAGE}.evil.example", f"{PAGE}/",
     "https://APP.example.com", "file://", "https://localhost", "http://localhost.evil.example", "http://localhost:6274/", "http://128.0.0.1", f"{PAGE}, https://evil.example", "*"],
)  # fmt: skip
async def test_another_origin_is_refused(named: Face, origin: str, path: str) -> None:
    """Not even what it may not do: a preflight is refused as the request itself would be."""
    before = len(named.asked())
    sent = {**named.headers, "origin": origin}

    asked = await named.http.post(f"{named.url}{path}", headers=sent)
    preflight = await named.http.options(f"{named.url}{path}", headers=sent | {"access-control-request-method": "POST"})

    assert (403, 403) == (asked.status_code, preflight.status_code)
    assert "access-control-allow-origin" not in asked.headers | preflight.headers
    assert [] == named.asked()[before:]


@pytest.mark.parametrize("page", [PAGE, "vscode-webview://abc"])
async def test_an_allowed_origin_can_call_tools(named: Face, page: str) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,mcp-protocol-version,mcp-method,mcp-name"}  # fmt: skip

    preflight = await named.http.options(f"{named.url}/mcp", headers={"origin": page} | wanted)
    asked = await named.ask(more={"origin": page})
    refused = await named.ask(headers={}, more={"origin": page})

    assert (200, 200, 401) == (preflight.status_code, asked.status_code, refused.status_code)
    assert {page} == {one.headers["access-control-allow-origin"] for one in (preflight, asked, refused)}
    assert "origin" in asked.headers["vary"].lower()
    assert "access-control-allow-credentials" not in preflight.headers | asked.headers
    assert "www-authenticate" in refused.headers["access-control-expose-headers"].lower()


async def test_no_origin_is_allowed_by_default(faces: dict[str, Face], mode: str) -> None:
    response = await faces[mode].ask(more={"origin": PAGE})

    assert 403 == response.status_code


async def test_a_loopback_origin_may_use_a_loopback_host_only(named: Face) -> None:
    """As the protocol's own suite requires; by a name that others use too, it is a page like any other."""
    home = await named.ask(more={"origin": "http://localhost:6274"})
    away = await named.ask(
        headers={**named.headers, "host": "mcp.example.com"}, more={"origin": "http://localhost:6274"}
    )

    assert (200, 403) == (home.status_code, away.status_code)
    assert "INFERENCE_ALLOWED_ORIGINS" in away.json()["error"]["message"]


@pytest.mark.finding("F21")
async def test_the_inspectors_page_works_in_a_browser(named: Face) -> None:
    """What a browser asks before a request with the headers of MCP, and what it then lets the page read."""
    page = {"origin": "http://localhost:6274"}
    names = "authorization,content-type,mcp-method,mcp-name,mcp-param-app,mcp-protocol-version,mcp-session-id"
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": names}

    preflight = await named.http.options(f"{named.url}/mcp", headers=page | wanted)
    asked = await named.ask(more=page)
    refused = await named.ask(headers={}, more=page)
    elsewhere = await named.http.options(
        f"{named.url}/mcp", headers={"origin": "http://localhost.evil.example"} | wanted
    )

    assert (200, 200, 401, 403) == tuple(one.status_code for one in (preflight, asked, refused, elsewhere))
    assert {page["origin"]} == {one.headers["access-control-allow-origin"] for one in (preflight, asked, refused)}
    assert set(names.split(",")) <= set(preflight.headers["access-control-allow-headers"].split(","))
    assert "mcp-session-id" in asked.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in elsewhere.headers
