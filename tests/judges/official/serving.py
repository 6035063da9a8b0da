"""The server over HTTP, as a process of its own."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence


@asynccontextmanager
async def serving(command: Sequence[str], env: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """Start it with `http` for as long as the block; yields the address that it says once it is ready."""
    command = [*command, "http", "--port", "0"]
    async with await anyio.open_process(command, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE) as process:
        assert process.stderr is not None
        output = ""
        while not (match := re.search(r"http://\S+", output)):
            output += (await process.stderr.receive()).decode()
        try:
            yield match[0]
        finally:
            process.terminate()
