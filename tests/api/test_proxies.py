"""The way through a proxy that the environment names, for calls and for files."""

import logging
from urllib.parse import urlsplit

import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api import http_client
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.models import File, RunRequest
from inferencesh_mcp.api.proxies import Proxies
from inferencesh_mcp.api.transport import Transport
from tests.api.conftest import KEY, fin, lines, status
from tests.tls import Authority, connect_proxy, in_front_of

pytestmark = [pytest.mark.anyio, pytest.mark.finding("F23")]

API, FILES = "api.example.test", "files.example.test"
RUN = RunRequest(app="infsh/echo", input={})
TASK = {"id": "t1", "status": 1}


@pytest.fixture
async def proxy(upstream, tmp_path, monkeypatch):
    """A proxy that alone knows the API and a place for files, which are both the scripted server."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    http_client._trusted.cache_clear()
    async with in_front_of(urlsplit(upstream).port, authority.context(API, FILES)) as port, connect_proxy() as proxy:
        proxy.known = {f"{API}:443": port, f"{FILES}:443": port}
        yield proxy
    http_client._trusted.cache_clear()


@pytest.fixture
async def through(proxy, time):
    """Make a transport with these variables; `PROXY` in them stands for the proxy's address."""
    made = []

    def make(**variables):
        there = {name: value.replace("PROXY", f"127.0.0.1:{proxy.port}") for name, value in variables.items()}
        made.append(Transport(f"https://{API}", proxies=there, sleep=time.sleep, clock=time.clock))
        return made[-1]

    yield make
    for transport in made:
        await transport.aclose()


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTPS_PROXY": "http://PROXY"},
        {"HTTPS_PROXY": "PROXY"},
        {"ALL_PROXY": "http://PROXY"},
        {"HTTPS_PROXY": "http://PROXY", "ALL_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"},
    ],
)
async def test_calls_streams_and_files_go_through_the_proxy(through, proxy, script, variables):
    transport = through(**variables)
    api = Api(transport, KEY)
    script.on("POST", "/apps/run", status(200, TASK))
    script.on("GET", "/tasks/t1/stream", lines(TASK, end="eof"))
    script.on("PUT", "/up", status(200))
    script.on("GET", "/down", status(200, b"bytes"))

    assert "t1" == (await api.run(RUN)).id
    async with transport.stream("/tasks/t1/stream", None) as chunks:
        assert [chunk async for chunk in chunks]
    await api.put_file(File(upload_url=f"https://{FILES}/up"), content, 5)
    async with api.download(f"https://{FILES}/down") as download:
        assert b"bytes" == b"".join([chunk async for chunk in download.chunks])

    assert [f"{API}:443"] * 2 + [f"{FILES}:443"] * 2 == proxy.asked
    assert [API, API, FILES, FILES] == [request.headers["host"] for request in script.requests]


async def content():
    yield b"bytes"


async def test_the_proxys_password_goes_only_to_the_proxy_and_is_never_shown(through, proxy, script, caplog):
    caplog.set_level(logging.DEBUG)
    transport = through(HTTPS_PROXY="http://me:s3cret-CANARY@PROXY")
    script.on("GET", "/tasks/t1", status(200, TASK))
    await Api(transport, KEY).task("t1")
    proxy.answer = "407 Proxy Authentication Required"
    with pytest.raises(errors.Unavailable) as caught:
        await Api(transport, KEY).run(RUN)

    assert "proxy-authorization: basic" in proxy.heads[0].lower()
    assert not {"proxy-authorization"} & script.requests[0].headers.keys()
    error = caught.value
    assert "CANARY" not in "".join([caplog.text, repr(transport), repr(error), str(error), repr(error.__cause__)])
    assert f"the proxy 127.0.0.1:{proxy.port} refused to connect to {API}: 407" == error.message
    assert "HTTPS_PROXY" in error.next_step


async def test_a_run_that_the_proxy_refused_was_not_started(through, proxy, script):
    """It says so before a byte of the request is sent, so a run is asked for again."""
    proxy.answer = "403 Forbidden"

    with pytest.raises(errors.Unavailable) as caught:
        await Api(through(HTTPS_PROXY="http://PROXY"), KEY).run(RUN)

    assert ("not_started", True) == (caught.value.outcome, caught.value.retry_safe)
    assert (3, []) == (len(proxy.asked), script.requests)


