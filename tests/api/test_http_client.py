"""Connections: certificates, and the bytes of a request."""

import asyncio
import shutil
import ssl
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from types import SimpleNamespace
from urllib.parse import urlsplit

import anyio
import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api import http_client
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.http_client import Lost, Pools, Request
from inferencesh_mcp.api.models import RunRequest
from inferencesh_mcp.api.transport import Transport
from tests.api.conftest import BROKEN, KEY, fin, lines, refused, status
from tests.tls import Authority, in_front_of

pytestmark = pytest.mark.anyio


def file_request(url, address):
    return Request(kind="files", method="GET", url=url, headers={}, address=address)


POST = ("POST", "/apps/run")
GET = ("GET", "/tasks/t1")
TASK = {"id": "t1", "status": 1}
RUN = RunRequest(app="infsh/echo", input={})
WRONG = {
    "untrusted": ("the certificate of localhost is not trusted: set SSL_CERT_FILE", {}, ("localhost",), False),
    "expired": ("the certificate of localhost has expired", {"ended": timedelta(days=1)}, ("localhost",), True),
    "another's": ("the certificate of localhost is for another name", {}, ("other.test",), True),
}


@pytest.fixture
def authority(tmp_path, monkeypatch):
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    http_client._trusted.cache_clear()
    yield Authority(tmp_path)
    http_client._trusted.cache_clear()


@pytest.mark.finding("F24")
@pytest.mark.parametrize(("message", "how", "hosts", "trusted"), WRONG.values(), ids=WRONG)
async def test_a_certificate_that_is_not_accepted_is_explained(
    upstream, script, time, authority, monkeypatch, message, how, hosts, trusted
):
    """And nothing was started, since nothing was sent."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with in_front_of(urlsplit(upstream).port, authority.context(*hosts, **how)) as port:
        transport = Transport(f"https://localhost:{port}", sleep=time.sleep, clock=time.clock)
        with pytest.raises(errors.Unavailable) as of_run:
            await Api(transport, KEY).run(RUN)
        with pytest.raises(errors.Unavailable) as of_file:
            async with Api(transport, KEY).download(f"https://localhost:{port}/file"):
                pass
        await transport.aclose()

    assert [message, message] == [of_run.value.message, of_file.value.message]
    assert ("not_started", True) == (of_run.value.outcome, of_run.value.retry_safe)
    assert "network" not in of_run.value.next_step or "certificates" in of_run.value.next_step
    assert [] == script.requests


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (0x800B0101, "is not valid now"), (0x800B010F, "is for another name"), (0x800B0109, "is not trusted: set SSL_CERT_FILE"),
        (-67818, "has expired"), (-67602, "is for another name"), (None, "is not trusted: set SSL_CERT_FILE"),
    ],
)  # fmt: skip
async def test_what_windows_and_macos_say_of_a_certificate_is_explained(
    upstream, script, authority, monkeypatch, code, problem
):
    """They verify it after the handshake, and have codes of their own."""

    class Verified(ssl.SSLObject):
        def do_handshake(self):
            super().do_handshake()
            error = ssl.SSLCertVerificationError("of the system")
            if code is not None:
                error.verify_code = code
            raise error

    context = ssl.create_default_context(cafile=authority.file)
    context.sslobject_class = Verified
    monkeypatch.setattr("httpx2.create_ssl_context", lambda: context)
    async with in_front_of(urlsplit(upstream).port, authority.context("localhost")) as port:
        transport = Transport(f"https://localhost:{port}")
        with pytest.raises(errors.Unavailable) as refused_start:
            await Api(transport, KEY).run(RUN)
        await transport.aclose()

    assert f"the certificate of localhost {problem}" == refused_start.value.message
    assert "not_started" == refused_start.value.outcome
    assert [] == script.requests


@pytest.mark.finding("F24")
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_a_private_authority_is_trusted_by_its_variable(upstream, script, authority, monkeypatch, variable):
    place = authority.file
    if variable == "SSL_CERT_DIR":
        place = authority.directory() if shutil.which("openssl") else pytest.skip("openssl alone names files for it")
    monkeypatch.setenv(variable, str(place))
    script.on("GET", "/tasks/t1", status(200, {"id": "t1", "status": 1}))

    async with in_front_of(urlsplit(upstream).port, authority.context("localhost")) as port:
        transport = Transport(f"https://localhost:{port}")
        assert "t1" == (await Api(transport, KEY).task("t1")).id
        await transport.aclose()


@pytest.mark.finding("F24")
@pytest.mark.parametrize(("shown", "accepted"), [("files.example.test", True), ("other.example.test", False)])
async def test_a_checked_address_must_have_the_certificate_of_the_name(
    upstream, script, authority, monkeypatch, shown, accepted
):
    """The connection is to the address; the name is what the server is asked for, and what its certificate is held to."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context, server_names = authority.context(shown), []
    context.sni_callback = lambda _, name, __: server_names.append(name)
    script.on("GET", "/x", status(200, b"bytes"))
    loop = type(asyncio.get_running_loop())
    connect = loop.sock_connect

    async with in_front_of(urlsplit(upstream).port, context) as port:
        monkeypatch.setattr(
            loop,
            "sock_connect",
            lambda self, sock, to: connect(self, sock, ("127.0.0.1", port) if to[0] == "93.184.216.34" else to),
        )
        pools = Pools()
        url = "https://files.example.test/x"
        opening = pools.open(file_request(url, "93.184.216.34"))
        if accepted:
            response = await opening
            assert [b"bytes"] == [chunk async for chunk in response.chunks()]
        else:
            with pytest.raises(Lost) as caught:
                await opening
            assert "the certificate of files.example.test is for another name" == caught.value.reason
        await pools.aclose()

    assert ["files.example.test"] == server_names
    assert ["files.example.test"] * accepted == [request.headers["host"] for request in script.requests]


