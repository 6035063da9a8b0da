"""Several replicas behind a real nginx, with a real Redis beside them, and the sandbox as what they call."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import anyio
import httpx2

from inferencesh_sandbox import serving
from tests.support.clock import TurnedClock
from tests.support.sandbox import Sandbox

CONFIG = Path(__file__).parents[3] / "manifests" / "nginx.conf"
PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin"
PATIENCE = 10.0  # seconds until a program that was started listens


def program(name: str, package: str) -> str:
    """Where a program is.

    Raises:
        AssertionError: it is not here. A test that is left out would say nothing.
    """
    path = shutil.which(name, path=PROGRAMS)
    assert path, f"{name} is not installed: `apt-get install {package}`"
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listened_on(port: int) -> bool:
    with socket.socket() as listener:
        return listener.connect_ex(("127.0.0.1", port)) == 0


class Replica:
    """One server process, always on the same port."""

    def __init__(self, environ: dict[str, str], log: IO[bytes]) -> None:
        self.port = free_port()
        self._environ, self._log = environ, log
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "inferencesh_mcp", "http", "--port", str(self.port)]
        self.process = _spawned(command, self._log, self._environ)
        await answers(f"http://127.0.0.1:{self.port}/healthz", by=self.process)

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal, wait for its end, and return its code."""
        assert self.process
        self.process.send_signal(number)
        while (code := self.process.poll()) is None:
            await anyio.sleep(0.01)
        return code

    def close(self) -> None:
        if self.process:
            _end(self.process)


@dataclass(frozen=True)
class Cluster:
    url: str
    """Where the proxy is."""
    replicas: list[Replica]
    sandbox: Sandbox
    clock: TurnedClock
    """Of the sandbox: its runs take as long as a test says."""
    upstream: str
    folder: Path
    """With what each process wrote, in `*.log`."""
    proxy: Nginx

    async def take_out(self, replica: Replica) -> None:
        """Have the proxy send nothing more to a replica: what the pause before its end is for."""
        await self.proxy.serve([item.port for item in self.replicas if item is not replica])

    async def put_back(self) -> None:
        await self.proxy.serve([replica.port for replica in self.replicas])

    def written(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("*.log")))


@asynccontextmanager
async def running(folder: Path, *, replicas: int, **settings: str) -> AsyncIterator[Cluster]:
    """All of it, for as long as the block."""
    async with AsyncExitStack() as stack:
        clock = TurnedClock()
        sandbox = Sandbox(clock)
        upstream = await stack.enter_async_context(serving(sandbox))
        redis = stack.enter_context(Redis(folder).running())
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "INFERENCE_BASE_URL": upstream,
            "INFERENCE_LOG_LEVEL": "INFO",
            "INFERENCE_TRUSTED_PROXIES": "127.0.0.1",
            "INFERENCE_STATE_KEYS": secrets.token_hex(32),
            "INFERENCE_REDIS_URL": redis,
            **settings,
        }
        started = []
        for number in range(replicas):
            log = stack.enter_context((folder / f"replica-{number}.log").open("wb"))
            started.append(Replica(environ, log))
            stack.callback(started[-1].close)
        async with anyio.create_task_group() as group:
            for replica in started:
                group.start_soon(replica.start)
        proxy = Nginx(folder)
        url = stack.enter_context(proxy.running([replica.port for replica in started]))
        await answers(f"{url}/healthz")
        yield Cluster(url, started, sandbox, clock, upstream, folder, proxy)


class Redis:
    """A real one, always on the same port, that keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    @contextmanager
    def running(self) -> Iterator[str]:
        path = program("redis-server", "redis-server")
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        with _process([path, *options], self._folder / "redis.log"):
            end = time.monotonic() + PATIENCE
            while not listened_on(self._port):
                assert time.monotonic() < end, "redis-server does not listen"
                time.sleep(0.01)
            yield self.url


class Nginx:
    """The one of `manifests/`, with these replicas for its own, and everything of it in the folder."""

    WORKERS = 2

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._config, self._log = folder / "nginx.conf", folder / "nginx.log"
        self._master: subprocess.Popen[bytes] | None = None
        self._reloads = 0

    @contextmanager
    def running(self, ports: list[int]) -> Iterator[str]:
        self._write(ports)
        command = [program("nginx", "nginx-light"), "-c", str(self._config), "-e", "stderr", "-g", "daemon off;"]
        with _process(command, self._log) as self._master:
            yield f"http://127.0.0.1:{self._port}"

    async def serve(self, ports: list[int]) -> None:
        """Read the configuration anew. Who is being served stays with the workers of before, which take nobody in then."""
        assert self._master
        self._write(ports)
        self._master.send_signal(signal.SIGHUP)
        self._reloads += 1
        with anyio.fail_after(PATIENCE):
            while self._log.read_bytes().count(b"gracefully shutting down") < self._reloads * self.WORKERS:
                await anyio.sleep(0.01)

    def _write(self, ports: list[int]) -> None:
        lines = CONFIG.read_text("utf-8").splitlines()
        first = next(number for number, line in enumerate(lines) if "server-1:8000" in line)
        changed_line = lines[first]
        lines[first:] = [
            *(changed_line.replace("server-1:8000", f"127.0.0.1:{to}") for to in ports),
            *(line for line in lines[first + 1 :] if not re.match(r"\s+server server-\d", line)),
        ]
        text = "\n".join(lines)
        for as_shipped, here in (
            ("/tmp/", f"{self._folder}/"),
            ("listen 8080;", f"listen 127.0.0.1:{self._port};"),
            ("worker_processes auto;", f"worker_processes {self.WORKERS};"),
            ("error_log stderr warn;", "error_log stderr notice;"),
        ):
            assert as_shipped in text
            text = text.replace(as_shipped, here)
        self._config.write_text(text, "utf-8")


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = _spawned(command, out)
        try:
            yield process
        finally:
            _end(process)


def _spawned(command: list[str], log: IO[bytes], environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def answers(url: str, *, by: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until somebody answers there."""
    async with httpx2.AsyncClient(timeout=5) as http:
        with anyio.fail_after(20):
            while True:
                try:
                    if (await http.get(url)).status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                assert by is None or by.poll() is None, "it has ended instead of starting"
                await anyio.sleep(0.05)
