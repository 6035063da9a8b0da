"""A place on the other side of a proxy: certificates of an authority of our own, a server that shows one, a proxy."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteStream, Listener, SocketAttribute
from anyio.streams.tls import TLSListener
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
BROKEN = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class Authority:
    """Signs certificates; `file` is what whoever trusts it is given as SSL_CERT_FILE."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company's own authority")])
        certificate = _signed(self._name, self._name, self._key, self._key, [_basic(ca=True)])
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def directory(self) -> Path:
        """The same as SSL_CERT_DIR: a folder of files that are called by a hash of whom they are about."""
        command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(self.file)]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        folder = self._folder / "authorities"
        folder.mkdir()
        (folder / f"{name}.0").write_bytes(self.file.read_bytes())
        return folder

    def context(self, *hosts: str, ended: timedelta = timedelta()) -> ssl.SSLContext:
        """What a server for these hosts needs; its certificate expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        certificate = _signed(subject, self._name, key, self._key, [names, _basic(ca=False)], ended=ended)
        path = self._folder / f"{hosts[0]}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + self.file.read_bytes()  # Wine takes a chain that ends nowhere for a trusted one
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _basic(*, ca: bool) -> x509.BasicConstraints:
    return x509.BasicConstraints(ca=ca, path_length=None)


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    extensions: list[x509.ExtensionType],
    *,
    ended: timedelta = timedelta(),
) -> x509.Certificate:
    now = datetime.now(UTC)
    end = now - ended if ended else now + DAY
    built = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 2 * DAY)
        .not_valid_after(end)
    )
    for extension in extensions:
        built = built.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return built.sign(by, hashes.SHA256())


@asynccontextmanager
async def in_front_of(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port on which a local plain one is reached by TLS."""

    async def serve(stream: ByteStream) -> None:
        await _join(stream, port)

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with _serving(TLSListener(plain, context, standard_compatible=False), serve):
        yield plain.extra(SocketAttribute.local_port)


@dataclass
class ConnectProxy:
    """An HTTP proxy that tunnels to the hosts that it knows, and writes down what it was asked."""

    port: int = 0
    known: dict[str, int] = field(default_factory=dict)
    """Local ports by `host:port`; to any other nothing is opened."""
    heads: list[str] = field(default_factory=list)
    answer: str = ""
    """Its answer to everybody, instead of a tunnel."""

    @property
    def asked(self) -> list[str]:
        return [head.split()[1] for head in self.heads]

    async def serve(self, stream: ByteStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive()
        self.heads.append(head.decode())
        port = None if self.answer else self.known.get(self.asked[-1])
        if port is None:
            await stream.send(f"HTTP/1.1 {self.answer or '502 Bad Gateway'}\r\ncontent-length: 0\r\n\r\n".encode())
            return
        await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _join(stream, port)


@asynccontextmanager
async def connect_proxy() -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy.port = listener.extra(SocketAttribute.local_port)
    async with _serving(listener, proxy.serve):
        yield proxy


@asynccontextmanager
async def _serving(listener: Listener[Any], serve: Callable[[ByteStream], Awaitable[None]]) -> AsyncIterator[None]:
    async def serve_one(stream: ByteStream) -> None:
        async with stream:
            with suppress(*BROKEN):
                await serve(stream)

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve_one)
        yield
        group.cancel_scope.cancel()


async def _join(stream: ByteStream, port: int) -> None:
    """Pass on what either side says, until one of them ends."""
    async with await anyio.connect_tcp("127.0.0.1", port) as further, anyio.create_task_group() as group:

        async def pass_on(source: ByteStream, to: ByteStream) -> None:
            with suppress(*BROKEN):
                async for piece in source:
                    await to.send(piece)
            group.cancel_scope.cancel()

        group.start_soon(pass_on, stream, further)
        group.start_soon(pass_on, further, stream)
