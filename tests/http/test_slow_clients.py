"""Who takes their time, or too many connections, is cut off, and costs nobody else anything (T-23, X-41)."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from inferencesh_sandbox import serving
from tests.conftest import until
from tests.http.asking import ERAS, MODERN, Face, envelope, facing
from tests.http.conftest import THEIRS
from tests.support.sandbox import Sandbox
from tests.system.faults.rows import many

pytestmark = pytest.mark.anyio

HEADER, BODY, MOST = many(4.0, 1.0), many(5.0, 1.5), many(500, 20)  # all are opened before the first is closed
HEAD = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n"
LENGTH = b"content-length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
async def patient() -> AsyncIterator[Face]:
    """A server whose patience is measured in tenths of a second."""
    sandbox = Sandbox()
    environ = {"INFERENCE_HEADER_SECONDS": str(HEADER), "INFERENCE_BODY_SECONDS": str(BODY),
               "INFERENCE_MAX_CONNECTIONS": str(MOST), "INFERENCE_MAX_BODY_BYTES": "20000"}  # fmt: skip
    async with (
        serving(sandbox) as url,
        facing(environ | {"INFERENCE_BASE_URL": url}, sandbox, {"authorization": f"Bearer {THEIRS}"}) as face,
    ):
        yield face


def allowed(face: Face) -> bytes:
    headers, _ = envelope("tools/list", MODERN)
    told = [f"{name}: {value}\r\n" for name, value in (headers | face.headers).items()]
    return HEAD + "".join(told).encode()


async def rest_of(stream: SocketStream) -> bytes:
    """Everything until the other side closes."""
    heard = b""
    try:
        while True:
            heard += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return heard


async def dripped(stream: SocketStream, drops: bytes) -> None:
    """A byte at a time, for as long as somebody takes them."""
    try:
        for drop in drops:
            await stream.send(bytes([drop]))
            await anyio.sleep(0.02)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


@pytest.mark.fault("X-41")
@pytest.mark.parametrize(
    ("begun", "drops", "limit"),
    [(b"", b"", HEADER), (b"GET /heal", b"", HEADER), (HEAD, b"x-slow: " + b"y" * 500, HEADER),
     (HEAD + LENGTH, b"", BODY), (HEAD + LENGTH, b"{" * 500, BODY)],
    ids=["says nothing", "half a line", "drips headers", "no body and no key", "drips a body and no key"],
)  # fmt: skip
async def test_a_slow_request_is_cut_off(patient: Face, begun: bytes, drops: bytes, limit: float) -> None:
    """The time is for all of it: a drop now and then buys none."""
    began = time.monotonic()
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", patient.port) as stream, anyio.create_task_group() as group:
            await stream.send(begun)
            group.start_soon(dripped, stream, drops)
            heard = await rest_of(stream)
            group.cancel_scope.cancel()

    took = time.monotonic() - began
    assert took >= limit * 0.9
    assert heard.startswith(b"HTTP/1.1 401" if begun.endswith(LENGTH) else b"HTTP/1.1 408")


async def test_an_authenticated_caller_has_the_same_time_for_a_body(patient: Face) -> None:
    before = len(patient.asked())
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", patient.port) as stream:
            await stream.send(allowed(patient) + LENGTH + b'{"jsonrpc"')
            heard = await rest_of(stream)

    assert heard.startswith(b"HTTP/1.1 408")
    assert [] == patient.asked()[before:]


async def test_a_connection_may_be_idle_between_two_requests(patient: Face) -> None:
    """Nothing is owed then: hosts keep connections open for the next call."""
    async with await anyio.connect_tcp("127.0.0.1", patient.port) as stream:
        for _ in range(2):
            await stream.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                answer += await stream.receive()
            assert answer.startswith(b"HTTP/1.1 200")
            await anyio.sleep(HEADER + 0.2)


async def test_a_long_answer_is_not_a_slow_request(patient: Face) -> None:
    """The limits are for what is asked, not for what is answered."""
    answer = await patient.call("app_run", app="sandbox/slow", input={"seconds": BODY + 0.4, "steps": 2})

    assert "completed" == answer["status"]


@pytest.mark.fault("X-41")
async def test_hundreds_of_slow_connections_delay_nobody(patient: Face) -> None:
    """From another address than the one that has its fill."""
    stuck: list[SocketStream] = []
    try:
        for _ in range(MOST):
            stuck.append(await anyio.connect_tcp("127.0.0.1", patient.port, local_host="127.0.0.2"))
            await stuck[-1].send(HEAD)
        page = await patient.http.get(f"{patient.url}/healthz")
        with anyio.fail_after(10):
            async with await anyio.connect_tcp("127.0.0.1", patient.port, local_host="127.0.0.2") as one_too_many:
                assert b"" == await rest_of(one_too_many)
            heard = [await rest_of(stream) for stream in stuck]
    finally:
        for stream in stuck:
            await stream.aclose()

    assert 200 == page.status_code
    assert {True} == {one.startswith(b"HTTP/1.1 408") for one in heard}
    async with await anyio.connect_tcp("127.0.0.1", patient.port, local_host="127.0.0.2") as again:
        await again.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await again.receive()).startswith(b"HTTP/1.1 200"), "what was closed is not counted any more"


@pytest.mark.parametrize(("size", "status"), [(20_000, 200), (20_001, 413)])
@pytest.mark.parametrize("told", [True, False], ids=["told", "chunked"])
async def test_a_message_has_a_maximum_length(patient: Face, size: int, status: int, told: bool) -> None:
    headers, message = envelope("tools/list", MODERN)
    body = message + b" " * (size - len(message))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 4096):
            yield body[start : start + 4096]

    response = await patient.http.post(
        f"{patient.url}/mcp", headers=headers | patient.headers, content=body if told else chunks()
    )

    assert status == response.status_code


async def test_headers_have_a_maximum_length(patient: Face) -> None:
    with anyio.fail_after(5):
        async with await anyio.connect_tcp("127.0.0.1", patient.port) as stream:
            await stream.send(HEAD + b"x-long: " + b"y" * 200_000)
            heard = await rest_of(stream)

    assert b"" == heard or heard.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


@pytest.mark.fault("X-29")
@pytest.mark.parametrize(("at", "era"), [("head", MODERN), ("body", MODERN), *(("answer", era) for era in ERAS)])
async def test_a_client_that_disconnects_does_no_harm(
    patient: Face, at: str, era: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A-2: nothing is thrown, what they had begun is cancelled, and the next one is served."""
    ledger = patient.sandbox.ledger
    started, cancelled = len(ledger.starts), len(ledger.cancels)
    headers, message = envelope("tools/call", era, name="app_run", _meta={"progressToken": 1},
                                arguments={"app": "sandbox/slow", "input": {"seconds": 5, "steps": 9}})  # fmt: skip
    told = "".join(f"{name}: {value}\r\n" for name, value in (headers | patient.headers).items()).encode()
    whole = HEAD + told + f"content-length: {len(message)}\r\n\r\n".encode() + message
    for _ in range(8 if at == "answer" else 60):
        stream = await anyio.connect_tcp("127.0.0.1", patient.port)
        await stream.send({"head": HEAD, "body": whole[:-20], "answer": whole}[at])
        if at == "answer":
            await stream.receive()
        ours = stream.extra(SocketAttribute.raw_socket)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        await stream.aclose()

    await until(lambda: len(ledger.starts) - started == len(ledger.cancels) - cancelled == (8 if at == "answer" else 0))
    assert (await patient.call("app_list"))["apps"]
    assert [] == [record.getMessage() for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]
