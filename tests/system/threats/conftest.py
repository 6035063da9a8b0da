"""What an attacker would like to reach, wired so that reaching it is seen."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

_opened: list[str] | None = None


@dataclass
class Tripwire:
    """A service on this machine that is nobody's business."""

    port: int = 0
    touched: list[bytes] = field(default_factory=list)
    """What each connection said; even one that said nothing is in here."""


@pytest.fixture
async def tripwire() -> AsyncIterator[Tripwire]:
    wire = Tripwire()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(wire.touched)
        wire.touched.append(b"")
        with contextlib.suppress(OSError):
            wire.touched[place] = await reader.read(4096)
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    yield wire
    server.close()


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event in {"open", "os.listdir", "os.scandir", "os.mkdir", "os.link", "os.rename"}:
        _opened.append(str(arguments[0]))


sys.addaudithook(_hear)  # for good: Python has no way to take one back


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every path that this process opens or lists, by whatever call of Python's."""
    global _opened  # noqa: PLW0603 - the hook cannot be handed anything
    _opened = []
    yield _opened
    _opened = None