@pytest.mark.parametrize(
    ("host", "name"), [("files.example", "files.example"), ("[2606:4700::1]", "[2606:4700::1]"), ("bücher.example", "xn--bcher-kva.example")]
)  # fmt: skip
async def test_the_host_header_is_the_signed_name(script, upstream, monkeypatch, host, name):
    """Without the port that goes without saying (RFC 9110 7.2), whatever address is connected to."""
    loop, port = type(asyncio.get_running_loop()), int(upstream.rsplit(":", 1)[1])
    connect = loop.sock_connect
    monkeypatch.setattr(loop, "sock_connect", lambda self, sock, _: connect(self, sock, ("127.0.0.1", port)))
    script.on("GET", "/x", status(200))
    pools = Pools()

    response = await pools.open(file_request(f"http://{host}/x", "93.184.216.34"))
    await response.aclose()
    await pools.aclose()

    assert name == script.requests[0].headers["host"]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a/../b%2f%7e/~?x=[1]&y='+%20*&z={}|", "/a/../b%2f%7e/~?x=[1]&y='+%20*&z={}|"),
        ("/a?#part", "/a?"), ("?x=1", "/?x=1"), ("", "/"), ("/bücher?q=é", "/b%C3%BCcher?q=%C3%A9"),
    ],
)  # fmt: skip
async def test_a_signed_address_is_sent_unchanged(upstream, script, written, sent):
    """A signature may be of every byte; what cannot stand in a request is encoded."""
    script.on("GET", sent, status(200))
    pools = Pools()

    response = await pools.open(file_request(f"{upstream}{written}", "127.0.0.1"))
    await response.aclose()
    await pools.aclose()

    assert [sent] == [request.path for request in script.requests]


async def test_cookies_are_not_kept(api, script):
    """They could mix callers up."""
    script.on(*GET, status(200, TASK, [("set-cookie", "a=b; path=/")]))

    await api.task("t1")
    await api.task("t1")

    assert "cookie" not in script.requests[1].headers


