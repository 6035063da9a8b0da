"""Build the image from its Dockerfile, and run it as its README says: `python -m tests.package.image`.

Podman builds and runs it. The base is made of Debian's packages, because CI reaches no registry of images. It is made once, in the
folder IMAGE_DIR. Root installs the programs of PROGRAMS where they are missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run
from typing import Any

import anyio
import anyio.to_thread
import httpx2
from anyio.abc import Process
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from inferencesh_mcp import __version__
from inferencesh_mcp.http import tokens
from inferencesh_sandbox import Sandbox, serving
from tests import programs
from tests.conftest import KEY, MODES, until
from tests.judges.official.checks import Checks

ROOT = Path(__file__).parents[2]
CACHE = Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"
FOLDER = Path(os.environ.get("IMAGE_DIR") or CACHE / "inferencesh-mcp" / "image")
PROGRAMS = (
    "podman",
    "runc",
    "mmdebstrap",
    *(() if os.geteuid() == 0 else ("newuidmap", "slirp4netns", "fuse-overlayfs")),
)
BASE_RECIPE = (
    "mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io",
    "--include=python3,python3-venv,python3-pip", "bookworm",
)  # fmt: skip
"""The Debian of the Dockerfile's own base, with its Python 3.11."""
NAME = f"localhost/inferencesh-mcp-judged-{os.getpid()}"
BASE = f"{NAME}-base"
USER = 10001
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--cap-drop=ALL")
"""What the README tells people to use. Podman's own extra folders in memory are left out."""
PODMAN = ("podman", "--log-level=fatal")
"""Without systemd, Podman says at each start that it has no timer for the health check."""
RUN = (
    "run", "--rm", "--runtime=runc", "--security-opt=no-new-privileges",
    "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",  # the default is more than a container on a container may set
)  # fmt: skip
LIMIT = 90.0
"""Seconds of one check: they take five alone, and start up to four containers beside other work."""
STOPPED = 143
LONG = {"seconds": 60, "steps": 60}
NOT_SHOWN = (
    "the pinned base of the Dockerfile: this one is Debian's, with Debian's Python",
    "Docker's own builder and runtime: Podman with runc stands in for them",
    "the timer of the health check: its command is run instead",
    "Kubernetes and Compose: `make package` judges their manifests, nothing runs them",
)


class Failed(Exception):
    """A command did not do what it should; its text is what it wrote."""


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report is the product


def podman(*arguments: str, code: int = 0, seconds: float = 60) -> str:
    """Run Podman and return what it wrote.

    Raises:
        Failed: it ended with another code than `code`.
    """
    ended = run([*PODMAN, *arguments], cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, timeout=seconds,
                check=False, text=True)  # fmt: skip
    if ended.returncode != code:
        raise Failed(f"podman {' '.join(arguments)}\nexit code {ended.returncode}, not {code}\n{ended.stdout[-3000:]}")
    return ended.stdout


def install_programs() -> str | None:
    """Root installs what is missing; for others, one sentence about it."""
    missing = programs.main(list(PROGRAMS))
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"Installing {' '.join(PROGRAMS)}")
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=environ, check=True)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PROGRAMS]
        run(install, env=environ, check=True, stdout=DEVNULL, stderr=DEVNULL)
        missing = programs.main(list(PROGRAMS))
    return missing


def make_base() -> Path:
    """An archive of the base's files; made anew where its recipe has changed."""
    archive = FOLDER / f"base-{sha256(' '.join(BASE_RECIPE).encode()).hexdigest()[:12]}.tar"
    if not archive.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            made = Path(scratch) / "base.tar"
            ended = run([*BASE_RECIPE, made], stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, check=False, text=True)
            if ended.returncode:
                raise Failed(f"{' '.join(BASE_RECIPE)}\n{ended.stdout[-3000:]}")
            for old in FOLDER.glob("base-*.tar"):
                old.unlink()
            made.rename(archive)
    return archive


def why_no_container_starts() -> str:
    """What the machine says to the smallest container; empty if it starts. A machine in a container may allow none."""
    try:
        podman("import", str(make_base()), BASE)
        podman(*RUN, *HARDENED, BASE, "true")
    except Failed as exc:
        return str(exc)
    finally:
        run([*PODMAN, "rmi", "--force", BASE], stdout=DEVNULL, stderr=DEVNULL, check=False)
    return ""


@contextmanager
def built() -> Iterator[None]:
    """The image NAME, for as long as the block; nothing of it stays."""
    try:
        podman("import", str(make_base()), BASE)
        podman(
            "build", "--format=docker", "--layers=false", "--runtime=runc", "--network=host",
            "--volume=/etc/ssl/certs:/etc/ssl/certs:ro", f"--build-arg=BASE={BASE}", f"--tag={NAME}", ".", seconds=600,
        )  # fmt: skip
        yield
    finally:
        run([*PODMAN, "rmi", "--force", NAME, BASE], stdout=DEVNULL, stderr=DEVNULL, check=False)


