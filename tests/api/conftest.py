"""A scripted server on a loopback port: raw sockets, so that it can break off, drip and lie as a real network does."""

import contextlib
import json
import re
import socket
import struct
from dataclasses import dataclass, field

import anyio
import pytest

from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.transport import Transport

KEY = "inf_CANARY_5ecret"


@dataclass
class Received:
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now: float = 1000.0
    slept: list = field(default_factory=list)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    def clock(self):
        return self.now


def status(code, body=b"", headers=(), *, length=True):
    """A plain answer; `body` is bytes, or a value sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {code} X", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"content-length: {len(raw)}"] if length else ["connection: close"]

    async def play(stream):
        await stream.send("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        return length

    return play


def problem(code, detail="no", headers=(), **more):
    body = {"type": f"https://api.inference.sh/errors/e{code}", "title": "T", "status": code, "detail": detail, **more}
    return status(code, body, [("content-type", "application/problem+json"), *headers])


def rst(after=b""):
    """Some bytes, or none, and then a reset."""

    async def play(stream):
        if after:
            await stream.send(after)
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return play


def fin(after=b""):
    """Some bytes, or none, and then a clean end."""

    async def play(stream):
        if after:
            await stream.send(after)
        return False

    return play


def lines(*records, end="fin", slice_of=None, gate=None):
    """A chunked NDJSON stream; `end` is eof (whole), fin (cut), rst or hang. `slice_of` cuts it into small pieces."""

    async def play(stream):
        await stream.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        raw = b"".join(
            record if isinstance(record, bytes) else json.dumps(record).encode() + b"\n" for record in records
        )
        size = slice_of or max(len(raw), 1)
        for start in range(0, len(raw), size):
            piece = raw[start : start + size]
            await stream.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end == "eof":
            await stream.send(b"0\r\n\r\n")
            return True
        if end == "rst":
            return await rst()(stream)
        if end == "hang":
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()
            if gate:
                gate.set()
        return False

    return play


class Scripted:
    """Answers each path with its script's next reply; the last one is repeated."""

    def __init__(self):
        self.scripts = {}
        self.requests = []
        self.connections = 0
        self.hasty = False
        """Whether it answers before it has read a body."""

    def on(self, method, path, *plays):
        self.scripts[method, path] = list(plays)

    def count(self, method, path):
        return sum((request.method, request.path) == (method, path) for request in self.requests)

    async def handle(self, stream):
        self.connections += 1
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with stream:
                buffer = b""
                while True:
                    while b"\r\n\r\n" not in buffer:
                        buffer += await stream.receive()
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    received = _request(head.decode())
                    size = int(received.headers.get("content-length", 0))
                    while len(buffer) < size and not self.hasty:
                        buffer += await stream.receive()
                    received.body, buffer = buffer[:size], buffer[size:]
                    self.requests.append(received)
                    if not await self._play(received)(stream):
                        return

    def _play(self, received):
        script = self.scripts.get((received.method, received.path))
        if script is None:
            return problem(404, "nothing is scripted here")
        return script.pop(0) if len(script) > 1 else script[0]


def _request(head):
    first, *rest = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(re.split(r":\s*", line.lower() if "uthorization" not in line else line, maxsplit=1) for line in rest)
    return Received(method, path, {name.lower(): value for name, value in headers.items()}, b"")


BROKEN = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\nZZ\r\n"
"""A chunk of no size: the library closes the connection on it, and tells nobody."""


async def refused(call, kind):
    with pytest.raises(kind) as caught:
        await call
    assert type(caught.value) is kind
    return caught.value


@pytest.fixture
def script():
    return Scripted()


@pytest.fixture
async def upstream(script):
    """The base URL of the scripted server."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, script.handle)
        with anyio.fail_after(20):
            yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@pytest.fixture
def time():
    return Time()


@pytest.fixture
async def transport(upstream, time):
    transport = Transport(upstream, client="inferencesh-mcp/9", sleep=time.sleep, random=lambda: 0.5, clock=time.clock)
    yield transport
    await transport.aclose()


@pytest.fixture
def api(transport):
    return Api(transport, KEY)


@pytest.fixture
def free_port():
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