@pytest.mark.parametrize(("end", "connections"), [("eof", 1), ("hang", 2), ("fin", 2)])
async def test_a_stream_that_was_read_to_its_end_leaves_its_connection_for_reuse(transport, script, end, connections):
    """Each new one would cost a run the handshake; one whose end does not come at once is not waited for."""
    script.on("GET", "/tasks/t/stream", lines({"id": "t", "status": "completed"}, end=end))

    for _ in range(2):
        async with transport.stream("/tasks/t/stream", None) as chunks:
            await anext(chunks)

    assert connections == script.connections


@pytest.mark.parametrize(("pause", "connections"), [(60, 1), (120, 2)])
async def test_a_connection_is_kept_for_a_persons_pause(api, script, monkeypatch, pause, connections):
    """A minute; the clock of the library's own idle time is turned."""
    script.on(*GET, status(200, TASK))

    await api.task("t1")
    now = monotonic() + pause
    monkeypatch.setattr("httpcore2._async.http11.time", SimpleNamespace(monotonic=lambda: now))
    await api.task("t1")

    assert connections == script.connections


async def test_an_answer_to_an_agent_has_a_connection_of_its_own(api, script):
    """It is never sent again: on a connection that the other end has given up it would be lost."""
    script.on(*GET, status(200, TASK))
    script.on("POST", "/tools/i1/reject", status(200, {}))

    await api.task("t1")
    await api.chats.reject("i1", "no")

    assert 2 == script.connections
    assert "close" == script.requests[1].headers["connection"]


async def test_a_run_is_not_sent_on_a_streams_connection(api, transport, script):
    """The other end may have given that one up meanwhile, after an hour of it: nobody could tell what became of the run."""

    async def given_up(stream):
        await lines({"id": "t", "status": "completed"}, end="eof")(stream)
        await stream.receive()

    script.on(*POST, status(200, TASK))
    script.on("GET", "/tasks/t/stream", given_up)

    await api.run(RUN)
    async with transport.stream("/tasks/t/stream", None) as chunks:
        await anext(chunks)

    assert "t1" == (await api.run(RUN)).id


async def test_an_answer_in_broken_chunks_is_an_error(api, script):
    """Told at once, and not when the call's time is over."""
    script.on("POST", "/apps/run", fin(BROKEN))

    with anyio.fail_after(5):
        await refused(api.run(RUN), errors.OutcomeUnknown)
    assert 1 == script.count("POST", "/apps/run")


async def test_an_answer_with_a_long_header_is_read(api, script):
    """A run that began is not lost for it."""
    script.on("POST", "/apps/run", status(200, {"id": "t1", "status": 1}, [("content-security-policy", "x" * 40_000)]))

    assert "t1" == (await api.run(RUN)).id


async def test_a_run_whose_answer_has_too_long_a_header_is_not_sent_again(api, script):
    """The library reads 100 KiB of a head. What it cannot read may have been the answer to a run that began."""
    task = status(200, {"id": "t1", "status": 1}, [("content-security-policy", "x" * 1_000_000)])
    script.on("POST", "/apps/run", task)

    await refused(api.run(RUN), errors.OutcomeUnknown)
    assert 1 == script.count("POST", "/apps/run")


async def test_bytes_from_before_a_run_was_sent_are_not_its_answer(api, script):
    """A proxy that is tired of waiting says 408 on an idle connection: read as the answer, the run would be sent again."""

    idle, sent = anyio.Event(), anyio.Event()

    async def tired(stream):
        await status(200, {"id": f"t{len(script.requests)}", "status": 1})(stream)
        await idle.wait()
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await status(408)(stream)
        sent.set()
        return True

    script.on("POST", "/apps/run", tired)

    first = await api.run(RUN)
    idle.set()
    await sent.wait()
    await anyio.wait_all_tasks_blocked()
    assert ("t1", "t2") == (first.id, (await api.run(RUN)).id)