def look_inside() -> None:
    """Its user, what that user may do, which packages are there, and that they are compiled."""
    program = """
import importlib.metadata, json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
capabilities = [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
writable = [folder for folder, _, _ in os.walk("/") if not folder.startswith("/proc") and os.access(folder, os.W_OK)]
packages = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
files = [name for _, _, names in os.walk("/opt/inferencesh") for name in names]
source, compiled = (len([name for name in files if name.endswith(end)]) for end in (".py", ".pyc"))
print(json.dumps([os.getuid(), os.getgid(), capabilities, writable, packages, source, compiled]))
"""
    printed = podman(*RUN, *HARDENED, "--network=none", "--entrypoint=python", NAME, "-c", program)
    uid, gid, capabilities, writable, packages, source, compiled = json.loads(printed)
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = {
        name.replace("_", "-"): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE)
    }

    assert (USER, USER) == (uid, gid)
    assert ["0" * 16] * 5 == capabilities
    assert {"/tmp", "/dev/shm", "/dev/mqueue"} == set(writable), writable
    assert __version__ == packages.pop("inferencesh-mcp")
    assert packages.items() <= locked.items(), packages.items() - locked.items()
    assert not packages.keys() & {"pytest", "mypy", "ruff", "pip", "hatchling", "rich"}, "tools for developing"
    assert source == compiled, "something is left to compile at the start"


def say_version() -> None:
    assert f"inferencesh-mcp {__version__}\n" == podman(*RUN, *HARDENED, "--network=none", NAME, "--version")


def refuse_root() -> None:
    for way in (["--sandbox"], ["--sandbox", "http"]):
        printed = podman(*RUN, *HARDENED, "--network=none", "--user=0", NAME, *way, code=2)
        assert "must not run as root" in printed, printed


def write_nothing() -> None:
    """On a root that could be written to, nothing is: Podman lists what differs from the image."""
    container = f"{Path(NAME).name}-diff"
    arguments = [argument for argument in RUN if argument != "--rm"]
    try:
        printed = podman(
            *arguments, "--tmpfs=/tmp", "--network=none", "--passwd=false", f"--name={container}", NAME, "demo"
        )
        assert "Nothing was sent anywhere" in printed, printed
        changed = set(podman("diff", container).splitlines())
    finally:
        podman("rm", "--force", container)
    assert not changed - {"C /etc", "A /etc/mtab"}, f"{changed}, of which Podman itself makes /etc/mtab"


async def draw(client: Client) -> None:
    """List the tools, and run an app that answers with a picture."""
    assert "app_run" in [tool.name for tool in (await client.list_tools()).tools]
    request = {"app": "sandbox/draw", "input": {"prompt": "a red kite", "width": 64, "height": 48}}
    result = await client.call_tool("app_run", request)
    assert "completed" == (result.structured_content or {})["status"], result
    assert "image" in [block.type for block in result.content], result


async def serve_stdio() -> None:
    """Without any network, in both eras."""
    for mode in MODES.values():
        name = f"{Path(NAME).name}-stdio-{mode}"
        command = [*PODMAN[1:], *RUN, *HARDENED, "--network=none", "--interactive", f"--name={name}", NAME, "--sandbox"]
        server = StdioServerParameters(command=PODMAN[0], args=command, env=dict(os.environ))
        async with Client(stdio_client(server), mode=mode) as client:
            await draw(client)
            check_health(name)


def check_health(container: str) -> None:
    """Run the image's own HEALTHCHECK once: here is no systemd, which would run it for Podman."""
    podman("healthcheck", "run", container)


@dataclass
class Served:
    """A container that serves HTTP."""

    name: str
    url: str
    http: httpx2.AsyncClient
    process: Process
    log: Path

    @asynccontextmanager
    async def client(self, mode: str) -> AsyncIterator[Client]:
        async with Client(streamable_http_client(self.url, http_client=self.http), mode=mode) as client:
            yield client

    async def stop(self) -> int:
        """Stop it as the README says, with its time to hand runs over; its exit code."""
        await anyio.to_thread.run_sync(podman, "stop", "--time=20", self.name)
        return await self.process.wait()


