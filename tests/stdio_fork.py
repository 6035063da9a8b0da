"""A server process for each test, without the second of CPU that every one spent on the same imports.

Three hundred starts, nearly all of it imports, were half of what the tests cost. So one process, the zygote, imports
what a start imports and does nothing else: it has no thread, event loop or open file, and builds nothing. A server is
a fork of it with the descriptors, arguments, folder and environment of a launcher, which the SDK's client starts like
any server; from `main` on, it is a fresh process. (`multiprocessing` has such a process too, but what it forks has no
stdin, and is spoken to in pickles.)

The fixture `fresh` is for tests whose subject is the process; TEST_STDIO_START=fresh is the same for all.
"""

from __future__ import annotations

import functools
import gc
import marshal
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

IMPORTED = (
    "inferencesh_mcp.cli", "inferencesh_mcp.logs", "inferencesh_mcp.stdio", "inferencesh_mcp.server",
    "anyio._backends._asyncio", "inferencesh_mcp.api.http_client", "httpcore2", "inferencesh_mcp.flows.upload", "inferencesh_mcp.schema.validate",
)  # fmt: skip
"""By every start on stdio; the last four, by nearly every first call."""
LAUNCHER = """
import marshal, os, signal, socket, sys
zygote = socket.socket(socket.AF_UNIX)
zygote.connect(sys.argv[1])
socket.send_fds(zygote, [b"-"], [0, 1, 2])
zygote.sendall(marshal.dumps((sys.argv[2:], os.getcwd(), dict(os.environ))))
for kind in (signal.SIGINT, signal.SIGTERM):
    signal.signal(kind, lambda kind, _: zygote.sendall(bytes([kind])))
os.closerange(0, 3)  # whoever is at their other ends deals with the server alone
os._exit(zygote.recv(1)[0])
"""
ended = ExitStack()
"""Closed when the tests are over: the zygote ends, if there is one."""


def command(*arguments: str) -> list[str]:
    """What a host starts for a server on stdio, with these arguments."""
    if sys.platform == "win32" or os.environ.get("TEST_STDIO_START") == "fresh":
        return [sys.executable, "-m", "inferencesh_mcp", *arguments]
    return [sys.executable, "-I", "-S", "-c", LAUNCHER, _zygote(), *arguments]


@functools.cache
def _zygote() -> str:
    """The address of this process's own, which is started the first time."""
    address = f"{ended.enter_context(tempfile.TemporaryDirectory())}/zygote"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        # Pipes, as the servers have them. When its stdin ends, if only because this process was killed, so does it.
        ended.enter_context(subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())], pass_fds=[listener.fileno()],
            cwd=Path(__file__).parents[1], env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        ))  # fmt: skip
    return address


def _serve(listener: socket.socket) -> None:
    """Fork a server for each launcher. Returns in the servers alone."""
    while listener in select.select([listener, 0], [], [])[0]:
        launcher, _ = listener.accept()
        if not os.fork():
            listener.close()
            return _watch(launcher)
        launcher.close()
    with suppress(ChildProcessError):
        while os.wait():  # what they used counts as used by the tests
            pass
    sys.exit()


def _watch(launcher: socket.socket) -> None:
    """Fork once more, to be the parent that passes on signals and the end. Returns in the server alone."""
    _, descriptors, _, _ = socket.recv_fds(launcher, 1, 3)
    commands = launcher.makefile("rb")
    arguments, folder, environ = marshal.load(commands)
    if server := os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        threading.Thread(target=_pass_on, args=(commands, server), daemon=True).start()
        code = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
        with suppress(OSError):  # the launcher was killed
            launcher.sendall(bytes([code & 255]))
        os._exit(0)
    commands.close()
    launcher.close()
    for descriptor, mine in zip(descriptors, (0, 1, 2), strict=True):
        os.dup2(descriptor, mine)
        os.close(descriptor)
    # Python's own streams remember whether what they were opened on could seek: a file of pytest's can, a pipe cannot.
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.setsid()  # as the SDK has it
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[0], sys.argv[1:] = folder, arguments


def _pass_on(commands: BinaryIO, server: int) -> None:
    """A launcher's signals; and if it was killed, that."""
    with suppress(ProcessLookupError):
        while kind := commands.read(1):
            os.kill(server, kind[0])
        os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    gc.disable()  # as `main` does before it imports
    for name in IMPORTED:
        import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("inferencesh_mcp", run_name="__main__", alter_sys=True)
