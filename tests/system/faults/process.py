"""The server as a process with a pipe at either end, spoken to in plain lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process

from tests.conftest import on_stdio, until
from tests.support.systems import OWN_CONSOLE

HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "plain", "version": "1"},
}


@dataclass
class Piped:
    process: Process
    log: Path
    lines: list[bytes] = field(default_factory=list)
    """What came out on stdout, line by line."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The same as JSON, strictly: NaN and the like are none."""
        return [json.loads(line, parse_constant=_refused) for line in self.lines]

    async def send(self, *messages: dict[str, Any] | bytes) -> None:
        assert self.process.stdin
        for message in messages:
            raw = message if isinstance(message, bytes) else json.dumps({"jsonrpc": "2.0", **message}).encode()
            await self.process.stdin.send(raw + b"\n")

    async def run(self, number: Any, app: str, *, meta: dict[str, Any] | None = None, **input_: Any) -> None:
        arguments = {"app": f"sandbox/{app}", "input": input_}
        meta = {"progressToken": f"p{number}", **(meta or {})}
        await self.send(
            {
                "id": number,
                "method": "tools/call",
                "params": {"name": "app_run", "arguments": arguments, "_meta": meta},
            }
        )

    def answers(self, number: Any) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("id") == number]

    async def answered(self, number: Any) -> dict[str, Any]:
        await until(lambda: self.answers(number))
        return self.answers(number)[0]

    async def greet(self) -> None:
        await self.send({"id": "hello", "method": "initialize", "params": HELLO})
        await self.answered("hello")
        await self.send({"method": "notifications/initialized"})

    async def close(self) -> None:
        """End its input, as a host does that goes."""
        assert self.process.stdin
        await self.process.stdin.aclose()

    async def over(self, within: float = 10.0) -> int:
        """Wait for its end and return its exit code."""
        with anyio.fail_after(within):
            return await self.process.wait()

    async def reads(self) -> None:
        """Read stdout to its end: what a host does all the time."""
        assert self.process.stdout
        rest = b""
        async for chunk in self.process.stdout:
            *complete, rest = (rest + chunk).split(b"\n")
            self.lines += complete


LIMIT = 50.0
"""Seconds after which a test with a process of its own has failed: below the limit of every test."""


@asynccontextmanager
async def piped(
    environ: dict[str, str],
    log: Path,
    *,
    reading: bool = True,
    arguments: tuple[str, ...] = (),
    stdout: int = subprocess.PIPE,
    stderr: int | None = None,
    command: tuple[str, ...] = (),
) -> AsyncIterator[Piped]:
    """Start a server, or Python with these arguments, by a `command` if there is one; it is killed with the block if it
    has not ended. What it writes to stderr is in `log`, unless there is another `stderr`.
    """
    parameters = on_stdio(environ)
    with log.open("wb") as logged:
        process = await anyio.open_process(
            [*command, parameters.command, *(arguments or parameters.args)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=logged if stderr is None else stderr,
            env=parameters.env,
            creationflags=OWN_CONSOLE,
        )
    async with process, anyio.create_task_group() as group:
        pipe = Piped(process, log)
        if reading:
            group.start_soon(pipe.reads)
        try:
            with anyio.fail_after(LIMIT):  # a test that is broken off from outside would leave the process behind
                yield pipe
        finally:
            if process.returncode is None:
                process.kill()
            group.cancel_scope.cancel()


def _refused(constant: str) -> None:
    raise ValueError(constant)