@asynccontextmanager
async def served(name: str, token: str, options: list[str], command: list[str]) -> AsyncIterator[Served]:
    """A container that serves HTTP, once it accepts calls."""
    name = f"{Path(NAME).name}-{name}"
    with tempfile.NamedTemporaryFile("w+") as log:
        process = await anyio.open_process(
            [*PODMAN, *RUN, *HARDENED, f"--name={name}", *options, NAME, *command],
            stdin=DEVNULL, stdout=log, stderr=STDOUT,
        )  # fmt: skip
        try:
            await until(lambda: process.returncode is not None or "/mcp\n" in Path(log.name).read_text("utf-8"))
            written = Path(log.name).read_text("utf-8")
            address = re.search(r"http://\S+/mcp", written)
            if not address:
                raise Failed(written)
            url = address[0]
            if "--network=host" not in options:
                url = f"http://{podman('port', name, '8000').strip()}/mcp"
            headers = {"authorization": f"Bearer {token}"}
            async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
                yield Served(name, url, http, process, Path(log.name))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(podman, "rm", "--force", "--ignore", name)
                await process.wait()


async def serve_http() -> None:
    """On every address of a network of its own, with a published port, for a caller with a token."""
    token = tokens.mint()
    options = [
        "--publish=127.0.0.1::8000", "--env=INFERENCE_HTTP_AUTH=tokens", f"--env=INFERENCE_HTTP_TOKENS={tokens.line('ada', token)}",
        "--env=INFERENCE_ALLOWED_HOSTS=mcp.example.com",
    ]  # fmt: skip
    async with served("http", token, options, ["--sandbox", "http", "--host", "0.0.0.0"]) as server:
        check_health(server.name)
        for page in ("/healthz", "/readyz"):
            assert 200 == (await server.http.get(server.url.replace("/mcp", page))).status_code
        assert 401 == (await server.http.post(server.url, headers={"authorization": "Bearer other"})).status_code
        for mode in MODES.values():
            async with server.client(mode) as client:
                await draw(client)
        podman("kill", "--signal=STOP", server.name)
        podman("healthcheck", "run", server.name, code=1)  # nobody answers: the check can fail
        podman("kill", "--signal=CONT", server.name)
        assert STOPPED == await server.stop()


async def hand_over() -> None:
    """A stop in the middle of two runs: each caller has its task's id, nothing is cancelled. The sandbox is outside, to be asked."""
    sandbox = Sandbox()
    answers: list[dict[str, Any]] = []
    async with serving(sandbox) as upstream:
        options = ["--network=host", f"--env=INFERENCE_BASE_URL={upstream}", "--env=INFERENCE_WAIT_SECONDS=50"]
        async with served("stop", KEY, options, ["http", "--port", "0"]) as server, anyio.create_task_group() as group:

            async def follow(mode: str) -> None:
                async with server.client(mode) as client:
                    await client.list_tools()  # as hosts do; otherwise this SDK asks for them after the answer
                    result = await client.call_tool("app_run", {"app": "sandbox/slow", "input": LONG})
                    answers.append(result.structured_content or {})

            for mode in MODES.values():
                group.start_soon(follow, mode)
            await until(lambda: len(sandbox.ledger.requests("GET", "/tasks/*/stream")) == len(MODES))
            code = await server.stop()
            log = server.log.read_text("utf-8")

    started = {start.task_id for start in sandbox.ledger.starts}
    assert STOPPED == code, log
    assert len(MODES) == len(started)
    assert started == {answer["task_id"] for answer in answers}, answers
    assert all("task_get" in answer["next"] for answer in answers), answers
    assert () == sandbox.ledger.cancels
    assert all(task in log for task in started), log
    assert "Traceback" not in log
    assert KEY not in log


async def judge(checks: Checks) -> None:
    async def check(name: str, step: Any) -> None:
        async def flow() -> None:
            step()

        await checks.check(f"image: {name}", flow, LIMIT)

    await check("its version", say_version)
    await check("its user may write to /tmp alone, without a capability; its packages are the lock's", look_inside)
    await check("it does not start as root", refuse_root)
    await check("it writes nothing outside /tmp", write_nothing)
    await checks.check("image: stdio, without a network: tools, a picture, the health check", serve_stdio, LIMIT)
    await checks.check("image: http, published: a token, a picture, the health check, exit code 143", serve_http, LIMIT)
    await checks.check("image: http: a stop hands over two runs and cancels none", hand_over, LIMIT)


def main() -> int | str:
    if missing := install_programs():
        return missing
    if reason := why_no_container_starts():
        say(f"# The image is not judged: this machine starts no container.\n{reason}")
        return 0
    began = time.monotonic()
    checks = Checks()
    try:
        with built():
            checks.success(f"image: podman builds the Dockerfile ({time.monotonic() - began:.0f} s)")
            anyio.run(judge, checks)
    except Failed as exc:
        checks.failure("image: podman builds the Dockerfile", str(exc))
    for subject in NOT_SHOWN:
        say(f"# not shown - {subject}")
    return checks.close()


if __name__ == "__main__":
    sys.exit(main())