async def test_a_run_whose_answer_a_proxy_loses_is_not_sent_again(through, proxy, script):
    script.on("POST", "/apps/run", fin())

    with pytest.raises(errors.OutcomeUnknown):
        await Api(through(HTTPS_PROXY="http://PROXY"), KEY).run(RUN)

    assert 1 == script.count("POST", "/apps/run")


async def test_a_proxy_that_cannot_be_reached_is_named(through, free_port):
    with pytest.raises(errors.Unavailable) as caught:
        await Api(through(HTTPS_PROXY=f"http://127.0.0.1:{free_port}"), KEY).task("t1")

    assert f"{API} could not be reached through the proxy 127.0.0.1:{free_port}" == caught.value.message
    assert "HTTPS_PROXY" in caught.value.next_step


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "ftp://proxy", "http://", "http://proxy:x"])
async def test_an_unsupported_proxy_is_an_error_and_is_not_bypassed(through, proxy, script, value):
    with pytest.raises(errors.SettingsError, match="ALL_PROXY is not the address of an HTTP proxy"):
        await Api(through(ALL_PROXY=value), KEY).run(RUN)

    assert ([], []) == (proxy.asked, script.requests)


async def test_this_machine_is_never_reached_through_a_proxy(upstream, proxy, script, time):
    everything = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), f"http://127.0.0.1:{proxy.port}")
    transport = Transport(upstream, proxies=everything, sleep=time.sleep, clock=time.clock)
    script.on("GET", "/tasks/t1", status(200, TASK))
    script.on("GET", "/down", status(200, b"bytes"))

    await Api(transport, KEY).task("t1")
    async with Api(transport, KEY).download(f"{upstream}/down") as download:
        assert [b"bytes"] == [chunk async for chunk in download.chunks]
    await transport.aclose()

    assert [] == proxy.asked


INSIDE = [
    "localhost", "localhost.", "a.localhost", "intranet", "printer.local", "metadata.google.internal", "router.home.arpa",
    "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0", "127。0。0。1", "①②⑦.⓪.⓪.①", "10.0.0.1", "169.254.169.254", "192.168.1.1",
    "[::1]", "[::ffff:10.0.0.1]", "[fd00::1]", "[64:ff9b::a00:1]",
]  # fmt: skip


@pytest.mark.finding("F23")
@pytest.mark.parametrize("host", INSIDE)
async def test_a_file_in_an_inner_network_is_refused_with_a_proxy_too(through, proxy, host):
    """The proxy looks names up, so the rule is of names: no private address in any form, no name of an inner network."""
    with pytest.raises(errors.FileRefused, match=r"is not a public address|was not found"):
        async with Api(through(HTTPS_PROXY="http://PROXY"), KEY).download(f"https://{host}/x"):
            pass

    assert [] == proxy.asked


@pytest.mark.parametrize(
    ("exceptions", "exempt"),
    [
        ("api.example.test", True), ("example.test", True), (".example.test", True), ("*.example.test", True), ("*", True),
        ("a.test, EXAMPLE.TEST ,b.test", True), ("api.example.test:443", True), ("api.example.test:80", False),
        ("ample.test", False), ("api.example", False), ("", False), (",", False), ("10.0.0.0/8", False),
    ],
)  # fmt: skip
def test_no_proxy_covers_hosts_and_their_subdomains(exceptions, exempt):
    """As curl, Go and httpx2 read it."""
    proxies = Proxies({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": exceptions})

    assert exempt == (proxies.for_url(f"https://{API}/tasks") is None)


def test_no_proxy_covers_addresses_and_networks():
    proxies = Proxies({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "93.184.216.34,203.0.113.0/24,[2606:4700::1]"})

    direct = [
        proxies.for_url(f"https://{host}/") is None for host in ("93.184.216.34", "203.0.113.9", "[2606:4700::1]")
    ]
    assert [True] * 3 == direct
    assert proxies.for_url("https://93.184.216.35/") is not None


def test_http_addresses_have_their_own_proxy():
    proxies = Proxies({"HTTPS_PROXY": "http://secure:1", "HTTP_PROXY": "http://plain:2"})

    chosen = [proxies.for_url(f"{scheme}://{API}/") for scheme in ("https", "http")]
    assert ["secure:1", "plain:2"] == [proxy.address for proxy in chosen if proxy]
